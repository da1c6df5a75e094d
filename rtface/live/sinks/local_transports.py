"""Transports of MPEG-TS to viewers on this machine or nearby: a TCP server, and UDP datagrams."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from rtface.live.messages import TransportStatus
from rtface.live.sinks.tcp_channel import ConnectionLost, TcpChannel, reason
from rtface.live.sinks.transport import GIVEN_UP, LATE, TICK, SelectWaker


class ListenTransport:
    """Listens, and gives MPEG-TS to whoever comes: each begins with the tables and an I-frame, and none waits for
    another. One that is too slow loses what it did not fetch and begins anew."""

    format = "mpegts"

    def __init__(self, place: tuple[str, int], changed: Callable[[], None]) -> None:
        self.generation = 0
        self.status = TransportStatus("opening", "", viewers=0)
        self._place, self._changed = place, changed
        self._viewers: dict[TcpChannel, bool] = {}  # and whether it has begun
        self._taken: dict[TcpChannel, int] = {}
        self._lock = threading.Lock()
        self._key = False
        self._bytes = 0
        self._closing = threading.Event()
        self._wake = SelectWaker()
        self._thread = threading.Thread(target=self._run, name="rtface-viewers", daemon=True)

    @property
    def behind(self) -> bool:
        return False

    def start(self, *, patient: bool) -> None:
        family = socket.AF_INET6 if ":" in self._place[0] else socket.AF_INET
        try:
            self._listener = socket.create_server(self._place, family=family, backlog=8)
        except OSError as error:
            raise ConnectionLost(f"cannot listen there: {reason(error)}") from None
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
                elif not viewer.waiting_bytes and (start := tables(data)) is not None:
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
                selector.select(TICK)
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
                viewer = TcpChannel(peer)
                selector.register(peer, selectors.EVENT_READ)
                with self._lock:
                    self._viewers[viewer] = False
                self._key, self.generation = True, 1
                self._say()

    def _serve(self, viewer: TcpChannel, selector: selectors.DefaultSelector) -> None:
        try:
            viewer.receive()
            viewer.flush()
            accepted, idle = viewer.look()
            if idle > GIVEN_UP:
                raise ConnectionLost("takes nothing")
            self._bytes += accepted - self._taken.get(viewer, 0)
            self._taken[viewer] = accepted
            self.status = replace(self.status, bytes=self._bytes)
        except ConnectionLost:
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


class UdpTransport:
    """MPEG-TS in datagrams; nobody tells whether they arrive."""

    format = "mpegts"

    def __init__(self, place: tuple[str, int], size: int, ttl: int | None, changed: Callable[[], None]) -> None:
        self.generation = 0
        self.status = TransportStatus("opening", "")
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
            raise ConnectionLost(reason(error)) from None
        self._socket.setblocking(False)
        self.generation = 1
        self.status = TransportStatus("live", "sending")
        self._changed()

    def wants_key(self) -> bool:
        return False

    def write(self, generation: int, data: bytes) -> None:
        for number, at in enumerate(range(0, len(data), self._size)):
            if number % 24 == 23:
                time.sleep(0.001)  # an I-frame in one burst would not fit into a receiver's buffer
            with suppress(OSError):  # nobody there, or no room: datagrams get lost
                self._sent += self._socket.send(data[at:at + self._size])
        self.status = replace(self.status, bytes=self._sent)

    def close(self, seconds: float) -> None:
        self._socket.close()


def tables(data: bytes) -> int | None:
    """Where a viewer can begin in whole packets of MPEG-TS: at the programme's tables in front of an I-frame; None
    where there are none."""
    begin: int | None = None
    for at in range(0, len(data) - 187, 188):
        packet = data[at:at + 188]
        if not packet[1] & 0x1F and not packet[2]:
            begin = at
        elif begin is not None and packet[3] & 0x20 and packet[4] and packet[5] & 0x40:  # a decoder can begin here
            body = packet[5 + packet[4]:]
            if body[:3] == b"\0\0\1" and body[3] & 0xF0 == 0xE0:  # with a frame
                return begin
    return None
