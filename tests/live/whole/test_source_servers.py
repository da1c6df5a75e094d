"""Live sources against real servers on loopback."""

from __future__ import annotations

import functools
import http.server
import itertools
import os
import random
import re
import socket
import statistics
import time
from contextlib import suppress
from pathlib import Path

import pytest

from rtface.concurrency.threads import start_thread
from rtface.errors import InputError
from rtface.live.protocols import SoundFormat
from rtface.live.sources import read_process
from tests.live.feed import at_once
from tests.live.servers import Nginx, Publisher, Rtsp, free_port, proxied, running
from tests.live.watching import Watched, tones

GOP = 1.0


def test_rtmp_gives_pictures_and_sound_soon_and_in_step(tmp_path: Path):
    with running(Nginx(tmp_path)) as nginx, running(Publisher(nginx.url("a"), "flv", tmp_path, fps="30")):
        time.sleep(1)
        with Watched(nginx.url("a"), stamped=True) as watched:
            assert watched.took < 5
            assert re.search(r"/live/…, 640×360 h264, (30|29\.97) fps, sound aac$", watched.source.described)
            assert watched.source.sound_format
            watched.more(120, 8)
            health = watched.source.health
            assert health.state == "live"
            assert health.bytes
        form = watched.source.video_format
        assert (form.width, form.height, form.pix_fmt, round(form.rate)) == (640, 360, "yuv420p", 30)
        came = [at for at, _ in watched.frames]
        assert statistics.median(at - made for at, made in zip(came, watched.made, strict=True)) < 0.25
        assert statistics.median(at - (f.captured_at or 0) for at, f in watched.frames) < 0.03
        assert 28 < (len(came) - 1) / (came[-1] - came[0]) < 32
        # What flashed and sounded at the same time does so still.
        delay = statistics.median(f.time - made for (_, f), made in zip(watched.frames, watched.made, strict=True))
        begun = tones([sound for _, sound in watched.sounds])
        assert len(begun) >= 3
        late = statistics.median((at - delay + 0.5) % 1 - 0.5 for at in begun)
        assert abs(late) < 0.045


def test_servers_that_are_killed_and_come_back(tmp_path: Path):
    with (
        running(Nginx(tmp_path)) as nginx,
        running(Publisher(nginx.url("a"), "flv", tmp_path)),
        running(Rtsp(tmp_path)) as server,
        Watched(nginx.url("a"), stamped=True) as rtmp,
        Watched(server.url) as rtsp,
    ):
        rtmp.more(10, 5)
        rtsp.more(50, 5)
        assert rtmp.sounds and rtsp.sounds
        for ends, watched in ((nginx, rtmp), (server, rtsp)):  # to FFmpeg the latter is the end of a film
            ends.kill()
            assert watched.state("away", 5) < 1
            assert not watched.source.ended
        assert "live/a" not in rtmp.source.health.detail
        time.sleep(5)
        for ends, watched in ((nginx, rtmp), (server, rtsp)):
            ends.start()
            # Both ends start processes for it, which takes longer where others want the cores as well.
            busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1) / 2) if hasattr(os, "getloadavg") else 1.0
            assert watched.more(1, 15) < (3 + GOP) * busy
            watched.more(25, 3)
            health = watched.source.health
            assert (health.state, health.reopened) == ("live", 1)
        assert rtmp.frames[-1][1].captured_at - rtmp.made[-1] < 0.5
        assert abs(rtmp.frames[-1][1].time - rtmp.frames[-1][0]) < 0.3 * busy


def test_rtsp_comes_through_what_lets_only_http_through(tmp_path: Path):
    def begin(near: socket.socket) -> tuple[socket.socket, bytes] | None:
        first = near.recv(1 << 16)
        begun.append(first.split(b" ")[0])
        if begun[-1] in (b"GET", b"POST"):
            return near, first
        near.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return near.close()

    begun: list[bytes] = []
    with running(Rtsp(tmp_path)) as server, proxied(server.port, begin) as port:
        with Watched(f"rtsp://127.0.0.1:{port}/test") as watched:
            watched.more(50, 5)
            assert watched.sounds
        assert begun[0] == b"OPTIONS" and {b"GET", b"POST"} <= set(begun)


def test_stalled_servers_are_noticed_and_may_go_on(tmp_path: Path):
    with (
        running(Nginx(tmp_path)) as nginx,
        running(Publisher(nginx.url("a"), "flv", tmp_path)),
        running(Rtsp(tmp_path)) as server,
        Watched(nginx.url("a")) as rtmp,
        Watched(server.url) as rtsp,
    ):
        rtmp.more(10, 5)
        rtsp.more(10, 5)
        nginx.stall()
        server.stall()
        stalled = time.monotonic()
        for watched in (rtmp, rtsp):
            watched.state("away", 6)
            assert time.monotonic() - stalled < 5
            assert "no data for" in watched.source.health.detail
        nginx.go_on()  # the other one is being opened when it is closed
        rtmp.state("live", 10)
        rtmp.more(10, 3)


def test_a_stream_that_changes_its_size_without_a_pause_goes_on(tmp_path: Path):
    port = free_port(socket.SOCK_DGRAM)
    url = f"udp://127.0.0.1:{port}?pkt_size=1316"
    with running(Publisher(url, "mpegts", tmp_path)) as publisher, Watched(f"udp://127.0.0.1:{port}") as watched:
        watched.more(10, 3)
        publisher.kill()
        with running(Publisher(url, "mpegts", tmp_path, size="480x272")):
            watched.until(lambda: watched.source.video_format.width == 480, 4)
            watched.more(10, 3)
            assert watched.source.health.reopened == 0


def test_what_a_server_kept_is_not_shown_late(tmp_path: Path):
    # Many servers send the last seconds at once, to begin with an I-frame.
    port = free_port(socket.SOCK_DGRAM)
    kept: list[bytes] = []
    peers: list[socket.socket] = []

    def collect() -> None:
        with suppress(OSError):  # it is closed
            while data := datagrams.recv(2048):
                kept.append(data)
                for peer in peers:
                    peer.sendall(data)

    def serve() -> None:
        peer, _ = server.accept()
        peer.sendall(b"".join(kept))
        peers.append(peer)

    with socket.socket(type=socket.SOCK_DGRAM) as datagrams, socket.create_server(("127.0.0.1", 0)) as server:
        datagrams.bind(("127.0.0.1", port))
        start_thread("collect", collect)
        start_thread("serve", serve)
        with running(Publisher(f"udp://127.0.0.1:{port}?pkt_size=1316", "mpegts", tmp_path)):
            time.sleep(4)
            with Watched(f"tcp://127.0.0.1:{server.getsockname()[1]}", stamped=True) as watched:
                watched.more(50, 4)
    late = [at - made for (at, _), made in zip(watched.frames, watched.made, strict=True)]
    assert max(late) < 0.6
    away = [frame.time - made for (_, frame), made in zip(watched.frames, watched.made, strict=True)]
    assert max(away) - min(away) < 0.1
    assert len(watched.sounds) > 50
    assert abs(watched.sounds[0][1].time - watched.frames[0][1].time) < 1


def test_damage_on_the_way_is_skipped(tmp_path: Path):
    dice = random.Random(1)
    port = free_port(socket.SOCK_DGRAM)

    def relay() -> None:
        with suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as out:
            while data := bytearray(datagrams.recv(2048)):
                for _ in range(3 if dice.random() < 0.1 else 0):
                    data[dice.randrange(4, len(data))] ^= dice.randrange(1, 256)
                if dice.random() > 0.01:
                    out.sendto(data, ("127.0.0.1", port))

    with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        start_thread("relay", relay)
        with (
            running(Publisher(f"udp://127.0.0.1:{datagrams.getsockname()[1]}?pkt_size=1316", "mpegts", tmp_path)),
            Watched(f"udp://127.0.0.1:{port}") as watched,
        ):
            watched.more(75, 10)
            assert (watched.source.health.state, watched.source.health.reopened) == ("live", 0)
            assert watched.sounds


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def test_hls_is_played_at_its_own_pace_and_its_end_is_noticed(tmp_path: Path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path)) as server:
        start_thread("server", server.serve_forever)
        options = {"o:hls_time": "1", "o:hls_list_size": "4", "o:hls_flags": "delete_segments"}
        playlist = tmp_path / "live.m3u8"
        with running(Publisher(str(playlist), "hls", tmp_path, **options)) as publisher:
            until = time.monotonic() + 10
            while not playlist.exists() and time.monotonic() < until:
                time.sleep(0.1)
            watched = Watched(f"http://127.0.0.1:{server.server_port}/live.m3u8", stamped=True)
            watched.source.hold(True)  # without an end it does not wait
            with watched:
                watched.more(100, 10)
                came = [at for at, _ in watched.frames]
                assert max(b - a for a, b in itertools.pairwise(came)) < 0.7
                assert 22 < (len(came) - 1) / (came[-1] - came[0]) < 28
                assert max(abs(at - f.time) for at, f in watched.frames) < 0.7
                publisher.stall()
                watched.state("away", 10)
                assert time.monotonic() < watched.frames[-1][0] + 3.5
                publisher.go_on()
                watched.state("live", 15)
                watched.more(30, 10)
                assert watched.source.health.reopened == 0
        server.shutdown()


def test_long_waits_for_a_key_frame_are_no_loss(tmp_path: Path):
    # Opened after more than the patience with a source that is there, and with sound long before frames.
    with (
        running(Nginx(tmp_path)) as nginx,
        running(Publisher(nginx.url("a"), "flv", tmp_path, gop="100")),
        running(Publisher(nginx.url("b"), "flv", tmp_path, gop="100", sound="none")),
    ):
        time.sleep(1.5)
        with Watched(nginx.url("a")) as both, Watched(nginx.url("b")) as mute:
            assert both.source.sound_format
            assert mute.source.sound_format == SoundFormat()  # it may begin later
            for watched in (both, mute):
                watched.more(20, 5)
                assert watched.source.health.reopened == 0


def test_a_server_that_accepts_and_says_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(read_process, "OPENING_S", 1.5)

    def refused(scheme: str) -> None:
        with (
            pytest.raises(InputError, match="no frame arrived within 2 s"),
            Watched(f"{scheme}://127.0.0.1:{server.getsockname()[1]}/live/key"),
        ):
            pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        began = time.monotonic()
        at_once(*(functools.partial(refused, scheme) for scheme in ("rtmp", "rtsp", "tcp", "http")))
        assert time.monotonic() - began < 9


@pytest.mark.parametrize("scheme", ["rtmp", "tcp", "http"])
def test_garbage_is_refused(scheme: str):
    noise = os.urandom(1 << 20)

    def answer() -> None:
        with suppress(OSError):  # it is closed
            while True:
                with server.accept()[0] as peer, suppress(OSError):
                    peer.settimeout(2)
                    peer.sendall(noise)
                    peer.recv(1 << 16)

    with socket.create_server(("127.0.0.1", 0)) as server:
        start_thread("answer", answer)
        with (
            pytest.raises(InputError, match=r"(tcp|rtmp|http):"),
            Watched(f"{scheme}://127.0.0.1:{server.getsockname()[1]}/live/key"),
        ):
            pass
