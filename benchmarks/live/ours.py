"""Runs rtface on a stream, with a sink that reads frame numbers.

    python -m benchmarks.live.ours URL TIMES COUNT SECONDS [ENGINE]

Prints one line of JSON.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import resource
import sys
import threading
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as `rtface run` does
import numpy as np

from benchmarks.common import quantiles
from benchmarks.live.sender import Times, number_of
from rtface.config.addresses import parse_address
from rtface.config.options import Options
from rtface.frame import Frame
from rtface.live.protocols import EndpointHealth, SoundPacket, VideoFormat
from rtface.live.session import Endpoints, LiveSession, run_live
from rtface.live.sources.open_source import open_live_source
from rtface.stats import Stats


class Reading:
    """A sink that records the arrival of each frame."""

    described, notes, wanted = "nothing", [], True

    def __init__(self, due: Times) -> None:
        self._due, self.latencies, self.times, self.touched = due, [], [], []
        self.health = EndpointHealth("live", "", time.monotonic())

    def open(self, form: VideoFormat, *, sound: bool) -> None:
        """Does nothing, because there is no output to open."""

    def write(self, frame: Frame) -> None:
        """Reads the frame's number, and records the frame's latency."""
        plane = frame.image.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        now, number = time.monotonic(), number_of(rows)
        self.times.append(now)
        if frame.captured_at is not None:
            self.touched.append(frame.touched)
        if number is not None:
            self.latencies.append(self._due.latency(number, now))

    def sound(self, packet: SoundPacket) -> None:
        """Ignores audio, because only video is measured."""

    def close(self) -> None:
        """Does nothing."""


class Steps(logging.Handler):
    """Counts changes of the quality level in the log."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Counts a log message if it reports a change."""
        self.count += " goes from " in record.getMessage()


def cpu() -> float:
    """Returns the CPU seconds of this process and of its ended children."""
    return sum(
        u.ru_utime + u.ru_stime
        for u in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def main() -> None:
    """Performs the live run, and prints the figures."""
    url, times, count, seconds = sys.argv[1:5]
    engine = sys.argv[5] if len(sys.argv) > 5 else "default"
    sys.setswitchinterval(0.0005)
    logging.basicConfig(format="%(relativeCreated)d ms: %(message)s")
    logging.getLogger("rtface").setLevel(logging.INFO)
    steps = Steps()
    logging.getLogger("rtface").addHandler(steps)
    sink, stats, stop = Reading(Times(Path(times), int(count))), Stats(), threading.Event()
    options = Options(engine=engine)
    started: list[float] = []

    def monitor(live: LiveSession) -> None:
        if not started:
            started.extend((time.monotonic(), cpu()))
        elif time.monotonic() - started[0] >= float(seconds):
            stop.set()

    source = open_live_source(parse_address(url), stats=stats)
    run_live(Endpoints(source, [sink]), options, stats=stats, stop=stop, monitor=monitor)
    elapsed = time.monotonic() - started[0]
    measured_times = [t for t in sink.times if t >= sink.times[0] + 1]
    latencies, touched = sink.latencies[30:], sink.touched[30:]
    stages = stats.stages_ms()
    switched = sum(a != b for a, b in itertools.pairwise(touched))
    print(
        json.dumps(
            {
                "fps": round((len(measured_times) - 1) / (measured_times[-1] - measured_times[0]), 2),
                "latency_ms": quantiles(latencies),
                "added_ms": {k: stages["latency"][k] for k in ("p50", "p95", "p99")},
                "enhanced_percent": round(100 * sum(touched) / max(len(touched), 1), 1),
                "on_and_off_a_minute": round(60 * switched / elapsed, 1),
                "steps_a_minute": round(60 * steps.count / elapsed, 1),
                "cpu_percent": round(100 * (cpu() - started[1]) / elapsed),
                "latency_first_and_last_ms": [
                    round(1e3 * float(np.median(part)), 1) for part in (latencies[:60], latencies[-60:])
                ],
                "crops_a_second": {
                    k.removeprefix("crops:"): round(n / elapsed, 2)
                    for k, n in stats.counters.items()
                    if k.startswith("crops:")
                },
                "dropped": {k: n for k, n in stats.counters.items() if k.startswith(("dropped", "passed"))},
                "stages_ms": stages,
            }
        )
    )


if __name__ == "__main__":
    main()
