"""A stream over SRT, with srt-live-transmit as the other end."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from rtface.config.addresses import parse_address
from rtface.config.options import Options
from rtface.errors import OutputError
from rtface.live.sinks.stream_sink import StreamSink
from tests.live.feed import MONO, Feed, Watcher, at_once, form
from tests.live.servers import Process, Srt, free_port, program, running


def test_streams_over_srt(tmp_path: Path):
    at_once(
        lambda: _a_listener_that_is_lost_is_called_again(tmp_path / "lost"),
        lambda: _nobody_answers_and_a_wrong_passphrase(tmp_path / "nobody"),
        lambda: _viewers_call(tmp_path / "viewers"),
    )


def _a_listener_that_is_lost_is_called_again(tmp_path: Path) -> None:
    with running(Srt(tmp_path / "srt", to_udp=True, query="&passphrase=topsecret99")) as server:
        time.sleep(0.5)
        sink = StreamSink(parse_address(f"{server.url}?passphrase=topsecret99"), Options(encode="software"))
        sink.open(form(), sound=MONO)
        assert "topsecret99" not in sink.described + sink.health.detail
        feed = Feed(sink, form())
        with Watcher(f"udp://127.0.0.1:{server.udp}", tmp_path) as watcher:
            feed.until_seen(watcher, 0, 10)
            assert watcher.seen("open")[0]["streams"] == ["aac", "h264"]
            taken = sink.health.bytes
            assert sink.health.state == "live" and taken is not None and taken > 50_000
            server.kill()
            assert feed.until("away", 5) < 5
            server.start()
            before = time.monotonic()
            assert feed.until("live", 6) < 4
            feed.until_seen(watcher, before, 10)
            assert sink.health.reopened == 1
        feed.check_that_no_call_waited()
        server.stall()
        try:
            assert feed.until("away", 8) < 6
        finally:
            server.go_on()
        before = time.monotonic()
        sink.close()
        assert time.monotonic() - before < 1.2


def _nobody_answers_and_a_wrong_passphrase(tmp_path: Path) -> None:
    program("SRT")
    with pytest.raises(OutputError, match="nothing answers") as caught:
        StreamSink(
            parse_address(f"srt://127.0.0.1:{free_port(socket.SOCK_DGRAM)}?passphrase=topsecret99"),
            Options(encode="software"),
        ).open(form(), sound=None)
    assert "topsecret99" not in str(caught.value)
    with running(Srt(tmp_path / "srt", to_udp=True, query="&passphrase=topsecret99")) as server:
        time.sleep(0.5)
        with pytest.raises(OutputError, match="passphrase"):
            StreamSink(parse_address(f"{server.url}?passphrase=anotherone1"), Options(encode="software")).open(
                form(), sound=None
            )


def _viewers_call(tmp_path: Path) -> None:
    tmp_path.mkdir()
    port, udp = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
    sink = StreamSink(parse_address(f"srt://127.0.0.1:{port}?mode=listener"), Options(encode="software"))
    sink.open(form(), sound=None)
    feed = Feed(sink, form(), sound=None)
    feed.run(0.5)
    assert sink.health.state == "live" and not sink.wanted
    caller = Process(
        [program("SRT"), "-loglevel:error", f"srt://127.0.0.1:{port}", f"udp://127.0.0.1:{udp}"],
        tmp_path / "caller.log",
    )
    with Watcher(f"udp://127.0.0.1:{udp}", tmp_path) as watcher:
        for _ in range(2):
            with running(caller):
                feed.until_seen(watcher, time.monotonic(), 10)
                assert sink.wanted
            until = time.monotonic() + 5
            while sink.wanted:
                assert time.monotonic() < until
                feed.run(0.2)
            assert sink.health.state == "live"
    sink.close()
