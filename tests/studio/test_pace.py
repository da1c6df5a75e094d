"""Many who ask at once cost little."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from rtface_studio.pace import AT_ONCE, PER_SECOND, PIECE, RequestPace


def group_of_sessions() -> list[str]:
    """The words of this session's share of the processor: none where Linux has no such groups, or does not use them."""
    shown = Path("/proc/self/autogroup")
    return shown.read_text().split() if shown.exists() else []


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
