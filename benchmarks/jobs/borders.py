"""How much the frames of a segment that was made for itself differ from those of a run in one piece.

    python -m benchmarks.jobs.borders CLIP ... [--engine rtface-s] [--length 2.5] [--alone] [--correct always]

Every segment is made by a worker of its own, in order (the segment before is finished: a job that continues), or with
`--alone` from the last to the first (no segment before is finished: many workers at once). Both films are lossless;
compared are the samples of the corrected frames, all planes together, behind the first border.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

EQUAL_DB = 99.0
"""Figure of frames that do not differ."""


def main() -> None:
    """Measures, and prints a line of JSON for each clip."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--engine", default="rtface-s")
    parser.add_argument("--length", default="2.5")
    parser.add_argument("--correct", default="auto")
    parser.add_argument("--alone", action="store_true")
    asked = parser.parse_args()
    every: list[float] = []
    for clip in asked.clips:
        found = differences(clip, asked.engine, asked.correct, Fraction(asked.length), alone=asked.alone)
        every += found
        print(json.dumps({"clip": clip.stem, **figures(found)}), flush=True)
    print(json.dumps({"clip": "all", **figures(every)}))


def figures(found: list[float]) -> dict[str, float]:
    """Mean, 5th percentile and least of PSNRs, and how many there are."""
    if not found:
        return {"frames": 0}
    return {
        "frames": len(found),
        "mean": round(float(np.mean(found)), 1),
        "p5": round(float(np.percentile(found, 5)), 1),
        "worst": round(min(found), 1),
    }


def differences(clip: Path, engine: str, correct: str, length: Fraction, *, alone: bool) -> list[float]:
    """PSNR in dB of every corrected frame of the job to that of one piece, behind the first border."""
    from rtface.config.options import Options
    from rtface.jobs import FilmJob
    from rtface.jobs.worker import Worker
    from rtface.pipeline.film import run_file

    options = Options(engine=engine, codec="ffv1", device="cpu", correct=correct)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as name:
        one, other = Path(name) / "one.mkv", Path(name) / "job.mkv"
        run_file(clip, one, options)
        job = FilmJob.open(clip, other, options, length=length)
        if isinstance(job, str):
            raise SystemExit(f"{clip}: {job}")
        numbers = range(len(job.plan))
        for number in reversed(numbers) if alone else numbers:
            with Worker(job.folder, job.plan) as worker:
                worker.make(number)
        job.run()
        behind = sum(job.plan.frames[:1])
        return [
            psnr(a, b)
            for k, (source, a, b) in enumerate(zip(planes(clip), planes(one), planes(other), strict=True))
            if k >= behind and not (np.array_equal(source, a) and np.array_equal(source, b))
        ]


def planes(path: Path) -> Iterator[NDArray[np.uint8]]:
    """The samples of each frame of a film of 8 bits."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray().astype(np.uint8, copy=False).ravel()


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Of two frames, dB; `EQUAL_DB` where they do not differ."""
    error = float(np.mean(np.square(a.astype(np.int16) - b, dtype=np.float64)))
    return EQUAL_DB if error == 0 else float(10 * np.log10(255**2 / error))


if __name__ == "__main__":
    main()
