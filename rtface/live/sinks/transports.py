"""Sends a stream to one peer, or to a TCP server's viewers.

A transport sends a container's bytes to a peer, to which it reconnects after a loss, or to viewers that connect and
leave. `write` never waits, because a thread of the transport sends the bytes.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

from rtface.concurrency.threads import start_thread
from rtface.errors import RtfaceError
from rtface.live.backoff import Retry
from rtface.live.messages import SinkReport
from rtface.live.sinks.rtmp import RtmpLink
from rtface.live.sinks.srt_link import SrtLink
from rtface.live.sinks.tcp_channel import TICK, ConnectionLost, TcpChannel, reason
from rtface.util.text import counted

# Seconds without an accepted byte after which a peer counts as away.
STALLED_S = 2.0
# Seconds that bytes may wait. While bytes wait longer, frames are dropped before they are encoded.
LATE_S = 0.5
# Seconds that bytes may wait for one of several viewers. After that, the viewer is disconnected.
SLOW_S = 2.0


Reports = SimpleQueue[SinkReport | None]
"""Reports of a transport, oldest first; None ends the reporting."""


class Transport:
    """Sends the bytes of a container to one or more peers.

    Args:
        status: initial status.
        reports: receives every status that differs from the previous one in more than the number of bytes.

    Attributes:
        format: FFmpeg's name of the container.
        generation: increases with every peer that needs a new container; 0 while no peer accepts data.
        status: state of the connection.
    """

    format = "mpegts"

    def __init__(self, status: SinkReport, reports: Reports) -> None:
        self.generation = 0
        self.status, self._reports = status, reports

    @property
    def behind(self) -> bool:
        """True if bytes have waited too long."""
        return False

    def start(self, *, patient: bool) -> None:
        """Starts the transport. `patient` retries if the first attempt fails.

        Raises:
            ConnectionLost: the first attempt failed, and `patient` is not set.
            UsageError: the address cannot be used.
        """
        raise NotImplementedError

    def wants_key(self) -> bool:
        """Tests whether a viewer needs an I-frame now, and resets the request."""
        return False  # every generation starts with an I-frame

    def write(self, generation: int, data: bytes) -> None:
        """Queues bytes of a generation; drops bytes of an older generation."""
        raise NotImplementedError

    def close(self, seconds: float) -> None:
        """Sends waiting bytes for at most `seconds`, and closes the connection."""
        raise NotImplementedError

    def _set(self, *, quiet: bool = False, **fields: Any) -> None:
        """Sets fields of the status, and reports a change unless `quiet`."""
        previous, self.status = self.status, replace(self.status, **fields)
        if self.status != previous and not quiet:
            self._reports.put(self.status)


class ServerTransport(Transport):
    """Publishes to one peer, and reconnects when it is lost or stalls.

    Args:
        format: FFmpeg's name of the container.
        connect: function that connects to the peer, or waits for it; raises ConnectionLost if there is no peer.
        reports: see `Transport`.
        listens: whether the peer connects to this end; if so, a missing peer is not a fault.
    """

    def __init__(
        self,
        format: str,
        connect: Callable[[], RtmpLink | SrtLink],
        reports: Reports,
        *,
        listens: bool = False,
    ) -> None:
        super().__init__(SinkReport("opening", "connecting", viewers=0 if listens else None), reports)
        self.format = format
        self._connect, self._listens = connect, listens
        self._link: RtmpLink | SrtLink | None = None
        self._count = 0
        self._bytes = 0
        self._closing = threading.Event()

    @property
    def behind(self) -> bool:
        link = self._link
        return link is not None and link.age > LATE_S

    def start(self, *, patient: bool) -> None:
        if self._listens:
            self._set(state="live", detail="no viewers")
        elif not patient:
            self._open_link()
        self._thread = start_thread("server", self._run)

    def write(self, generation: int, data: bytes) -> None:
        link = self._link
        if link is not None and generation == self.generation:
            link.put(data)

    def close(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        link = self._link
        if link is not None:
            while link.unsent and time.monotonic() < until and self._link is link:
                time.sleep(0.01)
        self._closing.set()
        self._thread.join(max(TICK, until - time.monotonic()))

    def _open_link(self) -> None:
        self._link = self._connect()
        self._count += 1
        self.generation = self._count
        if self._listens:
            self._set(state="live", detail="1 viewer", viewers=1)
        else:
            self._set(state="live", detail="connected", reopened=self._count - 1)

    def _run(self) -> None:
        retry, began = Retry(), time.monotonic()
        while not self._closing.is_set():
            try:
                if self._link is None:
                    self._open_link()
                    began = time.monotonic()
                self._serve()
            except (ConnectionLost, RtfaceError, OSError, ValueError, RuntimeError) as error:
                if self._link is not None:
                    if time.monotonic() - began > 5:  # a server that ends the stream at once was not reached
                        retry.reached()
                    self._close_link()
                if self._listens and self._count:
                    self._set(state="live", detail="no viewers", viewers=0)
                else:
                    readable = isinstance(error, ConnectionLost | RtfaceError)
                    self._set(state="away", detail=str(error) if readable else "the connection was lost")
            retry.wait(self._closing)
        self._close_link()

    def _serve(self) -> None:
        """Sends and receives until the peer is lost or the transport closes."""
        link = self._link
        assert link is not None
        while not self._closing.is_set():
            link.step()
            self._set(quiet=True, bytes=self._bytes + link.accepted)
            if link.idle > STALLED_S:
                self._set(state="away", detail=f"it has accepted no data for {link.idle:.0f} s")
            elif self.status.state != "live":
                self._set(state="live", detail="connected")

    def _close_link(self) -> None:
        link, self._link, self.generation = self._link, None, 0
        if link is not None:
            self._bytes += link.accepted
            link.close()


class ListenTransport(Transport):
    """Listens, and sends MPEG-TS to every viewer that connects. Each viewer's stream starts with the tables and an
    I-frame. Viewers do not wait for each other; one that is too slow is disconnected, and may reconnect."""

    def __init__(self, address: tuple[str, int], reports: Reports) -> None:
        super().__init__(SinkReport("opening", viewers=0), reports)
        self._address = address
        self._viewers: dict[TcpChannel, bool] = {}  # whether the viewer's stream has started
        self._lock = threading.Lock()
        self._key_requested = False
        self._bytes = 0
        self._closing = threading.Event()

    def start(self, *, patient: bool) -> None:
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        try:
            self._listener = socket.create_server(self._address, family=family, backlog=8)
        except OSError as error:
            raise ConnectionLost(f"cannot listen at this address: {reason(error)}") from None
        self._listener.settimeout(TICK)
        self._report_state()
        self._thread = start_thread("viewers", self._run)

    def wants_key(self) -> bool:
        requested, self._key_requested = self._key_requested, False
        return requested

    def write(self, generation: int, data: bytes) -> None:
        with self._lock:
            for viewer, started in self._viewers.items():
                if started:
                    viewer.put(data)
                elif (start := tables(data)) is not None:
                    self._viewers[viewer] = True
                    viewer.put(data[start:])

    def close(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and any(v.waiting_bytes for v in list(self._viewers)):
            time.sleep(0.01)
        self._closing.set()
        self._thread.join(2 * TICK)

    def _run(self) -> None:
        with self._listener:
            while not self._closing.is_set():
                with suppress(OSError):
                    viewer = TcpChannel(self._listener.accept()[0])
                    with self._lock:
                        self._viewers[viewer] = False
                        self._key_requested, self.generation = True, 1
                        self._report_state()
                    start_thread("viewer", self._serve, viewer)

    def _serve(self, viewer: TcpChannel) -> None:
        counted_bytes = 0
        with suppress(ConnectionLost):
            while not self._closing.is_set():
                viewer.step()
                if viewer.age > SLOW_S:
                    break
                with self._lock:
                    self._bytes, counted_bytes = self._bytes + viewer.accepted - counted_bytes, viewer.accepted
                    self._set(quiet=True, bytes=self._bytes)
        with self._lock:
            del self._viewers[viewer]
            if not self._viewers:
                self.generation = 0
            self._report_state()
        viewer.close()

    def _report_state(self) -> None:
        count = len(self._viewers)
        self._set(
            state="live",
            viewers=count,
            detail=counted(count, "viewer") if count else "no viewers",
        )


def tables(data: bytes) -> int | None:
    """Returns the offset at which a viewer can start to decode. `data` consists of whole MPEG-TS packets. The offset is
    that of the programme's tables before an I-frame; None if there is none."""
    tables_at: int | None = None
    for offset in range(0, len(data) - 187, 188):
        packet = data[offset : offset + 188]
        if not packet[1] & 0x1F and not packet[2]:
            tables_at = offset
        elif tables_at is not None and packet[3] & 0x20 and packet[4] and packet[5] & 0x40:  # a random access point
            body = packet[5 + packet[4] :]
            if body[:3] == b"\0\0\1" and body[3] & 0xF0 == 0xE0:  # the start of a frame
                return tables_at
    return None
