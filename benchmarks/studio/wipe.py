"""Time that the studio takes to render a frame before and after, at random times of a film.

    python -m benchmarks.studio.wipe FILM [--count 60] [--engine default] [--side 1280]

Prints JSON: wall time of a jump to another time, of another strength at the same time (nothing is read then), and of
steps to the next frame and to the one before, in milliseconds at the 50th, 95th and 99th percentile; and peak memory
before and after, in MB.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np

from rtface.config.options import Options
from rtface.media.read.source import FileSource
from rtface_studio.frame_renderer import FrameRenderer, jpeg


def main() -> None:
    """Measures, and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("film", type=Path)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--engine", default="default")
    parser.add_argument("--side", type=int, default=1280)
    asked = parser.parse_args()
    source = FileSource(asked.film)
    duration, frame_s = source.info.duration_s or 0.0, 1 / float(source.info.rate)
    source.close()
    options, renderer, draw = Options(engine=asked.engine), FrameRenderer(asked.film), random.Random(7)
    began = perf_counter()
    renderer.render(duration / 2, asked.side, options)
    first, held = perf_counter() - began, _peak_mb()
    jumps, strengths, steps = list[float](), list[float](), list[float]()
    for _ in range(asked.count):
        time = draw.uniform(2 * frame_s, duration - 0.2)
        weaker = replace(options, strength=draw.uniform(0.2, 0.9))
        for into, at, now in (
            (jumps, time, options),
            (strengths, time, weaker),
            (steps, time + frame_s, options),
            (steps, time - frame_s, options),
        ):
            began = perf_counter()
            shown = renderer.render(at, asked.side, now)
            jpeg(shown.before), jpeg(shown.after)
            into.append(1e3 * (perf_counter() - began))
    renderer.close()
    print(
        json.dumps(
            {
                "first_ms": round(1e3 * first),
                "jump_ms": _percentiles(jumps),
                "strength_ms": _percentiles(strengths),
                "step_ms": _percentiles(steps),
                "peak_mb": [held, _peak_mb()],
            }
        )
    )


def _percentiles(values: list[float]) -> list[int]:
    return [round(float(value)) for value in np.percentile(values, (50, 95, 99))]


def _peak_mb() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
