"""Idle connections keep nobody out; many who ask at once cost little."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable

import pytest

from rtface.web import connections
from rtface.web.http import SharedResponse
from tests.studio.conftest import RunningStudio
from tests.studio.test_access import ask


def connect(studio: RunningStudio) -> socket.socket:
    return socket.create_connection(("127.0.0.1", studio.server.port), timeout=10)


def request(studio: RunningStudio) -> bytes:
    return (
        f"GET /api/about HTTP/1.1\r\nHost: 127.0.0.1:{studio.server.port}\r\n"
        f"Authorization: Bearer {studio.server.token}\r\n\r\n"
    ).encode()


def test_the_oldest_idle_connections_make_room(
    monkeypatch: pytest.MonkeyPatch, start_studio: Callable[[], RunningStudio]
) -> None:
    monkeypatch.setattr(connections.HttpConnection, "MOST", 8)
    studio = start_studio()
    used = connect(studio)
    silent = [connect(studio) for _ in range(8)]
    used.sendall(request(studio))
    silent += [connect(studio) for _ in range(12)]
    assert [ask(studio, "GET", "/api/about")[0] for _ in range(3)] == [200] * 3
    ends = [client for client in silent if ended(client)]
    assert len(ends) >= 12 and silent[-1] not in ends
    for client in (used, *silent):
        client.close()


def ended(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_a_head_that_does_not_come_ends_the_connection(monkeypatch: pytest.MonkeyPatch, studio: RunningStudio) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    with connect(studio) as silent, connect(studio) as slow, connect(studio) as second:
        slow.sendall(request(studio)[:20])
        second.sendall(request(studio))
        assert second.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        second.sendall(request(studio)[:20])
        for client in (silent, slow, second):
            with pytest.raises(ConnectionResetError):
                while client.recv(1 << 16):
                    pass
                raise ConnectionResetError  # an end is as good
    assert ask(studio, "GET", "/api/about")[0] == 200


def test_who_asks_while_an_answer_is_made_shares_the_next() -> None:
    made, begun, go = list[int](), threading.Event(), threading.Event()

    def make() -> int:
        made.append(1)
        begun.set()
        go.wait(10)
        return len(made)

    async def ask() -> list[bytes]:
        shared = SharedResponse(make)
        first = asyncio.create_task(shared())
        await asyncio.to_thread(begun.wait, 10)
        others = [asyncio.create_task(shared()) for _ in range(50)]
        await asyncio.sleep(0)
        go.set()
        return [bytes((await one).body) for one in (first, *others)]

    assert asyncio.run(ask()) == [b"1"] + 50 * [b"2"]
