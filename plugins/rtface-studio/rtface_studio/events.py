"""Sends progress, figures and states to every open page over a WebSocket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from rtface.errors import log

SEND_S = 10.0
"""A page that reads no message for this many seconds is disconnected. It reconnects by itself."""


class _Subscriber:
    """An open page, with the newest unsent value of each topic."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._lock = loop, threading.Lock()
        self._unsent: dict[str, Any] = {}
        self._changed = asyncio.Event()

    def put(self, topic: str, value: Any) -> None:
        with self._lock:
            self._unsent[topic] = value
        try:
            self._loop.call_soon_threadsafe(self._changed.set)
        except RuntimeError:
            return  # the server's event loop has ended

    async def take(self) -> dict[str, Any]:
        await self._changed.wait()
        self._changed.clear()
        with self._lock:
            unsent, self._unsent = self._unsent, {}
        return unsent


class EventHub:
    """Sends values by topic to all open pages.

    A slow page gets only the newest value of each topic, because values are not queued. A new page gets the
    last value of every topic that was published with `keep`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscribers: set[_Subscriber] = set()
        self._polls: dict[str, asyncio.Task[None]] = {}
        self._last_values: dict[str, Any] = {}

    @property
    def watched(self) -> bool:
        """True if any page is open."""
        return bool(self._subscribers)

    def publish(self, topic: str, value: Any, *, keep: bool = False) -> None:
        """Sends a value. Safe to call from any thread.

        Args:
            topic: what changed, such as "queue" or "film/3/analysis".
            value: any value that JSON can represent.
            keep: whether pages that are opened later get the value, too. A `value` of None discards the stored one.
        """
        with self._lock:
            if value is None:
                self._last_values.pop(topic, None)
            elif keep:
                self._last_values[topic] = value
            subscribers = tuple(self._subscribers)
        for subscriber in subscribers:
            subscriber.put(topic, value)

    def follow(self, topic: str, poll: Callable[[], Awaitable[Any]], every_s: float) -> None:
        """Polls a topic while any page is open, and publishes changed values. Logs failures, and continues with the
        next poll. Call this method from the server's event loop.

        Args:
            poll: function that returns the value; None if there is none.
            every_s: polling interval in seconds.
        """
        if topic not in self._polls:
            self._polls[topic] = asyncio.create_task(self._follow(topic, poll, every_s))

    async def _follow(self, topic: str, poll: Callable[[], Awaitable[Any]], every_s: float) -> None:
        previous, failure = None, ""
        while True:
            await asyncio.sleep(every_s)
            if not self.watched:
                continue
            try:
                value = await poll()
            except Exception as error:  # noqa: BLE001 - for example a full disk; the next poll may succeed
                if str(error) != failure:
                    log.warning("studio: %s: %s", topic, error)
                failure = str(error)
                continue
            failure = ""
            if value is not None and value != previous:
                previous = value
                self.publish(topic, value, keep=True)

    async def serve(self, socket: WebSocket) -> None:
        """Sends messages ``{"topic": …, "value": …}`` to one page until it disconnects."""
        subscriber = _Subscriber(asyncio.get_running_loop())
        await socket.accept()
        with self._lock:
            self._subscribers.add(subscriber)
            last_values = dict(self._last_values)
        for topic, value in last_values.items():
            subscriber.put(topic, value)
        disconnection = asyncio.create_task(_wait_for_disconnection(socket))
        try:
            while not disconnection.done():
                next_values = asyncio.create_task(subscriber.take())
                await asyncio.wait({disconnection, next_values}, return_when=asyncio.FIRST_COMPLETED)
                if not next_values.done():
                    next_values.cancel()
                    break
                for topic, value in next_values.result().items():
                    await asyncio.wait_for(socket.send_json({"topic": topic, "value": value}), SEND_S)
        except (WebSocketDisconnect, TimeoutError, RuntimeError):
            pass  # the page was closed, or does not read its messages
        finally:
            disconnection.cancel()
            with self._lock:
                self._subscribers.discard(subscriber)


async def _wait_for_disconnection(socket: WebSocket) -> None:
    """Waits until the page closes its connection. Ignores the page's messages."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
