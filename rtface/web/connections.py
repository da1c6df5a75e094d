"""HTTP connections: idle ones end, so that one client cannot keep others out by opening many."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

LET_IN = "let_in"
"""Key in the state of a request whose sender may use the server; its connection is not idle."""
HEAD_S = 10.0
"""Within so many seconds the head of a request must have arrived, from its first byte or the connection's start."""
IDLE_S = 5
"""Seconds that a connection stays open after a response."""


class HttpConnection(H11Protocol):
    """A connection with HTTP/1.1. Of lost ones nothing stays in memory.

    uvicorn 0.54 has no time limit for the head of a request, counts idle connections where it limits requests, and
    stops the timer of an idle connection only where that ended without an error: the timer keeps the connection, and
    the 256 KB that asyncio holds for each with TLS.
    """

    MOST = 512
    """Open ones, at most; a further one ends the idle one that was used longest ago. A page has up to seven."""
    STALLED_S: float | None = None
    """Within so many seconds the peer must take what waits for it; None is no limit, as a film may be paused."""
    _head_timer: asyncio.TimerHandle | None = None
    _stalled_timer: asyncio.TimerHandle | None = None
    used = 0.0
    """When data came last, on the loop's clock."""

    @property
    def idle(self) -> bool:
        """True if no request is being answered whose sender was let in: who sends a log-in slowly may be closed."""
        return self._waits or LET_IN not in self.cycle.scope.get("state", {})

    @property
    def _waits(self) -> bool:
        return not self.cycle or self.cycle.response_complete

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if len(self.connections) >= self.MOST:
            self._make_room()
        super().connection_made(transport)
        self.used = self.loop.time()
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        self.used = self.loop.time()
        super().data_received(data)
        if self._waits and self in self.connections:  # a WebSocket takes its connection over
            self._wait_for_head()
        else:
            self._stop_waiting()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.STALLED_S is not None:
            self._stalled_timer = self.loop.call_later(self.STALLED_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled_timer is not None:
            self._stalled_timer.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_waiting()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None

    def _make_room(self) -> None:
        idle = [one for one in self.connections if isinstance(one, HttpConnection) and one.idle]
        if idle:
            oldest = min(idle, key=lambda one: one.used)
            self.connections.discard(oldest)  # another connection may come before it is closed
            oldest.transport.abort()

    def _wait_for_head(self) -> None:
        if self._head_timer is None and self.timeout_keep_alive_task is None:
            self._head_timer = self.loop.call_later(HEAD_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
