"""Sends a stream over SRT; libsrt drops late data."""

from __future__ import annotations

import time
from collections import deque

from rtface.errors import MissingComponent, RtfaceError, UsageError
from rtface.live.sinks.tcp_channel import ConnectionLost, SendQueue
from rtface.live.sources.srt import MESSAGE, SrtConnection
from rtface.redaction import shown

# A peer confirms messages within milliseconds. If none of the messages from the last `_CONFIRMED_S` is confirmed for
# `_SILENT_S`, it counts as away. The library alone would wait for about five seconds, and drop late messages meanwhile.
_CONFIRMED_S, _SILENT_S = 0.9, 1.2


class SrtLink(SendQueue):
    """A connection to one peer, used like a `rtface.live.sinks.rtmp.RtmpLink`.

    Args:
        url: address, including the passphrase.

    Raises:
        ConnectionLost: no peer responds.
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
        self._send_times: deque[float] = deque()  # of the last messages
        self._unconfirmed_since: float | None = None
        self._submitted = 0

    @property
    def unsent(self) -> int:
        return self.waiting_bytes + self._peer.unsent

    def step(self) -> None:
        if not self.waiting_bytes:
            self._wait_for_bytes()
        if head := self._next_bytes(MESSAGE):
            self._peer.send(bytes(head))
            self._submitted += len(head)
            self._send_times.append(time.monotonic())
            self._remove(len(head))
        now, unsent = time.monotonic(), self._peer.unsent
        while self._send_times and now - self._send_times[0] > _CONFIRMED_S:
            self._send_times.popleft()
        self._unconfirmed_since = (self._unconfirmed_since or now) if 0 < len(self._send_times) <= unsent else None
        if self._unconfirmed_since is not None and now - self._unconfirmed_since > _SILENT_S:
            raise ConnectionLost("it accepts no more data")
        self.accepted = max(self.accepted, self._submitted - unsent * MESSAGE)

    def close(self) -> None:
        self._peer.close()
