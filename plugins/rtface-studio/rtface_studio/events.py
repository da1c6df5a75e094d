"""Sends changes to every open page over a WebSocket: progress, figures, states."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from rtface.errors import log

SEND_S = 10.0
"""A page that takes no message for this long is disconnected; it reconnects by itself."""


class _Subscriber:
    """An open page, with the newest unsent value of each topic."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._lock = loop, threading.Lock()
        self._waiting: dict[str, Any] = {}
        self._changed = asyncio.Event()

    def put(self, topic: str, value: Any) -> None:
        with self._lock:
            self._waiting[topic] = value
        try:
            self._loop.call_soon_threadsafe(self._changed.set)
        except RuntimeError:
            return  # the server's loop has ended

    async def take(self) -> dict[str, Any]:
        await self._changed.wait()
        self._changed.clear()
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        return waiting


class EventHub:
    """Sends values by topic to all open pages.

    A slow page gets only the newest value of a topic: nothing is queued. A new page gets the last value of every topic
    that was published with `keep`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscribers: set[_Subscriber] = set()
        self._following: dict[str, asyncio.Task[None]] = {}
        self._kept: dict[str, Any] = {}

    @property
    def watched(self) -> bool:
        """True if any page is open."""
        return bool(self._subscribers)

    def publish(self, topic: str, value: Any, *, keep: bool = False) -> None:
        """Sends a value; safe to call from any thread.

        Args:
            topic: what changed, such as "queue" or "film/3/analysis".
            value: anything that JSON can hold.
            keep: whether pages opened later get the value, too; a value of None clears the kept one.
        """
        with self._lock:
            if value is None:
                self._kept.pop(topic, None)
            elif keep:
                self._kept[topic] = value
            subscribers = tuple(self._subscribers)
        for subscriber in subscribers:
            subscriber.put(topic, value)

    def follow(self, topic: str, look: Callable[[], Awaitable[Any]], every_s: float) -> None:
        """Polls a topic from now on, and publishes changed values. Does not poll while no page is open. Logs a failure,
        and continues with the next poll. Call it from the server's loop.

        Args:
            look: function that returns the value, or None if there is none.
            every_s: polling interval in seconds.
        """
        if topic not in self._following:
            self._following[topic] = asyncio.create_task(self._follow(topic, look, every_s))

    async def _follow(self, topic: str, look: Callable[[], Awaitable[Any]], every_s: float) -> None:
        last, failure = None, ""
        while True:
            await asyncio.sleep(every_s)
            if not self.watched:
                continue
            try:
                now = await look()
            except Exception as error:  # noqa: BLE001 - such as a full disk; the next poll may work
                if str(error) != failure:
                    log.warning("studio: %s: %s", topic, error)
                failure = str(error)
                continue
            failure = ""
            if now is not None and now != last:
                last = now
                self.publish(topic, now, keep=True)

    async def serve(self, socket: WebSocket) -> None:
        """Sends messages ``{"topic": …, "value": …}`` to one page until it leaves."""
        subscriber = _Subscriber(asyncio.get_running_loop())
        await socket.accept()
        with self._lock:
            self._subscribers.add(subscriber)
            kept = dict(self._kept)
        for topic, value in kept.items():
            subscriber.put(topic, value)
        gone = asyncio.create_task(_until_gone(socket))
        try:
            while not gone.done():
                taking = asyncio.create_task(subscriber.take())
                await asyncio.wait({gone, taking}, return_when=asyncio.FIRST_COMPLETED)
                if not taking.done():
                    taking.cancel()
                    break
                for topic, value in taking.result().items():
                    await asyncio.wait_for(socket.send_json({"topic": topic, "value": value}), SEND_S)
        except (WebSocketDisconnect, TimeoutError, RuntimeError):
            pass  # the page was closed, or does not read
        finally:
            gone.cancel()
            with self._lock:
                self._subscribers.discard(subscriber)


async def _until_gone(socket: WebSocket) -> None:
    """Waits until the page closes its connection; ignores its messages."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
