"""A live run under load: a paced clip into which faces come, while for a while another process burns a core.

Two threads, as a live run has them: one tracks the newest picture, the other enhances what it hands over. Prints the
ladder's steps and, for each part of the run, the rate, the latency from capture to the enhanced picture, and how many
pictures were given up.

usage: python -m benchmarks.ladder [--seconds 25] [--engine rtface-s] [--faces 4] [--burn 5] [--without]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from time import monotonic, process_time, sleep
from typing import Any

import av
import numpy as np

from benchmarks.common import clip, quantiles, save
from rtface.chain import Threads
from rtface.config import Options
from rtface.enhance import Enhance
from rtface.flow import Mailbox
from rtface.frame import Color, Frame
from rtface.ladder import Ladder
from rtface.stats import Stats
from rtface.track import create_tracker
from rtface.track.mediapipe import MediaPipeTracker
from rtface.tracking import track
from rtface.workshops import open_workshop

RATE = 30
MICROSECONDS = Fraction(1, 1_000_000)
BURN = "while True: pass"


def pictures(paths: list[tuple[float, Path]]) -> Iterator[tuple[float, av.VideoFrame]]:
    """Pictures and when they are due, from the clip that is on at that time; a clip is played again at its end."""
    held = {path: _decoded(path) for _, path in paths}
    k = 0
    while True:
        path = next(p for since, p in reversed(paths) if k / RATE >= since)
        yield k / RATE, held[path][k % len(held[path])]
        k += 1


def _decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as file:
        return list(file.decode(video=0))


def _copied(image: av.VideoFrame) -> av.VideoFrame:
    out = av.VideoFrame(image.width, image.height, image.format.name)
    for plane, old in zip(out.planes, image.planes, strict=True):
        plane.update(memoryview(old))  # pyright: ignore[reportArgumentType]
    return out


@dataclass
class Run:
    """What one run showed, by the seconds since it began."""

    began: float = 0.0
    latency: list[float] = field(default_factory=list)
    given_up: list[float] = field(default_factory=list)
    out: list[float] = field(default_factory=list)
    faces: list[int] = field(default_factory=list)
    cpu_s: float = 0.0


def live(options: Options, paths: list[tuple[float, Path]], seconds: float, ladder: Ladder | None, stats: Stats,
         loads: list[tuple[float, float]]) -> Run:
    """Runs it for so many seconds; `loads` are from when to when another process takes a core."""
    run, threads = Run(), Threads.plan(None)
    source_pictures = pictures(paths)
    waiting = next(source_pictures)
    with ExitStack() as stack:
        place = open_workshop(options.engine, "cpu", stack, threads=threads.engine, picture_threads=threads.picture)
        tracker = create_tracker(options.tracker, max_faces=options.max_faces)
        stack.callback(tracker.close)
        enhance = Enhance(place.device, place.engines, options, stats, analysis=False, ladder=ladder)
        run.began = began = monotonic()

        def dropped(frame: Frame) -> None:
            stats.count("dropped:late")
            run.given_up.append(float(frame.captured_at or 0.0) - began)

        newest: Mailbox[Frame] = Mailbox(dropped)
        tracked: Mailbox[Frame] = Mailbox()

        def source() -> None:
            due, image = waiting
            while due < seconds:
                sleep(max(0.0, began + due - monotonic()))
                now = monotonic()
                newest.put(Frame(_copied(image), round(1e6 * now), MICROSECONDS, round(1e6 / RATE),
                                 color=Color("bt601"), captured_at=now))
                due, image = next(source_pictures)
            newest.close()

        def follow() -> None:
            for item in track(newest, tracker, place.device, stats):
                if not isinstance(item, Frame) or not tracked.hand_over(item):
                    break
            tracked.close()

        def burn() -> None:
            for since, until in loads:
                sleep(max(0.0, began + since - monotonic()))
                other = subprocess.Popen([sys.executable, "-c", BURN])
                sleep(max(0.0, began + until - monotonic()))
                other.kill()
                other.wait()

        before = process_time()
        workers = [threading.Thread(target=work, daemon=True) for work in (source, follow, burn)]
        for worker in workers:
            worker.start()
        for frame in tracked:
            done = enhance.collect(enhance.submit(frame))
            if ladder is not None and isinstance(tracker, MediaPipeTracker):
                tracker.sparing = ladder.sparing
            now = monotonic()
            run.latency.append(now - float(done.captured_at or now))
            run.out.append(now - began)
            run.faces.append(len(done.faces))
        run.cpu_s = process_time() - before
        for worker in workers:
            worker.join()
    return run


def figures(run: Run, stats: Stats, parts: list[tuple[str, float, float]]) -> dict[str, Any]:
    """Rate, latency and drops of each part of a run."""
    out: dict[str, Any] = {}
    for name, since, until in parts:
        at = [n for n, t in enumerate(run.out) if since <= t < until]
        if at:
            out[name] = {"fps": round(len(at) / (until - since), 2),
                         "given_up": sum(since <= t < until for t in run.given_up),
                         "faces": int(np.median([run.faces[n] for n in at])),
                         "latency_ms": quantiles([run.latency[n] for n in at])}
    crops = {k[6:]: v for k, v in stats.counters.items() if k.startswith("crops:")}
    return out | {"cpu_cores": round(run.cpu_s / max(run.out[-1], 1e-3), 2), "crops": crops,
                  "faults": stats.counters["faults"], "stages_ms": stats.stages_ms()}


def main() -> None:
    """Runs with the ladder (and, with --without, without), and saves results/NAME.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=25.0)
    parser.add_argument("--engine", default="rtface-s")
    parser.add_argument("--faces", type=int, default=4, help="that are there from a third of the run on")
    parser.add_argument("--burn", type=float, default=5.0, help="seconds for which another process takes a core")
    parser.add_argument("--latency", type=float, default=100.0)
    parser.add_argument("--without", action="store_true", help="also run without the ladder")
    parser.add_argument("--name", default="ladder")
    a = parser.parse_args()
    sys.setswitchinterval(0.0005)
    third = a.seconds / 3
    paths = [(0.0, clip(frames=120, face_px=170)), (third, clip(frames=120, faces=a.faces, face_px=170))]
    loads = [(2 * third, 2 * third + a.burn)] if a.burn else []
    parts = [("one face", 2.0, third), (f"{a.faces} faces", third, 2 * third),
             ("a core taken", 2 * third, 2 * third + a.burn), ("after", 2 * third + a.burn, a.seconds)]
    result: dict[str, Any] = {"what": (__doc__ or "").splitlines()[0], "engine": a.engine, "ceiling_ms": a.latency}
    for name in ("with the ladder", "without")[: 1 + a.without]:
        stats = Stats()
        smaller = "rtface-s" if a.engine == "auto" else None
        ladder = Ladder(1 / RATE, 1e-3 * a.latency, smaller) if name == "with the ladder" else None
        run = live(Options(engine=a.engine), paths, a.seconds, ladder, stats, loads)
        result[name] = figures(run, stats, parts)
        if ladder:
            result[name] |= {"summary": ladder.summary(), "steps": [
                f"{s.time - run.began:6.2f} s  face {s.track}: {s.before} → {s.after} ({s.why})" for s in ladder.steps]}
    save(a.name, result)


if __name__ == "__main__":
    main()
