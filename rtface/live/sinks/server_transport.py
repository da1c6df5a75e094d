"""One server that a stream is published to."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, Protocol

from rtface.live.backoff import retry_delay
from rtface.live.messages import TransportStatus
from rtface.live.sinks.rtmp import ANSWER
from rtface.live.sinks.tcp_channel import ConnectionLost, TcpChannel, reason
from rtface.live.sinks.transport import GIVEN_UP, LATE, STALLED, TICK, SelectWaker


class PublishConnection(Protocol):
    """A connection to one peer, as `Publisher`."""

    channel: TcpChannel

    def put(self, data: bytes) -> None: ...

    def received(self, data: bytes) -> None: ...

    def goodbye(self) -> None: ...


class PlainTcpConnection:
    """A peer that takes the container's bytes as they are."""

    def __init__(self, place: tuple[str, int]) -> None:
        try:
            self.channel = TcpChannel(socket.create_connection(place, ANSWER))
        except OSError as error:
            raise ConnectionLost(reason(error)) from None
        self.put = self.channel.put

    def received(self, data: bytes) -> None:
        pass

    def goodbye(self) -> None:
        pass


class ServerTransport:
    """One server, connected again whenever it is lost or takes nothing for some seconds."""

    def __init__(self, format: str, connect: Callable[[], PublishConnection], changed: Callable[[], None], *,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.format, self.generation = format, 0
        self.status = TransportStatus("opening", "connecting")
        self._connect, self._changed, self._clock = connect, changed, clock
        self._link: PublishConnection | None = None
        self._count = 0
        self._bytes = 0
        self._given = 0  # bytes of the container in all
        self._closing = threading.Event()
        self._wake = SelectWaker()
        self._thread = threading.Thread(target=self._run, name="rtface-server", daemon=True)

    @property
    def behind(self) -> bool:
        link = self._link
        return link is not None and link.channel.age > LATE

    def start(self, *, patient: bool) -> None:
        if not patient:
            self._begin()
        self._thread.start()

    def wants_key(self) -> bool:
        return False  # every generation begins with one

    def write(self, generation: int, data: bytes) -> None:
        link = self._link
        if link is not None and generation == self.generation:
            self._given += len(data)
            link.put(data)
            self._wake()

    def close(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        link = self._link
        if link is not None:
            link.goodbye()
            while link.channel.waiting_bytes and time.monotonic() < until and self._link is link:
                self._wake()
                time.sleep(0.01)
        self._closing.set()
        self._wake()
        self._thread.join(max(0.05, until - time.monotonic()))

    def _begin(self) -> None:
        link = self._connect()
        self._link = link
        self._count += 1
        self.generation = self._count
        self._say("live", "connected", reopened=self._count - 1)

    def _run(self) -> None:
        lost, tries, began = self._clock(), 0, self._clock()
        while not self._closing.is_set():
            try:
                if self._link is None:
                    self._begin()
                    began = self._clock()
                self._serve()
            except (ConnectionLost, OSError, ValueError, RuntimeError) as error:
                now = self._clock()
                if self._link is not None:
                    if now - began > 5:  # one that takes us and throws us out is not there yet
                        tries = 0
                    lost = now
                    self._end()
                self._say("away", str(error) if isinstance(error, ConnectionLost) else type(error).__name__)
            if not self._closing.is_set():
                self._closing.wait(retry_delay(tries, self._clock() - lost))
                tries += 1
        if self._link is not None:
            self._end()

    def _serve(self) -> None:
        """Sends and listens until the peer is lost or the transport closes."""
        assert self._link is not None
        link, channel = self._link, self._link.channel
        taken = given = -1
        moved = self._clock()
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake.reader, selectors.EVENT_READ)
            selector.register(channel.peer, selectors.EVENT_READ)
            while not self._closing.is_set():
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if channel.waiting_bytes else 0)
                selector.modify(channel.peer, events)
                selector.select(TICK)
                self._wake.clear()
                while data := channel.receive():
                    link.received(data)
                channel.flush()
                accepted, idle = channel.look()
                self.status = replace(self.status, bytes=self._bytes + accepted)
                if accepted != taken or self._given == given or channel.waiting_bytes:
                    taken, given, moved = accepted, self._given, self._clock()
                if idle > GIVEN_UP:
                    raise ConnectionLost("it takes nothing any more")
                if self._clock() - moved > STALLED:
                    raise ConnectionLost("what is encoded does not reach it")
                if idle > STALLED:
                    self._say("away", f"it has taken nothing for {idle:.0f} s")
                elif self.status.state != "live":
                    self._say("live", "connected")

    def _end(self) -> None:
        link, self._link, self.generation = self._link, None, 0
        if link is not None:
            self._bytes += link.channel.look()[0]
            link.channel.close()

    def _say(self, state: Literal["live", "away"], detail: str, reopened: int | None = None) -> None:
        before = self.status
        self.status = replace(before, state=state, detail=detail,
                              reopened=before.reopened if reopened is None else reopened)
        if self.status != before:
            self._changed()
