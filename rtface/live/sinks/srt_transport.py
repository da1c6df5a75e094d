"""A stream over SRT: to a listener that is called again whenever it is lost, or to whoever calls."""

from __future__ import annotations

import threading
import time
from collections import deque

from rtface.concurrency.threads import start_thread
from rtface.errors import MissingComponent, RtfaceError, UsageError
from rtface.live.backoff import retry_delay
from rtface.live.messages import TransportStatus
from rtface.live.sinks.tcp_channel import ConnectionLost
from rtface.live.sinks.transports import LATE, Reports, Transport
from rtface.live.sources.srt import MESSAGE, SrtConnection
from rtface.redaction import shown

_TICK = 0.1
# A peer confirms what it got within milliseconds. One that has confirmed nothing of the last so many seconds, for so
# many, is away; the library itself would wait for about five, and throws away what is late meanwhile.
_CONFIRMED, _SILENT = 0.9, 1.2


class SrtTransport(Transport):
    """MPEG-TS over SRT; the library drops what would come too late.

    Args:
        url: with its passphrase.
        reports: as of `Transport`.
    """

    def __init__(self, url: str, reports: Reports) -> None:
        self._url, self._listens = url, "mode=listener" in url.partition("?")[2].split("&")
        super().__init__(TransportStatus("opening", "connecting", viewers=0 if self._listens else None), reports)
        self._link: SrtConnection | None = None
        self._count = self._sent = 0
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._there = threading.Condition()
        self._closing = threading.Event()

    @property
    def behind(self) -> bool:
        with self._there:
            return bool(self._waiting) and time.monotonic() - self._waiting[0][0] > LATE

    def start(self, *, patient: bool) -> None:
        if self._listens:
            self._set(state="live", detail="nobody watches")
        elif not patient:
            self._begin()
        start_thread("srt", self._run)

    def write(self, generation: int, data: bytes) -> None:
        if generation != self.generation:
            return
        now = time.monotonic()
        with self._there:
            self._waiting.extend((now, data[at : at + MESSAGE]) for at in range(0, len(data), MESSAGE))
            self._there.notify()

    def close(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._link is not None and self._unsent() and time.monotonic() < until:
            time.sleep(0.01)
        self._closing.set()
        if self._link is not None:
            self._link.close()

    def _begin(self) -> None:
        """Waits for a peer.

        Raises:
            ConnectionLost: there is none.
            UsageError, MissingComponent: there cannot be any.
        """
        try:
            self._link = SrtConnection(self._url, sending=True)
        except (UsageError, MissingComponent):
            raise
        except (RtfaceError, OSError) as error:
            raise ConnectionLost(str(error).removeprefix(f"{shown(self._url)}: ").partition(";")[0]) from None
        with self._there:
            self._waiting.clear()
        self._count += 1
        self.generation = self._count
        if self._listens:
            self._set(state="live", detail="1 watches", viewers=1)
        else:
            self._set(state="live", detail="connected", reopened=self._count - 1)

    def _run(self) -> None:
        lost, tries = time.monotonic(), 0
        while not self._closing.is_set():
            try:
                if self._link is None:
                    self._begin()
                tries = 0
                self._serve()
            except (ConnectionLost, OSError, RtfaceError) as error:
                if self._link is not None:
                    lost = time.monotonic()
                    self._end()
                if not self._listens:
                    self._set(
                        state="away",
                        detail=error.args[0] if isinstance(error, ConnectionLost) else "the connection was lost",
                    )
                elif self._count:
                    self._set(state="live", detail="nobody watches", viewers=0)
                else:
                    self._set(state="away", detail=str(error))
                self._closing.wait(retry_delay(tries, time.monotonic() - lost))
                tries += 1
        self._end()

    def _serve(self) -> None:
        link = self._link
        assert link is not None
        recent: deque[float] = deque()
        silent: float | None = None
        while not self._closing.is_set():
            with self._there:
                self._there.wait_for(lambda: self._waiting, _TICK)
                data = self._waiting[0][1] if self._waiting else b""
            if data:
                link.send(data)
                self._sent += len(data)
                recent.append(time.monotonic())
                with self._there:
                    self._waiting.popleft()
            now, unsent = time.monotonic(), link.unsent
            while recent and now - recent[0] > _CONFIRMED:
                recent.popleft()
            silent = (silent or now) if 0 < len(recent) <= unsent else None
            if silent is not None and now - silent > _SILENT:
                raise ConnectionLost("it takes nothing any more")
            self._set(quiet=True, bytes=max(self.status.bytes, self._sent - unsent * MESSAGE))

    def _unsent(self) -> int:
        with self._there:
            return len(self._waiting) + (self._link.unsent if self._link is not None else 0)

    def _end(self) -> None:
        link, self._link, self.generation = self._link, None, 0
        if link is not None:
            link.close()
