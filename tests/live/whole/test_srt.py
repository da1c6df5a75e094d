"""SRT through the system's library, against SRT's own tool."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest

from rtface.errors import InputError, InputMissing
from rtface.live.sources.srt import MESSAGE, SrtConnection
from tests.live.servers import Publisher, free_port, program, running
from tests.live.servers import Srt as Tool
from tests.live.watching import Watched

SECRET = "sesame-open-now"


pytestmark = pytest.mark.usefixtures("srt_library")


@pytest.mark.parametrize("killed", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_a_stream_is_read_and_comes_back(tmp_path: Path, killed: bool):
    program("SRT")
    # UDP in, SRT out: the tool listens.
    tool = Tool(tmp_path, to_udp=False, query=f"&passphrase={SECRET}")
    with running(tool), running(Publisher(f"udp://127.0.0.1:{tool.udp}?pkt_size=1316", "mpegts", tmp_path)):
        time.sleep(0.5)
        url = f"{tool.url}?streamid=#!::r=live/sesame,m=request&passphrase={SECRET}"
        with Watched(url, stamped=True) as watched:
            watched.more(50, 5)
            assert watched.sounds
            came = [at - made for (at, _), made in zip(watched.frames, watched.made, strict=True)]
            assert sorted(came)[25] < 0.6  # 120 ms of SRT's own
            assert "sesame" not in watched.source.described + repr(watched.source.health)
            if killed:
                tool.kill()
                assert watched.state("away", 6) < 5
                tool.start()
                watched.state("live", 6)
                watched.more(10, 3)


def test_a_wrong_passphrase_is_said(tmp_path: Path):
    with running(Tool(tmp_path, to_udp=False, query=f"&passphrase={SECRET}")) as tool:
        time.sleep(0.3)
        with (
            pytest.raises(InputError, match="the passphrase differs") as refused,
            Watched(f"{tool.url}?passphrase=another-one-here"),
        ):
            pass
        assert "another" not in str(refused.value)


def test_nobody_there():
    with (
        pytest.raises(InputMissing, match="nothing answers there"),
        Watched(f"srt://127.0.0.1:{free_port(socket.SOCK_DGRAM)}?passphrase={SECRET}"),
    ):
        pass


def test_both_ends_are_ours_one_listening():
    port = free_port(socket.SOCK_DGRAM)
    got: list[bytes] = []

    def listen() -> None:
        end = SrtConnection(f"srt://127.0.0.1:{port}?mode=listener&passphrase={SECRET}", sending=False)
        while data := end.read():
            got.append(data)
        end.close()

    thread = threading.Thread(target=listen)
    thread.start()
    time.sleep(0.2)
    sender = SrtConnection(f"srt://127.0.0.1:{port}?passphrase={SECRET}&latency=50", sending=True)
    data = os.urandom(5 * MESSAGE + 100)
    for at in range(0, len(data), MESSAGE):
        sender.send(data[at : at + MESSAGE])
    until = time.monotonic() + 5
    while sum(map(len, got)) < len(data) and time.monotonic() < until:
        time.sleep(0.02)
    assert sender.unsent == 0
    sender.close()
    sender.close()
    thread.join(8)
    assert not thread.is_alive()
    assert b"".join(got) == data
