"""The interface of a stream's transport, and what all transports share.

A transport carries a container's bytes: to a server that is connected again whenever it is lost, to viewers that
connect and leave, or in datagrams. Its `write` never waits: a thread of the transport sends the bytes.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Protocol

from rtface.live.messages import TransportStatus

# Seconds without the peer taking a byte after which it counts as away, and after which it is connected again.
STALLED, GIVEN_UP = 2.0, 6.0
# Seconds that bytes may wait. While some wait longer, frames are dropped before they are encoded.
LATE = 0.5
TICK = 0.1


class Transport(Protocol):
    """Sends the bytes of a container to one or more peers.

    Attributes:
        format: FFmpeg's name of the container.
        generation: rises with every peer that needs the container from its header on; 0 while no peer takes data.
        behind: whether bytes have waited too long.
        status: state of the connection.
    """

    format: str
    generation: int
    status: TransportStatus

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
        """Whether a viewer waits for an I-frame; asked before each frame, true once for each request."""
        ...

    def write(self, generation: int, data: bytes) -> None:
        """Queues bytes of a generation; those of an older one are dropped."""
        ...

    def close(self, seconds: float) -> None:
        """Sends what waits, for `seconds` at most, and closes the connection."""
        ...


class SelectWaker:
    """Wakes another thread from its `select`."""

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
