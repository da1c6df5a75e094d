"""While a film of the queue is worked on, the processor is the film's: requests of many clients wait in a line."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send

PER_SECOND, AT_ONCE = 40, 40
"""Requests that are answered in a second while a film is worked on, and how many of them without waiting. One page
sends fewer; a hundred clients took two thirds of a film's speed without this."""
LONGEST_S = 5.0
"""A request waits no longer: whoever asks, leaves and asks again would keep the others out."""


class Pace:
    """ASGI middleware that lets requests below ``/api/`` wait, in their order, while the queue works. The page's files
    cost little, and one of them needs no session: who has none is not counted.

    Args:
        app: gets the requests.
        busy: whether the queue works.
        clock: monotonic time in seconds.
        wait: returns after so many seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        busy: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._app, self._busy, self._clock, self._wait = app, busy, clock, wait
        self._next = -math.inf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/api/") and self._busy():
            now = self._clock()
            self._next = min(max(self._next, now - AT_ONCE / PER_SECOND), now + LONGEST_S) + 1 / PER_SECOND
            if self._next > now:
                await self._wait(self._next - now)
        await self._app(scope, receive, send)
