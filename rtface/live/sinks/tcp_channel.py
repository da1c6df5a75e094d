"""Sends a stream: a queue of bytes, and a TCP connection with short waits."""

from __future__ import annotations

import select
import socket
import sys
import threading
import time
from collections import deque
from contextlib import suppress

from rtface.errors import Message

# Most unsent bytes in the kernel: more would only be late when they are sent.
_MAX_UNSENT_BYTES = 32 << 10
_SEND_BYTES = 64 << 10
TICK = 0.1
"""Seconds that a thread of a stream waits at most before it looks around."""


class ConnectionLost(Exception):
    """The peer cannot be reached any more; the message says why in a few words, without secrets."""


class SendQueue:
    """The bytes of a connection that wait. One thread puts them in; another sends them.

    Attributes:
        waiting_bytes: put in, and not sent yet.
        accepted: bytes that the peer has taken, or the kernel, which keeps few.
        idle: seconds for which none of those that wait were taken; 0 where that is not known.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, memoryview]] = deque()
        self._lock, self._there = threading.Lock(), threading.Event()
        self.waiting_bytes = self.accepted = 0
        self.idle = 0.0

    def put(self, data: bytes) -> None:
        """Queues bytes, and wakes the thread that sends."""
        with self._lock:
            self._waiting.append((time.monotonic(), memoryview(data)))
            self.waiting_bytes += len(data)
        self._there.set()

    def _wait(self) -> None:
        """Waits up to `TICK` for bytes."""
        self._there.wait(TICK)
        self._there.clear()

    @property
    def age(self) -> float:
        """Seconds that the oldest of what waits has waited."""
        with self._lock:
            return time.monotonic() - self._waiting[0][0] if self._waiting else 0.0

    @property
    def unsent(self) -> int:
        """How much the end of the stream has to wait for; 0 when all is out."""
        return self.waiting_bytes

    def _head(self, most: int) -> memoryview:
        """The next bytes to send, at most so many; none where nothing waits."""
        with self._lock:
            return self._waiting[0][1][:most] if self._waiting else memoryview(b"")

    def _sent(self, count: int) -> None:
        """Takes bytes that were sent out of the queue."""
        with self._lock:
            self.waiting_bytes -= count
            since, data = self._waiting.popleft()
            if count < len(data):
                self._waiting.appendleft((since, data[count:]))


class TcpChannel(SendQueue):
    """A connected socket that waits for its peer for `TICK` at most; the peer takes a container's bytes.

    Args:
        peer: connected; the channel's to close.
    """

    def __init__(self, peer: socket.socket) -> None:
        super().__init__()
        self._peer = peer
        peer.settimeout(TICK)
        with suppress(OSError):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError):
            low_water = getattr(socket, "TCP_NOTSENT_LOWAT", 0x201 if sys.platform == "darwin" else None)
            if low_water is None:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * _MAX_UNSENT_BYTES)
            else:
                peer.setsockopt(socket.IPPROTO_TCP, low_water, _MAX_UNSENT_BYTES)

    def step(self) -> None:
        """Receives and sends what can be; waits up to `TICK` for bytes to send, or until they are taken.

        Raises:
            ConnectionLost: the connection is gone.
        """
        if not self.waiting_bytes:
            self._wait()
        try:
            if select.select([self._peer], [], [], 0)[0] and not self._peer.recv(65_536):
                raise ConnectionLost("the other end closed the connection")
            if head := self._head(_SEND_BYTES):
                with suppress(TimeoutError):
                    sent = self._peer.send(head)
                    self.accepted += sent
                    self._sent(sent)
        except OSError as error:
            raise ConnectionLost(reason(error)) from None

    def close(self) -> None:
        """Ends the connection."""
        with suppress(OSError):
            self._peer.close()


def reason(error: OSError) -> str:
    """Why a connection is not there, in a few words; no address."""
    if isinstance(error, socket.gaierror):
        return "the host is not known"
    if isinstance(error, TimeoutError):
        return Message("it does not answer", code="peer_silent")
    if isinstance(error, ConnectionRefusedError):
        return Message("nothing listens there", code="peer_closed")
    if isinstance(error, (BrokenPipeError, ConnectionResetError, ConnectionAbortedError)):
        return "the connection was lost"
    return error.strerror or type(error).__name__
