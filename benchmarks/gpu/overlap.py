"""The loop that has the next frames on the GPU while one is waited for, against the loop that waits for each frame.

Marks on the streams tell how much of the copies' time the GPU computed as well.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.gpu.frames import Film
from benchmarks.gpu.loop import STREAMS, Loop, Watch, overlapped, serial
from benchmarks.gpu.machine import Bench, interleaved, quantiles, ratio
from rtface.frame import Frame


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overlap-faces", type=int, default=4, help="overlap: faces in a frame")


def measure(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    """See the module."""
    faces = args.overlap_faces if not bench.dry else 1
    result: dict[str, Any] = {"what": __doc__.splitlines()[0], "faces": faces}
    for name in ("rtface-m", "rtface-s")[: bench.count(2, 1)]:
        result[name] = compare(bench, name, faces)
        bench.save("overlap", result)
    return result


def compare(bench: Bench, engine: str, faces: int) -> dict[str, Any]:
    """Both loops over the same frames in turn, and what the streams did in each."""
    count = bench.count(50, 4)
    size = (1920, 1080) if not bench.dry else (640, 360)
    film = Film(*size, faces, size[0] // 6, "nv12", 8)
    loop = Loop(bench, engine, 16 if not bench.dry else 2)

    def frames() -> list[Frame]:
        return [film.frame(n) for n in range(count)]

    try:
        subjects = {
            "serial": lambda: 1e3 * serial(loop.step(), frames()) / count,
            "overlapped": lambda: 1e3 * overlapped(loop.step(), frames()) / count,
        }
        times = interleaved(subjects, bench.count(5, 1), bench.count(1, 0))
        out: dict[str, Any] = {
            "plan": loop.plan,
            "ms_a_frame": {name: quantiles(ms) for name, ms in times.items()},
            "ratio": ratio(times["serial"], times["overlapped"]),
        }
        for name, go in (("serial", serial), ("overlapped", overlapped)):
            prepared = frames()
            with Watch(bench) as watch:
                go(loop.step(), prepared)
            out[name] = {
                "busy": {stream: round(watch.busy(stream), 4) for stream in STREAMS},
                "copies_beside_computing": round(watch.overlap(), 4),
            }
        return out
    finally:
        loop.close()
