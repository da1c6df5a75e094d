"""Figures of the looks on published clips, beside the outputs that were published with them.

``python -m training.evaluation.published_clips DIR --json FILE`` reads ``DIR/NAME/LQ.mp4`` (the input), ``GT.mp4`` (the
truth) and any further outputs, such as the ``static/videos/compare`` of a paper's page. rtface runs on LQ.mp4 with its
defaults but for grain. Measured as by `training.evaluation.measure`, after one affine RGB map a clip and source, on 60
frames at most; a published film that begins some frames earlier or later is moved to where it fits the truth best.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import cv2
import numpy as np

import rtface
from training.crop_space import F32, U8
from training.evaluation.clip_protocols import decoded, watch
from training.evaluation.crop_scores import Judge
from training.evaluation.film_protocols import Shot
from training.evaluation.measure import Row, Ruler, compared, mean_and_worst

LOOKS = ("faithful", "clear", "vivid")
FRAMES, LAG, EVERY = 60, 4, 10
SHOWN = ("gain", "found0", "energy0", "flicker", "distance_ratio")


def thumbnail(frame: U8) -> F32:
    """The luma at 128×128, less its mean."""
    small = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (128, 128), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) - np.float32(small.mean())


def lag_of(frames: list[U8], truth: list[U8]) -> int:
    """How many frames later the same moment comes than in the truth."""
    seen, clean = [thumbnail(f) for f in frames], [thumbnail(f) for f in truth]
    inside = range(LAG, min(len(clean), len(seen)) - LAG)
    return min(
        range(-LAG, LAG + 1), key=lambda lag: np.mean([np.square(seen[k + lag] - clean[k]).mean() for k in inside])
    )


def moved(frames: list[U8], lag: int, count: int) -> list[U8]:
    """As many frames, from the lag on; the first and the last are repeated."""
    return [frames[min(max(k + lag, 0), len(frames) - 1)] for k in range(count)]


def measured(folder: Path, judge: Judge, scratch: Path) -> dict[str, Row]:
    """The rows of one clip."""
    clip = watch(folder / "GT.mp4", FRAMES)
    count = len(clip.clean)
    source = list(decoded(folder / "LQ.mp4"))
    lag = lag_of(source, clip.clean)
    ruler = Ruler(Shot(clip.clean, [], clip.matrices), 6, count - 5, EVERY, judge, sharp=True)
    films = {"input": moved(source, lag, count)}
    for look in LOOKS:
        rtface.run(folder / "LQ.mp4", scratch / "out.mkv", look=look, grain="none", codec="ffv1", overwrite=True)
        films[look] = moved(list(decoded(scratch / "out.mkv")), lag, count)
    for path in sorted(folder.glob("*.mp4")):
        if path.stem not in ("LQ", "GT"):
            frames = list(decoded(path))
            films[path.stem] = moved(frames, lag_of(frames, clip.clean), count)
    rows = {name: ruler.row(ruler.seen(frames)) for name, frames in films.items()}
    return compared({"truth": ruler.truth(), **rows})


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    judge, clips = Judge(), dict[str, dict[str, Row]]()
    with tempfile.TemporaryDirectory() as scratch:
        for folder in sorted(path.parent for path in asked.clips.glob("*/GT.mp4")):
            clips[folder.name] = measured(folder, judge, Path(scratch))
            print(
                folder.name, {name: round(row["gain"], 2) for name, row in clips[folder.name].items() if "gain" in row}
            )
    for name in next(iter(clips.values())):
        mean, _ = mean_and_worst([rows[name] for rows in clips.values() if name in rows])
        print(name, {key: round(mean[key], 3) for key in SHOWN if key in mean})
    if asked.json:
        asked.json.write_text(json.dumps(clips, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
