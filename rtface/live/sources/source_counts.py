"""Counts of a live source over all of its connections, and warnings of what is wrong with it."""

from __future__ import annotations

import threading
from collections import Counter
from functools import partial

from rtface.errors import Message
from rtface.live.messages import Heartbeat
from rtface.live.protocols import BACKLOG_S
from rtface.live.sources.read_process import ReadProcess
from rtface.stats import Stats

_WARNINGS = {
    "backlog": partial(
        Message,
        "{name}: its frames come {seconds} s later than at first and are as much older than they seem: "
        "the network or its sender is too slow; ask it for less (size, frames a second, bitrate)",
        code="source_backlog",
    ),
    "frames_missing": partial(
        Message,
        "{name}: frames of it are missing; the report counts them; check the network",
        code="source_missing",
    ),
    "frames_corrupt": partial(
        Message,
        "{name}: damaged frames come; /status and the report count them; check the cable or the network",
        code="frames_damaged",
    ),
}


class SourceCounts:
    """What the connections to a source have counted, one after another. Safe to use from several threads.

    Args:
        title: of the source, in warnings.
        stats: receives counts and warnings.

    Attributes:
        beat: the heartbeat that was counted last.
    """

    def __init__(self, title: str, stats: Stats) -> None:
        self._title, self._stats, self._lock = title, stats, threading.Lock()
        self._connection: ReadProcess | None = None
        self.beat, self._total = Heartbeat(), Counter[str]()

    def __getitem__(self, name: str) -> int:
        return self._total[name]

    def follow(self, connection: ReadProcess | None) -> None:
        """Counts what another connection has from now on, or none."""
        self.update()
        with self._lock:
            self._connection, self.beat = connection, Heartbeat(buffer=self.beat.buffer)

    def update(self) -> None:
        """Adds what the connection has counted since the last call."""
        with self._lock:
            if self._connection is None:
                return
            before, self.beat = self.beat, self._connection.heartbeat
            news = self.beat.counts - before.counts
            self._total += news
        lost = news["packets_undecoded"] + news["sounds_undecoded"] + news["frames_missing"]
        for name, count in (
            ("dropped:source", news["dropped:source"]),
            ("packets_lost", lost),
            ("frames_corrupt", news["frames_corrupt"]),
        ):
            if count:
                self._stats.count(name, count)
        for name, said in (
            ("backlog", self.beat.backlog > BACKLOG_S),
            ("frames_missing", news["frames_missing"]),
            ("frames_corrupt", news["frames_corrupt"]),
        ):
            if said:
                seconds = round(self.beat.backlog, 1)
                self._stats.warn(name, _WARNINGS[name](name=self._title, seconds=seconds))
