"""A connection over SRT, to a listener or to whoever calls; the library drops what would come too late."""

from __future__ import annotations

import time
from collections import deque

from rtface.errors import MissingComponent, RtfaceError, UsageError
from rtface.live.sinks.tcp_channel import ConnectionLost, SendQueue
from rtface.live.sources.srt import MESSAGE, SrtConnection
from rtface.redaction import shown

# A peer confirms what it got within milliseconds. One that has confirmed nothing of the last so many seconds, for so
# many, is away; the library itself would wait for about five, and throws away what is late meanwhile.
_CONFIRMED, _SILENT = 0.9, 1.2


class SrtLink(SendQueue):
    """A connection to one peer, used as a `rtface.live.sinks.rtmp.RtmpLink`.

    Args:
        url: with its passphrase.

    Raises:
        ConnectionLost: there is no peer.
        UsageError, MissingComponent: there cannot be any.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        try:
            self._peer = SrtConnection(url, sending=True)
        except (UsageError, MissingComponent):
            raise
        except (RtfaceError, OSError) as error:
            raise ConnectionLost(str(error).removeprefix(f"{shown(url)}: ").partition(";")[0]) from None
        self._recent: deque[float] = deque()  # when the last messages were sent
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
        while self._recent and now - self._recent[0] > _CONFIRMED:
            self._recent.popleft()
        self._silent = (self._silent or now) if 0 < len(self._recent) <= unsent else None
        if self._silent is not None and now - self._silent > _SILENT:
            raise ConnectionLost("it takes nothing any more")
        self.accepted = max(self.accepted, self._handed - unsent * MESSAGE)

    def close(self) -> None:
        self._peer.close()
