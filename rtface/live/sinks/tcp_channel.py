"""A TCP connection that never blocks, and knows how many bytes its peer has acknowledged."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
import time
from collections import deque
from contextlib import suppress

from rtface.errors import Message

# Most unsent bytes in the kernel: more would only be late when they are sent.
_MAX_UNSENT_BYTES = 32 << 10
_SEND_BYTES = 64 << 10


class ConnectionLost(Exception):
    """The peer cannot be reached any more; the message says why in a few words, without secrets."""


class TcpChannel:
    """A connected socket with a queue. One thread puts bytes in, another sends them. As it is, its peer takes a
    container's bytes; `rtface.live.sinks.rtmp.RtmpPublisher` wraps them into messages.

    Args:
        peer: connected; becomes non-blocking, and the channel's to close.

    Attributes:
        peer: the socket.
    """

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        self._waiting: deque[tuple[float, memoryview]] = deque()
        self._lock = threading.Lock()
        self._handed = 0
        self._accepted = 0
        self._moved = time.monotonic()
        self.waiting_bytes = 0
        peer.setblocking(False)
        with suppress(OSError):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError):
            low_water = getattr(socket, "TCP_NOTSENT_LOWAT", 0x201 if sys.platform == "darwin" else None)
            if low_water is None:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * _MAX_UNSENT_BYTES)
            else:
                peer.setsockopt(socket.IPPROTO_TCP, low_water, _MAX_UNSENT_BYTES)

    def put(self, data: bytes) -> None:
        """Queues bytes."""
        with self._lock:
            self._waiting.append((time.monotonic(), memoryview(data)))
            self.waiting_bytes += len(data)

    def received(self, data: bytes) -> None:
        """Takes what the peer sent meanwhile.

        Raises:
            ConnectionLost: the peer ends the stream.
        """

    def end_stream(self) -> None:
        """Queues what tells the peer that the stream is over."""

    def flush(self) -> None:
        """Sends what the kernel takes now.

        Raises:
            ConnectionLost: the connection is gone.
        """
        while True:
            with self._lock:
                if not self._waiting:
                    return
                since, data = self._waiting[0]
            try:
                sent = self.peer.send(data[:_SEND_BYTES])
            except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                raise ConnectionLost(reason(error)) from None
            with self._lock:
                self._handed += sent
                self.waiting_bytes -= sent
                if sent < len(data):
                    self._waiting[0] = since, data[sent:]
                else:
                    self._waiting.popleft()
            if sent < min(len(data), _SEND_BYTES):
                return

    def receive(self) -> bytes:
        """What came, b"" for nothing.

        Raises:
            ConnectionLost: the peer closed the connection.
        """
        try:
            data = self.peer.recv(65_536)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return b""
        except OSError as error:
            raise ConnectionLost(reason(error)) from None
        if not data:
            raise ConnectionLost("the other end closed the connection")
        return data

    def forget(self) -> None:
        """Drops what waits, except a piece that is half sent."""
        with self._lock:
            head = self._waiting[0] if self._waiting else None
            self._waiting.clear()
            self.waiting_bytes = 0
            if head is not None and len(head[1]) != len(head[1].obj):  # pyright: ignore[reportArgumentType]
                self._waiting.append(head)
                self.waiting_bytes = len(head[1])

    @property
    def age(self) -> float:
        """Seconds that the oldest of what waits has waited."""
        with self._lock:
            return time.monotonic() - self._waiting[0][0] if self._waiting else 0.0

    def progress(self) -> tuple[int, float]:
        """Bytes that the peer has taken (where the kernel tells: acknowledged; else: that the kernel took), and for
        how many seconds it has taken none of those that wait for it."""
        held = _unacknowledged(self.peer)
        accepted = max(self._accepted, self._handed - held)
        now = time.monotonic()
        if accepted > self._accepted or (held == 0 and not self.waiting_bytes):
            self._moved = now
        self._accepted = accepted
        return accepted, now - self._moved

    def close(self) -> None:
        """Ends the connection."""
        with suppress(OSError):
            self.peer.close()


def reason(error: OSError) -> str:
    """Why a connection is not there, in a few words; no address."""
    if isinstance(error, socket.gaierror):
        return "the host is not known"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"no TLS with it ({error.reason or 'it does not answer as it should'})"
    if isinstance(error, TimeoutError):
        return Message("it does not answer", code="peer_silent")
    if isinstance(error, ConnectionRefusedError):
        return Message("nothing listens there", code="peer_closed")
    if isinstance(error, (BrokenPipeError, ConnectionResetError, ConnectionAbortedError)):
        return "the connection was lost"
    return error.strerror or type(error).__name__


def _unacknowledged(peer: socket.socket) -> int:
    """Bytes in the kernel that the peer has not acknowledged; 0 where the platform does not say."""
    try:
        if sys.platform == "linux":
            import fcntl
            import termios

            return int.from_bytes(fcntl.ioctl(peer.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        if sys.platform == "darwin":
            return peer.getsockopt(socket.SOL_SOCKET, 0x1024)  # SO_NWRITE
    except OSError:
        pass
    return 0
