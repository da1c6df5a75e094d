"""Where a stream's bytes go: a server that is connected again whenever it is lost, viewers that come and go, datagrams.

None of them ever waits: bytes are left with them, threads of theirs send.
"""

from __future__ import annotations

import random
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol
from urllib.parse import SplitResult, parse_qs, urlsplit

from rtface.errors import UsageError
from rtface.live.channel import Channel, Lost, reason
from rtface.live.rtmp import ANSWER, Place, Publisher
from rtface.live.stream_mux import DATAGRAM

# Seconds without the peer taking a byte: then it is away; then it is given up and connected anew.
STALLED, GIVEN_UP = 2.0, 6.0
# What waits longer than this is late: pictures are dropped before they are encoded until it is gone.
LATE = 0.5
# Waiting between tries: doubles from the first to a cap, which is higher when the peer has been away for long.
_FIRST, _CAP, _LONG, _LONG_CAP = 0.25, 1.0, 60.0, 10.0
_TICK = 0.1


def pause(tries: int, away: float) -> float:
    """Seconds to wait after so many tries to reach a peer that has been away for so long."""
    cap = _CAP if away < _LONG else _LONG_CAP
    return min(cap, _FIRST * 2 ** min(tries, 10)) * random.uniform(0.8, 1.2)


@dataclass(frozen=True, slots=True)
class Status:
    """How an outlet is; the fields are those of `rtface.live.protocols.Health`."""

    state: Literal["opening", "live", "away"]
    detail: str
    bytes: int = 0
    reopened: int = 0
    viewers: int | None = None


class Outlet(Protocol):
    """Takes the bytes of a container.

    Attributes:
        format: FFmpeg's name of the container.
        generation: rises with every peer that needs the container from its header on; 0 while nobody takes anything.
        behind: whether what it was given is late already.
        status: how it is.
    """

    format: str
    generation: int
    status: Status

    @property
    def behind(self) -> bool: ...

    def start(self, *, patient: bool) -> None:
        """Begins; what does not work the first time is an error unless `patient`.

        Raises:
            Lost: it does not work.
            UsageError: the address cannot be used.
        """
        ...

    def wants_key(self) -> bool:
        """Whether somebody waits for a key frame; asked before each picture, true once each time."""
        ...

    def write(self, generation: int, data: bytes) -> None:
        """Takes bytes that belong to a generation; those of an older one are dropped."""
        ...

    def close(self, seconds: float) -> None:
        """Sends what waits, for so long at most, and ends."""
        ...


class Link(Protocol):
    """A connection to one peer, as `Publisher`."""

    channel: Channel

    def put(self, data: bytes) -> None: ...

    def received(self, data: bytes) -> None: ...

    def goodbye(self) -> None: ...


class _Plain:
    """A peer that takes the container's bytes as they are."""

    def __init__(self, place: tuple[str, int]) -> None:
        try:
            self.channel = Channel(socket.create_connection(place, ANSWER))
        except OSError as error:
            raise Lost(reason(error)) from None
        self.put = self.channel.put

    def received(self, data: bytes) -> None:
        pass

    def goodbye(self) -> None:
        pass


class ServerOutlet:
    """One server, connected again whenever it is lost or takes nothing for some seconds."""

    def __init__(self, format: str, connect: Callable[[], Link], changed: Callable[[], None]) -> None:
        self.format, self.generation = format, 0
        self.status = Status("opening", "connecting")
        self._connect, self._changed = connect, changed
        self._link: Link | None = None
        self._count = 0
        self._bytes = 0
        self._closing = threading.Event()
        self._wake = _Wake()
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
        lost, tries, began = time.monotonic(), 0, time.monotonic()
        while not self._closing.is_set():
            try:
                if self._link is None:
                    self._begin()
                    began = time.monotonic()
                self._serve()
            except (Lost, OSError, ValueError, RuntimeError) as error:
                now = time.monotonic()
                if self._link is not None:
                    if now - began > 5:  # one that takes us and throws us out is not there yet
                        tries = 0
                    lost = now
                    self._end()
                self._say("away", str(error) if isinstance(error, Lost) else type(error).__name__)
            if not self._closing.is_set():
                self._closing.wait(pause(tries, time.monotonic() - lost))
                tries += 1
        if self._link is not None:
            self._end()

    def _serve(self) -> None:
        """Sends and listens until the peer is lost or the outlet closes."""
        assert self._link is not None
        link, channel = self._link, self._link.channel
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake.reader, selectors.EVENT_READ)
            selector.register(channel.peer, selectors.EVENT_READ)
            while not self._closing.is_set():
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if channel.waiting_bytes else 0)
                selector.modify(channel.peer, events)
                selector.select(_TICK)
                self._wake.clear()
                while data := channel.receive():
                    link.received(data)
                channel.flush()
                accepted, idle = channel.look()
                self.status = replace(self.status, bytes=self._bytes + accepted)
                if idle > GIVEN_UP:
                    raise Lost("it takes nothing any more")
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


class ViewersOutlet:
    """Listens, and gives MPEG-TS to whoever comes: each begins with the tables and a key frame, and none waits for
    another. One that is too slow loses what it did not fetch and begins anew."""

    format = "mpegts"

    def __init__(self, place: tuple[str, int], changed: Callable[[], None]) -> None:
        self.generation = 0
        self.status = Status("opening", "", viewers=0)
        self._place, self._changed = place, changed
        self._viewers: dict[Channel, bool] = {}  # and whether it has begun
        self._taken: dict[Channel, int] = {}
        self._lock = threading.Lock()
        self._key = False
        self._bytes = 0
        self._closing = threading.Event()
        self._wake = _Wake()
        self._thread = threading.Thread(target=self._run, name="rtface-viewers", daemon=True)

    @property
    def behind(self) -> bool:
        return False

    def start(self, *, patient: bool) -> None:
        family = socket.AF_INET6 if ":" in self._place[0] else socket.AF_INET
        try:
            self._listener = socket.create_server(self._place, family=family, backlog=8)
        except OSError as error:
            raise Lost(f"cannot listen there: {reason(error)}") from None
        self._listener.setblocking(False)
        self._say()
        self._thread.start()

    def wants_key(self) -> bool:
        wanted, self._key = self._key, False
        return wanted

    def write(self, generation: int, data: bytes) -> None:
        with self._lock:
            for viewer, begun in self._viewers.items():
                if begun and viewer.age > LATE * 4:
                    viewer.forget()
                    begun = self._viewers[viewer] = False
                    self._key = True
                if begun:
                    viewer.put(data)
                elif not viewer.waiting_bytes and (start := _tables(data)) is not None:
                    self._viewers[viewer] = True
                    viewer.put(data[start:])
        self._wake()

    def close(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and any(v.waiting_bytes for v in list(self._viewers)):
            self._wake()
            time.sleep(0.01)
        self._closing.set()
        self._wake()
        self._thread.join(max(0.05, until - time.monotonic()))

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake.reader, selectors.EVENT_READ)
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._closing.is_set():
                for viewer in self._viewers:
                    events = selectors.EVENT_READ | (selectors.EVENT_WRITE if viewer.waiting_bytes else 0)
                    selector.modify(viewer.peer, events)
                selector.select(_TICK)
                self._wake.clear()
                self._accept(selector)
                for viewer in list(self._viewers):
                    self._serve(viewer, selector)
        for viewer in self._viewers:
            viewer.close()
        self._listener.close()

    def _accept(self, selector: selectors.DefaultSelector) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                viewer = Channel(peer)
                selector.register(peer, selectors.EVENT_READ)
                with self._lock:
                    self._viewers[viewer] = False
                self._key, self.generation = True, 1
                self._say()

    def _serve(self, viewer: Channel, selector: selectors.DefaultSelector) -> None:
        try:
            viewer.receive()
            viewer.flush()
            accepted, idle = viewer.look()
            if idle > GIVEN_UP:
                raise Lost("takes nothing")
            self._bytes += accepted - self._taken.get(viewer, 0)
            self._taken[viewer] = accepted
            self.status = replace(self.status, bytes=self._bytes)
        except Lost:
            selector.unregister(viewer.peer)
            self._taken.pop(viewer, None)
            with self._lock:
                del self._viewers[viewer]
                if not self._viewers:
                    self.generation = 0
            viewer.close()
            self._say()

    def _say(self) -> None:
        count = len(self._viewers)
        self.status = replace(self.status, state="live", viewers=count,
                              detail="nobody watches" if not count else f"{count} watch" + "es" * (count == 1))
        self._changed()


class DatagramOutlet:
    """MPEG-TS in datagrams; nobody tells whether they arrive."""

    format = "mpegts"

    def __init__(self, place: tuple[str, int], size: int, ttl: int | None, changed: Callable[[], None]) -> None:
        self.generation = 0
        self.status = Status("opening", "")
        self._place, self._size, self._ttl, self._changed = place, size, ttl, changed
        self._rest = b""
        self._sent = 0

    @property
    def behind(self) -> bool:
        return False

    def start(self, *, patient: bool) -> None:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(*self._place, type=socket.SOCK_DGRAM)[0]
            self._socket = socket.socket(family, kind, protocol)
            if self._ttl is not None:
                self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, self._ttl)
            self._socket.connect(address)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        except OSError as error:
            raise Lost(reason(error)) from None
        self._socket.setblocking(False)
        self.generation = 1
        self.status = Status("live", "sending")
        self._changed()

    def wants_key(self) -> bool:
        return False

    def write(self, generation: int, data: bytes) -> None:
        for number, at in enumerate(range(0, len(data), self._size)):
            if number % 24 == 23:
                time.sleep(0.001)  # a key frame in one burst would not fit into a receiver's buffer
            with suppress(OSError):  # nobody there, or no room: datagrams get lost
                self._sent += self._socket.send(data[at:at + self._size])
        self.status = replace(self.status, bytes=self._sent)

    def close(self, seconds: float) -> None:
        self._socket.close()


class _Wake:
    """Ends another thread's `select`."""

    def __init__(self) -> None:
        self.reader, self._writer = socket.socketpair()
        self.reader.setblocking(False)
        self._writer.setblocking(False)

    def __call__(self) -> None:
        with suppress(OSError):
            self._writer.send(b"\0")

    def clear(self) -> None:
        with suppress(OSError):
            self.reader.recv(4096)


def open_outlet(url: str, changed: Callable[[], None]) -> Outlet:
    """The outlet for a URL, not yet started.

    Args:
        url: with its secrets.
        changed: told, on threads of the outlet, when its status says something else.

    Raises:
        UsageError: nothing can be sent there.
    """
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme in ("rtmp", "rtmps"):
        place = Place.of(url)
        return ServerOutlet("flv", lambda: Publisher(place), changed)
    if scheme == "srt":
        from rtface.live.srt_outlet import SrtOutlet

        return SrtOutlet(url, changed)
    if scheme not in ("tcp", "udp"):
        raise UsageError(f"nothing can be sent over {scheme}")
    place, query = _place(parts), parse_qs(parts.query, keep_blank_values=True)
    if scheme == "udp":
        size = max(188, _number(query, "pkt_size", DATAGRAM) // 188 * 188)
        return DatagramOutlet(place, size, _number(query, "ttl", 0) or None, changed)
    if query.get("listen", ["0"])[0] != "0":
        return ViewersOutlet(place, changed)
    return ServerOutlet("mpegts", lambda: _Plain(place), changed)


def _place(parts: SplitResult) -> tuple[str, int]:
    try:
        port = parts.port
    except ValueError:
        port = None
    if port is None:
        raise UsageError(f"the address needs a port: {parts.scheme}://HOST:PORT")
    return parts.hostname or "127.0.0.1", port


def _number(query: dict[str, list[Any]], name: str, otherwise: int) -> int:
    try:
        return int(query[name][0]) if name in query else otherwise
    except ValueError:
        raise UsageError(f"{name} of the address is a whole number") from None


def _tables(data: bytes) -> int | None:
    """Where a viewer can begin in whole packets of MPEG-TS: at the programme's tables, which stand before every key
    frame; None where there are none."""
    for at in range(0, len(data) - 187, 188):
        if not data[at + 1] & 0x1F and not data[at + 2]:
            return at
    return None
