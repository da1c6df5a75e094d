"""Streams that are published: what players get, and what happens when servers and viewers go and come back."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from rtface.config.addresses import parse_address
from rtface.config.options import Options
from rtface.errors import OutputError
from rtface.live.protocols import LiveSink, SoundFormat
from rtface.live.sinks.stream_sink import StreamSink
from tests.live.feed import MONO, Feed, Watcher, at_once, form, offsets
from tests.live.servers import Nginx, free_port, running

Opener = Callable[..., LiveSink]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Makes sinks, and closes them in the end."""
    sinks: list[LiveSink] = []

    def make(url: str, *, sound: SoundFormat | None = MONO, **options: object) -> LiveSink:
        sink = StreamSink(parse_address(url), Options.of({"encode": "software", **options}))
        sinks.append(sink)
        sink.open(form(), sound=sound)
        return sink

    yield make
    for sink in sinks:
        sink.close()


def closes_at_once(sink: LiveSink) -> None:
    before = time.monotonic()
    sink.close()
    assert time.monotonic() - before < 2
    assert sink.health.state == "closed"


def test_a_published_stream_plays_as_it_went_in(nginx: Nginx, opened: Opener, tmp_path: Path):
    url = nginx.url("key-that-nobody-sees")
    sink = opened(url, bitrate=1_500_000)
    assert "key-that-nobody-sees" not in sink.described + sink.health.detail + str(sink.notes)
    feed = Feed(sink, form())
    with Watcher(url, tmp_path) as watcher:
        feed.until_seen(watcher, 0, 1)
        feed.run(6.6)
        seen = watcher.seen()
        assert watcher.seen("open")[0]["streams"] == ["aac", "h264"]
    health = sink.health
    assert health.state == "live" and not health.reopened
    assert health.bytes is not None and 0.8e6 < health.bytes < 2.8e6
    assert health.dropped <= 30
    feed.check_that_no_call_waited()
    for entry in seen:
        assert (entry["width"], entry["height"], entry["format"]) == (640, 360, "yuv420p")
        assert entry["colour"] == [1, 1, 1, 1]
        assert entry["type"] in "IP" and entry["dts"]
    keys = np.array([e["pts"] for e in seen if e["key"]])
    assert len(keys) >= 3
    for before, after in pairwise(keys):  # the first frame that was not dropped
        assert after == next(e["pts"] for e in seen if e["pts"] - before > 2 - 0.5 / 30 - 0.002)
    steps = np.diff([e["pts"] for e in seen])
    assert np.all(steps > 0.02) and np.median(steps) == pytest.approx(1 / 30, abs=0.002)
    # Whole periods between I-frames, as their size goes round with them.
    first, last = keys[0], keys[-1]
    sent = sum(e["size"] for e in seen if first <= e["pts"] < last) * 8 / (last - first)
    assert sent == pytest.approx(1_500_000, rel=0.08)
    found = offsets(watcher)
    assert len(found) >= 3
    for frames, tones in found:
        assert abs(frames - tones) < 0.004 or abs(abs(frames - tones) - 1) < 0.004
    closes_at_once(sink)


def test_servers_that_are_killed_or_stalled_are_found_again(opened: Opener, tmp_path: Path):
    at_once(
        lambda: _lost_and_found(opened, tmp_path / "killed", stalled=False),
        lambda: _lost_and_found(opened, tmp_path / "stalled", stalled=True),
    )


def _lost_and_found(opened: Opener, tmp_path: Path, *, stalled: bool) -> None:
    with running(Nginx(tmp_path / "nginx")) as nginx:
        sink = opened(nginx.url("again"), bitrate=1_500_000 if stalled else 800_000)
        feed = Feed(sink, form())
        times: dict[str, float] = {}

        def lose() -> None:
            times["lost"] = time.monotonic()
            (nginx.stall if stalled else nginx.kill)()

        def find() -> None:
            times["back"] = time.monotonic()
            (nginx.go_on if stalled else nginx.start)()

        try:
            with Watcher(nginx.url("again"), tmp_path) as watcher:
                feed.until_seen(watcher, 0, 40)
                feed.run(10 if stalled else 7, {0.2: lose, (8.2 if stalled else 5.2): find})
                feed.until_seen(watcher, times["back"] + stalled, 40)
                seen, found = watcher.seen(), offsets(watcher)
        finally:
            nginx.go_on()
        # The kernel of a stalled server takes some 600 KB by itself, which is three seconds.
        assert feed.became("away", times["lost"]) - times["lost"] < (7.5 if stalled else 2)
        assert feed.became("live", times["back"]) - times["back"] < 3.5
        feed.check_that_no_call_waited()
        if not stalled:
            assert sink.health.reopened == 1 and sink.health.state == "live"
            after = [e for e in seen if e["at"] > times["back"]]
            assert seen[0]["at"] < times["lost"] and after and after[0]["key"]
        assert len(found) >= 2
        frames, tones = np.array(found).T
        assert np.ptp(frames) < 0.003 and np.ptp(tones) < 0.003  # the same offset as before
        closes_at_once(sink)


def test_a_server_that_takes_nothing_holds_up_nothing(nginx: Nginx, opened: Opener):
    sink = opened(nginx.url("silent"), bitrate=6_000_000)
    feed = Feed(sink, form(), texture=True)
    feed.run(1)
    nginx.stall()
    feed.until("away", 15)
    assert sink.health.causes["network"]
    feed.check_that_no_call_waited()
    closes_at_once(sink)


def test_a_refused_application_or_key_is_said(nginx: Nginx, opened: Opener):
    with pytest.raises(OutputError, match="application") as caught:
        opened(nginx.url("topsecret").replace("/live/", "/other/"))
    assert "topsecret" not in str(caught.value)
    first = opened(nginx.url("topsecret?sign=hidden"), sound=None)
    Feed(first, form(), sound=False).run(0.5)
    with pytest.raises(OutputError, match="key") as caught:
        opened(nginx.url("topsecret?sign=hidden"), sound=None)
    assert "topsecret" not in str(caught.value) and "hidden" not in str(caught.value)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="stops a process")
def test_children_that_are_lost_or_hang_are_replaced(nginx: Nginx, opened: Opener, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("rtface.live.sinks.stream_sink.STUCK_S", 1.5)
    at_once(lambda: _lost(nginx, opened), lambda: _hangs(nginx, opened))


def _lost(nginx: Nginx, opened: Opener) -> None:
    sink = opened(nginx.url("child"), sound=None)
    feed = Feed(sink, form(), sound=False)
    feed.run(1)
    pid = sink.pid  # type: ignore[attr-defined]
    os.kill(pid, signal.SIGKILL)
    feed.run(0.5)
    assert feed.until("live", 10) > 0
    assert sink.health.reopened == 1
    frames = sink.health.frames
    feed.run(0.5)
    assert sink.health.frames > frames
    feed.check_that_no_call_waited()


def _hangs(nginx: Nginx, opened: Opener) -> None:
    sink = opened(nginx.url("hangs"), sound=None)
    feed = Feed(sink, form(), sound=False)
    feed.run(1)
    os.kill(sink.pid, signal.SIGSTOP)  # type: ignore[attr-defined]
    assert feed.until("away", 8) < 7
    feed.until("live", 10)
    assert sink.health.reopened == 1
    feed.check_that_no_call_waited()


def test_local_outputs(opened: Opener, tmp_path: Path):
    at_once(
        lambda: _viewers_come_leave_and_return(opened, tmp_path / "come"),
        lambda: _a_slow_viewer_holds_up_nobody(opened, tmp_path / "slow"),
    )


def _viewers_come_leave_and_return(opened: Opener, tmp_path: Path) -> None:
    url = f"tcp://127.0.0.1:{free_port()}"
    sink = opened(url + "?listen")
    feed = Feed(sink, form())
    feed.run(0.5)
    assert sink.health.state == "live" and not sink.wanted
    for turn in range(2):
        with Watcher(url, tmp_path / str(turn)) as watcher:
            feed.until_seen(watcher, 0, 30)
            assert sink.wanted
            seen = watcher.seen()
            tried = watcher.seen("try")[0]["at"]
        assert seen[0]["key"] and seen[0]["at"] - tried < 2.5
        assert seen[0]["stamp"] > tried - 0.2  # nothing old is sent
        assert watcher.seen("open")[0]["streams"] == ["aac", "h264"]
        feed.run(0.7)
        assert not sink.wanted
    closes_at_once(sink)


def _a_slow_viewer_holds_up_nobody(opened: Opener, tmp_path: Path) -> None:
    port = free_port()
    sink = opened(f"tcp://127.0.0.1:{port}?listen", bitrate=6_000_000)
    feed = Feed(sink, form())
    with socket.create_connection(("127.0.0.1", port)) as slow, Watcher(f"tcp://127.0.0.1:{port}", tmp_path) as watcher:
        assert slow.fileno() > 0  # it never reads
        feed.until_seen(watcher, 0, 20)
        feed.run(3)
        times = [e["pts"] for e in watcher.seen()]
        missing = round((times[-1] - times[0]) * 30) + 1 - len(times)
        assert missing <= sink.health.dropped  # but for what a busy machine could not encode, nothing is left out
    feed.check_that_no_call_waited()
