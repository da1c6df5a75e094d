"""The base class of a stream's transports.

A transport carries a container's bytes: to a server that is connected again whenever it is lost, to viewers that
connect and leave, or in datagrams. Its `write` never waits: a thread of the transport sends the bytes.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from rtface.live.messages import TransportStatus

# Seconds without the peer taking a byte after which it counts as away, and after which it is connected again.
STALLED, GIVEN_UP = 2.0, 6.0
# Seconds that bytes may wait. While some wait longer, frames are dropped before they are encoded.
LATE = 0.5
TICK = 0.1


class Transport:
    """Sends the bytes of a container to one or more peers.

    Args:
        status: the first.
        changed: called, on threads of the transport, when the status has changed in more than its bytes.

    Attributes:
        format: FFmpeg's name of the container.
        generation: rises with every peer that needs the container from its header on; 0 while no peer takes data.
        status: state of the connection.
    """

    format = "mpegts"

    def __init__(self, status: TransportStatus, changed: Callable[[], None]) -> None:
        self.generation = 0
        self.status, self._changed = status, changed

    @property
    def behind(self) -> bool:
        """Whether bytes have waited too long."""
        return False

    def start(self, *, patient: bool) -> None:
        """Begins; what does not work the first time is an error unless `patient`.

        Raises:
            ConnectionLost: it does not work.
            UsageError: the address cannot be used.
        """
        raise NotImplementedError

    def wants_key(self) -> bool:
        """Whether a viewer waits for an I-frame; asked before each frame, true once for each request."""
        return False  # every generation begins with one

    def write(self, generation: int, data: bytes) -> None:
        """Queues bytes of a generation; those of an older one are dropped."""
        raise NotImplementedError

    def close(self, seconds: float) -> None:
        """Sends what waits, for `seconds` at most, and closes the connection."""
        raise NotImplementedError

    def _set(self, *, quiet: bool = False, **fields: Any) -> None:
        """Sets fields of the status, and reports a change unless `quiet`."""
        before, self.status = self.status, replace(self.status, **fields)
        if self.status != before and not quiet:
            self._changed()


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
