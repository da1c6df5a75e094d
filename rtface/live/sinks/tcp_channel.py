"""Sends queued bytes of a stream over TCP, with short waits."""

from __future__ import annotations

import select
import socket
import sys
import threading
import time
from collections import deque
from contextlib import suppress

from rtface.errors import Message

# Maximum number of unsent bytes in the kernel; more would be too old when they are sent.
_MAX_UNSENT_BYTES = 32 << 10
_SEND_BYTES = 64 << 10
TICK = 0.1
"""Maximum seconds that a stream's thread waits before it checks its state."""


class ConnectionLost(Exception):
    """Raised when the peer is lost. The message contains the reason, without secrets."""


class SendQueue:
    """Queues the bytes of a connection. One thread adds bytes; another thread sends them.

    Attributes:
        waiting_bytes: number of queued bytes.
        accepted: number of bytes accepted by the peer, or by the kernel, which buffers only a few.
        idle: seconds without progress while bytes are queued; 0 if unknown.
    """

    def __init__(self) -> None:
        self._queue: deque[tuple[float, memoryview]] = deque()
        self._lock, self._available = threading.Lock(), threading.Event()
        self.waiting_bytes = self.accepted = 0
        self.idle = 0.0

    def put(self, data: bytes) -> None:
        """Queues bytes, and wakes the sending thread."""
        with self._lock:
            self._queue.append((time.monotonic(), memoryview(data)))
            self.waiting_bytes += len(data)
        self._available.set()

    def _wait_for_bytes(self) -> None:
        """Waits up to `TICK` for bytes."""
        self._available.wait(TICK)
        self._available.clear()

    @property
    def age(self) -> float:
        """Seconds that the oldest queued bytes have waited."""
        with self._lock:
            return time.monotonic() - self._queue[0][0] if self._queue else 0.0

    @property
    def unsent(self) -> int:
        """Amount of data that must be sent before closing; 0 for none."""
        return self.waiting_bytes

    def _next_bytes(self, limit: int) -> memoryview:
        """Returns the next bytes to send, at most `limit`; may be empty."""
        with self._lock:
            return self._queue[0][1][:limit] if self._queue else memoryview(b"")

    def _remove(self, count: int) -> None:
        """Removes sent bytes from the queue."""
        with self._lock:
            self.waiting_bytes -= count
            since, data = self._queue.popleft()
            if count < len(data):
                self._queue.appendleft((since, data[count:]))


class TcpChannel(SendQueue):
    """Sends a container's bytes to a connected peer; waits at most `TICK`.

    Args:
        peer: a connected socket; the channel closes it.
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
        """Receives and sends available bytes. Waits up to `TICK` for either.

        Raises:
            ConnectionLost: the connection was lost.
        """
        if not self.waiting_bytes:
            self._wait_for_bytes()
        try:
            if select.select([self._peer], [], [], 0)[0] and not self._peer.recv(65_536):
                raise ConnectionLost("the other end closed the connection")
            if head := self._next_bytes(_SEND_BYTES):
                with suppress(TimeoutError):
                    sent = self._peer.send(head)
                    self.accepted += sent
                    self._remove(sent)
        except OSError as error:
            raise ConnectionLost(reason(error)) from None

    def close(self) -> None:
        """Closes the connection."""
        with suppress(OSError):
            self._peer.close()


def reason(error: OSError) -> str:
    """Explains a connection error in a few words, without the address."""
    if isinstance(error, socket.gaierror):
        return "the host is unknown"
    if isinstance(error, TimeoutError):
        return Message("it does not answer", code="peer_silent")
    if isinstance(error, ConnectionRefusedError):
        return Message("nothing is listening there", code="peer_closed")
    if isinstance(error, (BrokenPipeError, ConnectionResetError, ConnectionAbortedError)):
        return "the connection was lost"
    return error.strerror or type(error).__name__
