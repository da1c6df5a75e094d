"""One run of a film for `benchmarks.lock`: the work of a process, which may use another checkout's rtface.

usage: python lock_worker.py CLIP ENGINE OUTPUT RATE SKIP

OUTPUT is a file for libx264 veryfast, or "null:" for none. Prints JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from rtface.config.options import Options
from rtface.frame import Frame
from rtface.media.read.source import FileSource
from rtface.pipeline.build import Threads, film_parts
from rtface.pipeline.chain import chain
from rtface.pipeline.film import run_file
from rtface.stats import Stats

try:
    from rtface.pipeline.build import film_networks
    from rtface.pipeline.plan import FramePlan
except ImportError:  # a checkout from before runs were planned
    film_networks = None

_ANYBODY = ctypes.c_ulong(-1)
_PR_SET_PTRACER = 0x59616D61
_CALL = re.compile(r"(\S+) \(.*/(rtface/[\w/]+)\.py")
_THREAD = re.compile(r'^thread \([^)]*\):? ?|"')
_TICK = os.sysconf("SC_CLK_TCK")


class ThreadTimes:
    """Reads the processor time of every thread of this process ten times a second; threads may end meanwhile."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._first: dict[int, float] = {}
        self._last: dict[int, float] = {}
        self._read(self._first)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="thread times")
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            self._read(self._last)

    def _read(self, seconds: dict[int, float]) -> None:
        for thread in threading.enumerate():
            if thread.native_id is not None:
                self._names[thread.native_id] = thread.name
        for path in Path("/proc/self/task").iterdir():
            try:
                line = (path / "stat").read_text()
            except OSError:
                continue  # it ended
            name, fields = line.partition("(")[2].rpartition(")")[0], line.rpartition(")")[2].split()
            number = int(path.name)
            self._names.setdefault(number, f"native {name}")
            seconds[number] = (int(fields[11]) + int(fields[12])) / _TICK

    def stop(self) -> dict[str, float]:
        """Seconds by name of the thread."""
        self._done.set()
        self._thread.join()
        self._read(self._last)
        total: Counter[str] = Counter()
        for number, seconds in self._last.items():
            total[self._names[number]] += seconds - self._first.get(number, 0.0)
        return dict(total)


class LockSamples:
    """Samples with py-spy who holds the interpreter lock while this process goes on."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._file = Path(tempfile.mkstemp(suffix=".txt")[1])
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANYBODY, 0, 0, 0)
        self._sampler = subprocess.Popen(
            [
                "py-spy",
                "record",
                "--pid",
                str(os.getpid()),
                "--gil",
                "--threads",
                "--full-filenames",
                "--rate",
                str(rate),
                "--format",
                "raw",
                "--output",
                str(self._file),
                "--duration",
                "3600",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(1.0)

    def stop(self) -> dict[str, dict[str, float]]:
        """Seconds that the lock was held: by thread, by module of rtface, and by function."""
        self._sampler.send_signal(signal.SIGINT)
        self._sampler.wait(30)
        threads: Counter[str] = Counter()
        modules: Counter[str] = Counter()
        functions: Counter[str] = Counter()
        for line in self._file.read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            thread, *calls = stack.split(";")
            ours = [found for found in map(_CALL.search, calls) if found]
            if not ours:
                continue  # this program's own
            seconds = int(count) / self._rate
            threads[_THREAD.sub("", thread)] += seconds
            modules[ours[-1][2]] += seconds
            functions[f"{ours[-1][2]}:{ours[-1][1]}"] += seconds
        self._file.unlink()
        return {"threads_s": dict(threads), "modules_s": dict(modules), "functions_s": dict(functions)}


def run(clip: Path, engine: str, output: str) -> tuple[int, Stats]:
    """One run of the film in this process: its frames, and the statistics."""
    stats = Stats()
    if output != "null:":
        options = Options(engine=engine, codec="libx264", preset="veryfast", crf=20, overwrite=True)
        return run_file(clip, Path(output), options, stats=stats).frames_out, stats
    options = Options(engine=engine)
    threads = Threads.for_film(options.threads)
    with ExitStack() as stack:
        if film_networks is None:
            parts = film_parts(options, threads, stats, stack)
        else:
            plan = FramePlan(clip, options)
            parts = film_parts(film_networks(plan, stats, stack), plan, stats)
        source = FileSource(clip, threads=threads.decode, stats=stats)
        frames = sum(isinstance(item, Frame) for item in chain(iter(source), parts, stats))
        source.close()
    return frames, stats


def main() -> None:
    """Runs the film three times: to warm up, for processor times, and (RATE above 0) for the lock."""
    clip, engine, output, rate = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    sys.setswitchinterval(0.0005)
    run(clip, engine, output)
    threads, began, wall = ThreadTimes(), time.process_time(), time.perf_counter()
    frames, stats = run(clip, engine, output)
    result: dict[str, object] = {
        "frames": frames,
        "processor_s": time.process_time() - began,
        "wall_s": time.perf_counter() - wall,
        "threads_s": threads.stop(),
        "stages_ms": stats.stages_ms(),
    }
    if rate:
        samples = LockSamples(rate)
        run(clip, engine, output)
        result["lock"] = samples.stop()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
