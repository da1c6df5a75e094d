"""While a film of the queue is worked on, the processor is the film's: requests of many clients wait in a line."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PER_SECOND, AT_ONCE, PIECE = 40, 40, 4 << 20
"""Requests that are answered in a second while a film is worked on, and how many of them without waiting. One page
sends fewer; a hundred clients took two thirds of a film's speed without this. An answer of so many bytes, such as a
film, costs as much as a request, and counts as one each time."""
LONGEST_S = 5.0
"""A request waits no longer: whoever asks, leaves and asks again would keep the others out."""


def set_back(crowded: bool) -> bool:
    """While more is asked than may be, this session, and so all that answers, gets a tenth of the processor where the
    film's wants it, too: outside cgroups, Linux shares it among sessions. A terminal's, with other programs, stays.
    False where it has to be tried again: Linux takes a change ten times a second only."""
    with suppress(OSError):
        if sys.platform == "linux" and os.getsid(0) == os.getpid():
            Path("/proc/self/autogroup").write_text("10" if crowded else "0")
        return True
    return False


class RequestPace:
    """ASGI middleware that lets requests below ``/api/`` wait, in their order, while the queue works. The page's files
    cost little, and one of them needs no session: who has none is not counted.

    Args:
        app: gets the requests.
        busy: whether the queue works.
        clock: monotonic time in seconds.
        wait: returns after so many seconds.
        notify: called when requests begin to wait, and when none waits any more; again where it returns False.
    """

    def __init__(
        self,
        app: ASGIApp,
        busy: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
        notify: Callable[[bool], object] = set_back,
    ) -> None:
        self._app, self._busy, self._clock, self._wait, self._notify = app, busy, clock, wait, notify
        self._next, self._crowded = -math.inf, False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/api/"):
            await self._turn()
            send = self._in_pieces(send)
        await self._app(scope, receive, send)

    async def _turn(self) -> None:
        busy, now = self._busy(), self._clock()
        if busy:
            self._next = min(max(self._next, now - AT_ONCE / PER_SECOND), now + LONGEST_S) + 1 / PER_SECOND
        if self._crowded != (crowded := busy and self._next > now) and self._notify(crowded) is not False:
            self._crowded = crowded
        if crowded:
            await self._wait(self._next - now)

    def _in_pieces(self, send: Send) -> Send:
        sent = 0

        async def sending(message: Message) -> None:
            nonlocal sent
            sent += len(message.get("body", b""))
            if sent >= PIECE:
                sent = 0
                await self._turn()
            await send(message)

        return sending
