"""Long runs from server to server: sound and frames stay together, memory stays flat, lost servers are found again.

Their lengths are in seconds and can be set: RTFACE_SOAK_STEP=600, RTFACE_SOAK_MEMORY=1800, RTFACE_SOAK_STALL=20,
RTFACE_SOAK_AWAY=5.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.live.command import Command
from tests.live.feed import Watcher
from tests.live.servers import Nginx, Publisher, running
from tests.soak.rig import came, report, resident, seconds, windows

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]
GOP_S = 1.0
ENDS = {"input": lambda status: status["source"], "output": lambda status: status["sinks"][0]}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("RTFACE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@contextmanager
def relay(folder: Path, *more: str) -> Iterator[tuple[Nginx, Nginx, Command]]:
    """A publisher, a server, rtface, another server: the two servers and the command, which runs."""
    gop = str(round(25 * GOP_S))
    with (
        running(Nginx(folder / "a")) as a,
        running(Nginx(folder / "b")) as b,
        running(Publisher(a.url("in"), "flv", folder / "publisher", size="640x360", fps="25", gop=gop)),
        Command(
            folder / "rtface", a.url("in"), b.url("out"), "--tracker", "none", "--control", "0", "--json", *more
        ) as run,
    ):
        run.runs(25)
        yield a, b, run


def finish(run: Command) -> dict[str, Any]:
    """Ends it as its user does; its report."""
    took = run.end()
    assert run.process.returncode == 0
    report(f"ended in {took:.2f} s")
    assert took < 1.5
    return run.json


def test_sound_and_pictures_stay_in_step(tmp_path):
    length = seconds("STEP", 600)
    with relay(tmp_path) as (a, b, run), Watcher(b.url("out"), tmp_path / "watch") as watcher:
        came(watcher, 25)
        time.sleep(length)
        found = list(windows(watcher, min(30.0, length / 4)))
        with Watcher(a.url("in"), tmp_path / "source") as source:
            came(source, 25 * 8)
            before = list(windows(source, 8))
        done = finish(run)
    report(
        "seconds, sound behind frames ms, age ms, frames/s; before rtface: ",
        *(w[1] for w in before),
    )
    for window in found:
        report(*window)
    steps = [w[1] for w in found]
    report("sound moved by ms", max(steps) - min(steps), "latency", done["latency_ms"], "dropped", done["dropped"])
    assert len(found) >= 3
    assert max(steps) - min(steps) < 40
    assert abs(found[-1][2] - found[0][2]) < 250, "frames grew old on the way"
    assert done["faults"] == 0


def resumed(watcher: Watcher, after: float, within: float) -> float:
    """Seconds from a moment to the first frame that was made after it."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        for seen in reversed(watcher.seen()):
            if seen["at"] > after and seen["stamp"] is not None and seen["stamp"] > after - 0.5:
                return seen["at"] - after
        time.sleep(0.1)
    pytest.fail(f"no frame within {within} s")


def lost(run: Command, server: Any, end: str) -> dict[str, Any]:
    """Kills the server at an end of the run; the status some seconds later, while the server is away."""
    killed = time.monotonic()
    server.kill()
    run.until_status(lambda s: ENDS[end](s)["state"] == "away", 5)
    report(f"{end}: loss noticed after s", time.monotonic() - killed)
    time.sleep(max(0.0, killed + seconds("AWAY", 5) - time.monotonic()))
    return run.status()


def test_servers_that_are_killed_come_back(tmp_path):
    with relay(tmp_path) as (a, b, run), Watcher(b.url("out"), tmp_path / "watch") as watcher:
        came(watcher, 50)
        lost(run, a, "input")
        a.start()
        frame = resumed(watcher, time.monotonic(), 20)
        report("new frame at the far end after s", frame)
        assert frame < 3 + GOP_S + 0.5  # half a second on the way to the far end
        time.sleep(8)
        # The far end never lost its stream, and sound and frames are together as before.
        assert len(watcher.seen("open")) == 1
        found = list(windows(watcher, 5))
        report("sound behind frames ms, before and after", found[0][1], found[-1][1])
        before = run.status()
        assert before["sinks"][0]["reopened"] == 0
        meanwhile = lost(run, b, "output")
        b.start()
        back = time.monotonic()
        run.until_status(lambda s: s["sinks"][0]["state"] == "live", 10)
        assert time.monotonic() - back < 3
        with Watcher(b.url("out"), tmp_path / "watch") as later:
            report("a viewer who comes then sees a frame after s", resumed(later, back, 20))
        # Frames went out meanwhile at their pace.
        rate = (meanwhile["frames_out"] - before["frames_out"]) / (meanwhile["seconds"] - before["seconds"])
        report("frames/s meanwhile", rate)
        assert rate > 20
        done = finish(run)
    assert done["ends"][0]["reopened"] >= 1 and done["ends"][1]["reopened"] == 1
    assert done["faults"] == 0


@pytest.mark.parametrize("end", ["input", "output"])
def test_a_stalled_server_is_noticed_and_holds_up_nothing(end, tmp_path):
    length = seconds("STALL", 20)
    with relay(tmp_path) as (a, b, run):
        server, find = a if end == "input" else b, ENDS[end]
        server.stall()
        began = time.monotonic()
        run.until_status(lambda s: find(s)["state"] == "away", 10)
        noticed = time.monotonic() - began
        gaps, last, count = [], time.monotonic(), -1
        while time.monotonic() < began + length:
            status = run.status()
            now = status["frames_out"] if end == "output" else status["sinks"][0]["frames"]
            if now != count:
                gaps.append(time.monotonic() - last)
                last, count = time.monotonic(), now
            time.sleep(0.05)
        server.go_on()
        back = time.monotonic()
        run.until_status(lambda s: find(s)["state"] == "live", 20)
        report(
            f"{end}: noticed after s",
            noticed,
            "longest pause of the loop s",
            max(gaps),
            "live again after s",
            time.monotonic() - back,
        )
        assert noticed < 5
        # The counters are told of four times a second; what is shown instead of a lost source begins after half a one.
        assert max(gaps[1:]) < 1.0
        done = finish(run)
    report("latency", done["latency_ms"])
    assert done["latency_ms"]["p99"] < 250
    assert done["faults"] == 0


def test_memory_stays_flat(tmp_path):
    length = seconds("MEMORY", 1800)
    with (
        relay(tmp_path, "--also", str(tmp_path / "also.mkv")) as (_, b, run),
        Watcher(b.url("out"), tmp_path / "watch") as watcher,
    ):
        came(watcher, 25)
        held: list[float] = []
        began = time.monotonic()
        every = min(10.0, length / 20)
        report("MiB of rtface and its children, load of the machine; seconds:", length)
        while (now := time.monotonic() - began) < length:
            assert run.process.poll() is None, run.said
            held.append(resident([run.process.pid, *run.children()]))
            if len(held) % 6 == 1:
                report(now, held[-1], os.getloadavg()[0])
            time.sleep(every)
        done = finish(run)
    # The first tenth fills buffers.
    warm = held[len(held) // 10 :]
    fifth = max(2, len(warm) // 5)
    start, end = statistics.median(warm[:fifth]), statistics.median(warm[-fifth:])
    report("start", start, "end", end, "peak", max(held), "MiB; frames", done["frames_out"], "dropped", done["dropped"])
    assert end - start < max(8.0, 0.03 * start)
    assert done["faults"] == 0
