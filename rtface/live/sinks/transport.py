"""What every outlet of a stream is, and what they share: a status, waking a thread.

An outlet is where a stream's bytes go: a server that is connected again whenever it is lost, viewers that come and go,
datagrams. None of them ever waits: bytes are left with it, and a thread of its own sends them.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Protocol

# Seconds without the peer taking a byte: then it is away; then it is given up and connected anew.
STALLED, GIVEN_UP = 2.0, 6.0
# What waits longer than this is late: pictures are dropped before they are encoded until it is gone.
LATE = 0.5
TICK = 0.1


@dataclass(frozen=True, slots=True)
class TransportStatus:
    """How an outlet is; the fields are those of `rtface.live.protocols.EndpointHealth`."""

    state: Literal["opening", "live", "away"]
    detail: str
    bytes: int = 0
    reopened: int = 0
    viewers: int | None = None


class Transport(Protocol):
    """Takes the bytes of a container.

    Attributes:
        format: FFmpeg's name of the container.
        generation: rises with every peer that needs the container from its header on; 0 while nobody takes anything.
        behind: whether what it was given is late already.
        status: how it is.
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
        """Whether somebody waits for a key frame; asked before each picture, true once each time."""
        ...

    def write(self, generation: int, data: bytes) -> None:
        """Takes bytes that belong to a generation; those of an older one are dropped."""
        ...

    def close(self, seconds: float) -> None:
        """Sends what waits, for so long at most, and ends."""
        ...


class SelectWaker:
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
