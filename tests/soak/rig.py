"""What the long tests share: how long they run, what a stream's watcher saw, memory of processes."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from tests.live.feed import Watcher


def seconds(name: str, usual: float) -> float:
    """How long a test runs: RTFACE_SOAK_<NAME> in seconds, or as long as it should."""
    return float(os.environ.get(f"RTFACE_SOAK_{name}", usual))


def came(watcher: Watcher, count: int, patience: float = 40) -> None:
    """Waits until so many frames were watched."""
    until = time.monotonic() + patience
    while (now := len(watcher.seen())) < count:
        assert time.monotonic() < until, f"only {now} frames came"
        time.sleep(0.1)


def windows(watcher: Watcher, length: float) -> Iterator[tuple[float, float, float, float]]:
    """For each `length` seconds of what was watched: when it began, how far the sound is behind the frames in
    milliseconds, how old the frames were when they came in milliseconds, and frames a second."""
    videos = [e for e in watcher.seen() if e["stamp"] is not None]
    # By second of the stream: the feed's clock at its frame, and at its tone, each less the stream's time.
    stamps = {round(e["pts"]): e["stamp"] - e["pts"] for e in videos}
    tones = {round(e["onset"]): -e["onset"] for e in watcher.seen("tone")}
    apart = {k: ((stamps[k] - tones[k] + 0.5) % 1 - 0.5) * 1000 for k in stamps.keys() & tones.keys()}
    start = videos[0]["pts"]
    while start + length / 2 < videos[-1]["pts"]:
        inside = [e for e in videos if start <= e["pts"] < start + length]
        steps = [ms for second, ms in apart.items() if start <= second < start + length]
        if len(steps) >= 3 and len(inside) > 1:
            yield (
                start - videos[0]["pts"],
                statistics.median(steps),
                1e3 * statistics.median(e["at"] - e["stamp"] for e in inside),
                (len(inside) - 1) / (inside[-1]["pts"] - inside[0]["pts"]),
            )
        start += length


def resident(pids: list[int]) -> float:
    """MiB of memory that processes hold together, shared memory counted once; not what they map of files, which goes by
    who else on the machine maps it."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:  # it has ended
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return total / 1024


def report(*columns: object) -> None:
    """A line of figures."""
    print(*(f"{c:8.1f}" if isinstance(c, float) else f"{c}" for c in columns), flush=True)
