"""How much fine detail a face keeps: out/in of the finest octave, and how often a face's correction is switched.

    python -m benchmarks.detail CLIP... [--seconds 10] [--engine NAME] [--correct auto|always|never]

Every clip is run twice with the same encoder, once with `--strength 0`; the ratio is that of the two outputs, so what
the encoder alone loses is left out. The finest octave is the luma less its own half-size version, in the core of every
face (eyes to mouth), on the picture's own grid; the ratio is of its standard deviation, frame by frame.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

import rtface
from rtface.device.cpu.device import CpuDevice
from rtface.frame import Face, Float32, Frame
from rtface.media.read.source import FileSource
from rtface.pipeline.chain import track
from rtface.stats import Stats
from rtface.tracking import create_tracker

_CORE = 0.9  # of a face's width, as the analysis looks at it


def faces_of(path: Path, end: float) -> list[tuple[Face, ...]]:
    """The faces of every frame of a clip."""
    stats, device = Stats(), CpuDevice()
    tracker = create_tracker("auto")
    source = FileSource(path, end=end, stats=stats)
    try:
        return [item.faces for item in track(iter(source), tracker, device, stats) if isinstance(item, Frame)]
    finally:
        source.close()
        tracker.close()


def fine(luma: Float32, face: Face) -> float:
    """Standard deviation of the finest octave in a face's core, code values of 255."""
    x, y = face.points.mean(axis=0)
    half = _CORE * face.width / 2
    x0, y0 = max(0, round(x - half)), max(0, round(y - half))
    part = luma[y0 : round(y + half), x0 : round(x + half)]
    if min(part.shape) < 16:
        return 0.0
    height, width = part.shape
    coarse = cv2.resize(part, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return float((part - cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)).std())


def details(path: Path, faces: list[tuple[Face, ...]]) -> list[list[float]]:
    """`fine` of every face of every frame."""
    with av.open(str(path)) as container:
        return [
            [fine(np.asarray(image.to_ndarray(format="gray"), np.float32), face) for face in seen]
            for image, seen in zip(container.decode(video=0), faces, strict=False)
        ]


def measure(clip: Path, seconds: float, options: dict[str, Any]) -> dict[str, Any]:
    """The figures of one clip."""
    faces = faces_of(clip, seconds)
    with tempfile.TemporaryDirectory() as folder:
        enhanced, plain = Path(folder) / "enhanced.mkv", Path(folder) / "plain.mkv"
        report = rtface.run(clip, enhanced, end=seconds, **options)
        rtface.run(clip, plain, end=seconds, **(options | {"strength": 0.0}))
        pairs = zip(details(enhanced, faces), details(plain, faces), strict=True)
        ratios = np.array([a / b for after, before in pairs for a, b in zip(after, before, strict=True) if b > 0.0])
    low, middle, high = np.percentile(ratios, (5, 50, 95)) if ratios.size else (1.0, 1.0, 1.0)
    return {
        "clip": clip.name,
        "frames": report.frames_out,
        "with_faces": report.frames_with_faces,
        "corrected": report.frames_corrected,
        "changes": sum(max(0, len(t.spans) - 1) for t in report.tracks),
        "detail": {
            "mean": round(float(ratios.mean()), 3) if ratios.size else 1.0,
            "p5": round(float(low), 3),
            "p50": round(float(middle), 3),
            "p95": round(float(high), 3),
        },
    }


def main() -> None:
    """Measures and prints one line a clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--engine", default="default")
    parser.add_argument("--correct", choices=("auto", "always", "never"))
    parser.add_argument("--threads", type=int)
    asked = parser.parse_args()
    options = {k: getattr(asked, k) for k in ("engine", "correct", "threads") if getattr(asked, k) is not None}
    print(f"{'clip':40} frames faces corrected changes  fine detail out/in: mean   p5   p50   p95")
    for clip in asked.clips:
        found = measure(clip, asked.seconds, options)
        detail = found["detail"]
        print(
            f"{found['clip'][:40]:40} {found['frames']:6d} {found['with_faces']:5d} {found['corrected']:9d} "
            f"{found['changes']:7d} {detail['mean']:25.3f} "
            f"{detail['p5']:.3f} {detail['p50']:.3f} {detail['p95']:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
