"""Sends a stream over SRT; libsrt drops late data."""

from __future__ import annotations

import time
from collections import deque

from rtface.errors import MissingComponent, RtfaceError, UsageError
from rtface.live.sinks.tcp_channel import ConnectionLost, SendQueue
from rtface.live.sources.srt import MESSAGE, SrtConnection
from rtface.redaction import shown

# A peer confirms messages within milliseconds. It counts as away if it has confirmed no message of the last
# `_CONFIRMED_S` for `_SILENT_S`. The library would wait for about five seconds, and drop late messages meanwhile.
_CONFIRMED_S, _SILENT_S = 0.9, 1.2


class SrtLink(SendQueue):
    """A connection to one peer, used like a `rtface.live.sinks.rtmp.RtmpLink`.

    Args:
        url: address, passphrase included.

    Raises:
        ConnectionLost: there is no peer.
        UsageError, MissingComponent: the address or libsrt cannot be used.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        try:
            self._peer = SrtConnection(url, sending=True)
        except (UsageError, MissingComponent):
            raise
        except (RtfaceError, OSError) as error:
            raise ConnectionLost(str(error).removeprefix(f"{shown(url)}: ").partition(";")[0]) from None
        self._recent: deque[float] = deque()  # times when the last messages were sent
        self._silent: float | None = None
        self._handed = 0

    @property
    def unsent(self) -> int:
        return self.waiting_bytes + self._peer.unsent

    def step(self) -> None:
        if not self.waiting_bytes:
            self._wait()
        if head := self._head(MESSAGE):
            self._peer.send(bytes(head))
            self._handed += len(head)
            self._recent.append(time.monotonic())
            self._sent(len(head))
        now, unsent = time.monotonic(), self._peer.unsent
        while self._recent and now - self._recent[0] > _CONFIRMED_S:
            self._recent.popleft()
        self._silent = (self._silent or now) if 0 < len(self._recent) <= unsent else None
        if self._silent is not None and now - self._silent > _SILENT_S:
            raise ConnectionLost("it accepts no more data")
        self.accepted = max(self.accepted, self._handed - unsent * MESSAGE)

    def close(self) -> None:
        self._peer.close()
