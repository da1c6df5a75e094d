"""Compares the chain and its stages with decoding alone. Excludes encoding.

usage: python -m benchmarks.pipeline [--frames 300] [--rounds 3] [--input CLIP]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.common import clip, save
from rtface.config.options import Options
from rtface.frame import Frame
from rtface.media.read.source import FileSource
from rtface.pipeline.build import film_networks, film_parts
from rtface.pipeline.chain import chain
from rtface.pipeline.plan import FramePlan
from rtface.pipeline.threads import Threads
from rtface.stats import Stats


def decode_only(path: Path) -> float:
    """Measures the seconds to decode a clip."""
    start = perf_counter()
    source = FileSource(path, threads=Threads.for_film(None).decode)
    for _ in source:
        pass
    source.close()
    return perf_counter() - start


def through_chain(path: Path, options: Options) -> tuple[float, Stats, int]:
    """Measures one pass. Returns its seconds (without loading the engine), statistics, and number of frames."""
    stats = Stats()
    threads = Threads.for_film(options.threads)
    with ExitStack() as stack:
        plan = FramePlan(path, options)
        networks = film_networks(plan, stats, stack)
        corrector = film_parts(networks, plan, stats)
        start = perf_counter()
        source = FileSource(path, threads=threads.decode, stats=stats)
        frames = sum(isinstance(item, Frame) for item in chain(iter(source), networks.tracker, corrector, stats))
        seconds = perf_counter() - start
        source.close()
    return seconds, stats, frames


def main() -> None:
    """Runs each case `rounds` times, each time with a decode-only pass. Saves results/pipeline.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--name", default="pipeline")
    a = parser.parse_args()
    sys.setswitchinterval(0.0005)
    one_face = a.input or clip(frames=a.frames)
    four_faces = a.input or clip(frames=a.frames, faces=4, face_px=170)
    no_face = a.input or clip(frames=a.frames, faces=0)
    cases = {
        "rtface-s, one face": (one_face, "rtface-s"),
        "rtface-m, one face": (one_face, "rtface-m"),
        "auto, four faces": (four_faces, "auto"),
        "rtface-m, no faces": (no_face, "rtface-m"),
    }
    result: dict[str, Any] = {"what": (__doc__ or "").splitlines()[0], "frames": a.frames, "rounds": a.rounds}
    for name, (path, engine) in cases.items():
        options = Options(engine=engine)
        through_chain(path, options)  # warms up the compiled engine and the file cache
        rounds = [(through_chain(path, options), decode_only(path)) for _ in range(a.rounds)]
        (_, stats, frames), _ = rounds[-1]
        seconds = statistics.median(r[0][0] for r in rounds)
        decode = statistics.median(r[1] for r in rounds)
        result[name] = {
            "clip": path.name,
            "fps": round(frames / seconds, 1),
            "ms_per_frame": round(1e3 * seconds / frames, 2),
            "decode_only_ms_per_frame": round(1e3 * decode / frames, 2),
            "added_ms_per_frame": round(1e3 * (seconds - decode) / frames, 2),
            "crops_by_engine": {k[6:]: v for k, v in stats.counters.items() if k.startswith("crops:")},
            "frames_corrected": stats.counters["frames_corrected"],
            "stages_ms": stats.stages_ms(),
        }
    save(a.name, result)


if __name__ == "__main__":
    main()
