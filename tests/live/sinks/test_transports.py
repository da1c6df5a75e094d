"""Transports of a stream in this process: which one an address means, and what a peer gets or refuses."""

from __future__ import annotations

import socket
from fractions import Fraction

import pytest

from rtface.errors import UsageError
from rtface.live.sinks.live_encoder import usual_bitrate
from rtface.live.sinks.null_sink import NullSink
from rtface.live.sinks.rtmp import RtmpLink
from rtface.live.sinks.stream_worker import open_transport
from rtface.live.sinks.tcp_channel import ConnectionLost
from rtface.live.sinks.transports import Reports
from tests.live.feed import MONO, form
from tests.live.live_fakes import frame
from tests.live.servers import free_port, proxied


@pytest.mark.parametrize(
    "url",
    [
        "rtmp://127.0.0.1:{port}/live/topsecret",
        "rtmps://127.0.0.1:{port}/live/topsecret",
    ],
)
def test_no_server_listens(url: str):
    transport = open_transport(url.format(port=free_port()), Reports(), 0)
    with pytest.raises(ConnectionLost, match="nothing is listening"):
        transport.start(patient=False)


def test_an_unknown_host():
    with pytest.raises(ConnectionLost, match="host is unknown"):
        open_transport("rtmp://no-such-host.invalid/live/topsecret", Reports(), 0).start(patient=False)


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("rtface.live.sinks.rtmp.SILENT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ConnectionLost, match="does not answer"):
        RtmpLink(f"rtmp://127.0.0.1:{silent.getsockname()[1]}/live/key", 0)


def test_a_server_that_ends_the_connection_or_does_not_know_tls():
    with proxied(free_port(), lambda peer: peer.close()) as port, pytest.raises(ConnectionLost, match="RTMP server"):
        RtmpLink(f"rtmp://127.0.0.1:{port}/live/key", 0)
    with (
        proxied(free_port(), lambda peer: peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port,
        pytest.raises(ConnectionLost, match="TLS"),
    ):
        RtmpLink(f"rtmps://127.0.0.1:{port}/live/key", 0)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("rtmp://127.0.0.1/topsecret", "application"),
        ("rtmp://127.0.0.1:topsecret/live/key", "application"),
        ("rtmp://user:topsecret@127.0.0.1/live/key", "log in"),
        ("tcp://127.0.0.1?listen", "port"),
        ("tcp://127.0.0.1:1?key=topsecret", "listen"),
    ],
)
def test_addresses_that_cannot_be_used(url: str, said: str):
    with pytest.raises(UsageError, match=said) as caught:
        open_transport(url, Reports(), 0)
    assert "topsecret" not in str(caught.value)


def test_a_viewer_connects_asks_for_a_key_frame_and_leaves():
    said, port = Reports(), free_port()
    transport = open_transport(f"tcp://127.0.0.1:{port}?listen", said, 0)
    transport.start(patient=False)
    assert said.get(timeout=5).viewers == 0 and transport.generation == 0 and not transport.wants_key()
    with socket.create_connection(("127.0.0.1", port)):
        assert said.get(timeout=5).viewers == 1
        assert transport.generation and transport.wants_key() and not transport.wants_key()
    assert said.get(timeout=5).viewers == 0 and transport.generation == 0
    transport.close(0.1)


def test_the_null_sink_counts():
    sink = NullSink()
    sink.open(form(), sound=MONO)
    for number in range(3):
        sink.write(frame(number))
    assert sink.health.frames == 3 and sink.health.state == "live"
    sink.close()
    assert sink.health.state == "closed"


def test_the_bit_rate_goes_by_size_and_rate():
    assert usual_bitrate(form(1280, 720, 30)) == pytest.approx(3_000_000, rel=0.05)
    assert usual_bitrate(form(1920, 1080, 60)) == pytest.approx(6_000_000, rel=0.05)
    rates = [
        usual_bitrate(form(w, h, r))
        for w, h in ((320, 180), (640, 360), (1280, 720), (1920, 1080))
        for r in (15, 30, 60)
    ]
    assert min(rates) >= 400_000 and Fraction(max(rates)) < 10_000_000
