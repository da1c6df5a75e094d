"""Idle connections keep nobody out; many who ask at once cost little."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from rtface.web import connections
from rtface.web.http import SharedResponse
from rtface_studio.pace import AT_ONCE, PER_SECOND, PIECE, RequestPace
from tests.studio.conftest import RunningStudio
from tests.studio.test_access import ask


def group_of_sessions() -> list[str]:
    """The words of this session's share of the processor: none where Linux has no such groups, or does not use them."""
    shown = Path("/proc/self/autogroup")
    return shown.read_text().split() if shown.exists() else []


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


@pytest.mark.parametrize(
    ("works", "path", "count", "latest_s"),
    [
        (True, "/api/queue", 100, 1.5),
        (True, "/api/queue", 5000, 5.025),  # of whoever does not wait for answers
        (True, "/page/style.css", 5000, None),  # needs no session
        (False, "/api/queue", 100, None),
    ],
)
def test_many_requests_wait_while_the_queue_works(works: bool, path: str, count: int, latest_s: float | None) -> None:
    waited, passed = list[float](), list[object]()

    async def app(scope: object, receive: object, send: object) -> None:
        passed.append(scope)

    async def wait(seconds: float) -> None:
        waited.append(seconds)

    async def ask_all() -> None:
        pace = RequestPace(app, lambda: works, clock=lambda: 5.0, wait=wait)
        for _ in range(count):
            await pace({"type": "http", "path": path}, None, None)  # type: ignore[arg-type]

    asyncio.run(ask_all())
    assert len(passed) == count
    assert max(waited, default=None) == (latest_s and pytest.approx(latest_s))


def test_a_crowd_is_told_once_and_until_it_has_gone() -> None:
    notify, times = list[bool](), [0.0] * 100 + [60.0, 60.0]

    async def nothing(*_: object) -> None:
        pass

    def tell(crowded: bool) -> bool:
        notify.append(crowded)
        return len(notify) != 2  # the system refuses the first change back

    async def ask_all() -> None:
        clock = iter(times)
        pace = RequestPace(nothing, lambda: True, clock=lambda: next(clock), wait=nothing, notify=tell)
        for _ in times:
            await pace({"type": "http", "path": "/api/queue"}, None, None)  # type: ignore[arg-type]

    asyncio.run(ask_all())
    assert notify == [True, False, False]


@pytest.mark.skipif(not group_of_sessions(), reason="this system has no groups of sessions")
@pytest.mark.parametrize("own", [True, False])
def test_a_session_of_its_own_gives_way_to_films(own: bool) -> None:
    shown = "print(Path('/proc/self/autogroup').read_text().split()[-1])"
    script = "from pathlib import Path; from rtface_studio.pace import set_back; "
    script += "; ".join(("set_back(True)", shown, "set_back(False)", shown))
    ended = subprocess.run([sys.executable, "-c", script], start_new_session=own, capture_output=True, text=True)
    before = group_of_sessions()[-1]
    assert ended.stdout.split() == (["10", "0"] if own else [before, before])


def test_a_long_answer_counts_like_many_requests() -> None:
    waited = list[float]()

    async def app(scope: object, receive: object, send: Callable[..., Awaitable[None]]) -> None:
        for _ in range(100):
            await send({"type": "http.response.body", "body": bytes(PIECE)})

    async def wait(seconds: float) -> None:
        waited.append(seconds)

    async def send(message: object) -> None:
        pass

    pace = RequestPace(app, lambda: True, clock=lambda: 5.0, wait=wait)
    asyncio.run(pace({"type": "http", "path": "/api/queue/1/media/source"}, None, send))  # type: ignore[arg-type]
    assert max(waited) == pytest.approx(101 / PER_SECOND - AT_ONCE / PER_SECOND)
