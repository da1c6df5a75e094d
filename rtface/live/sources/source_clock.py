"""Maps a source's own clock to the monotonic clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

# Seconds between a stamp and its arrival from which the source's clock counts as reset.
JUMP = 1.0
# Seconds of arrivals from which the offset is taken: the quickest of them, since a network only ever delays.
_WINDOW = 2.0
# Seconds by which the offset may move in one second, so that the change is not noticed; in a recording it stays, and
# follows no more than two clocks that differ.
_SLEW, _RECORDED_SLEW = 0.01, 0.0005


@dataclass(slots=True)
class _Epoch:
    """A stretch in which the source's clock ran on.

    Attributes:
        offset: monotonic minus source's time.
        moved: when it was last brought nearer to what is measured.
        seen: arrival and measured offset, oldest first.
    """

    offset: float
    moved: float
    seen: deque[tuple[float, float]] = field(default_factory=lambda: deque[tuple[float, float]]())


class SourceClock:
    """Times of one connection, for its frames ("video") and sound ("sound") together.

    Both keep the distance that they have at the source: they share one offset. It follows the drift between the two
    clocks slowly. Where the source's clock jumps, whichever comes first begins a new offset, and the other follows when
    it jumps as well. Not for several threads.

    Args:
        recorded: whether all outputs are files.
    """

    def __init__(self, *, recorded: bool = False) -> None:
        self._slew = _RECORDED_SLEW if recorded else _SLEW
        self._epochs: dict[str, _Epoch] = {}
        self._last: dict[str, tuple[float, float]] = {}
        self._newest: _Epoch | None = None

    def time(self, track: str, stamp: float | None, arrived: float) -> float:
        """When something is to be seen or heard.

        Args:
            track: "video" or "sound".
            stamp: the source's time of it, None where that is unknown: then it is the arrival.
            arrived: when it was there.
        """
        if stamp is None:
            return arrived
        measured = arrived - stamp
        epoch = self._epochs.get(track)
        if epoch is None or self._jumped(track, stamp, arrived):
            newest = self._newest
            if newest is not None and newest is not epoch and abs(measured - newest.offset) < JUMP:
                epoch = newest
            else:
                epoch = self._newest = _Epoch(measured, arrived)
            self._epochs[track] = epoch
        self._last[track] = stamp, arrived
        if epoch is self._newest:
            self._follow(epoch, arrived, measured)
        return stamp + epoch.offset

    def _jumped(self, track: str, stamp: float, arrived: float) -> bool:
        """True if the source's clock jumped. After a stall it did not: packets come late, but in order."""
        before, then = self._last[track]
        step = stamp - before
        return abs(step - (arrived - then)) > JUMP and not -0.5 < step < JUMP

    def _follow(self, epoch: _Epoch, arrived: float, measured: float) -> None:
        seen = epoch.seen
        seen.append((arrived, measured))
        while seen[0][0] < arrived - _WINDOW:
            seen.popleft()
        off = min(m for _, m in seen) - epoch.offset
        # Where all of it has been late for long, the source stood still, and its clock with it.
        if off < -JUMP or (off > JUMP and arrived - seen[0][0] > _WINDOW * 0.8):
            epoch.offset += off
        else:
            most = self._slew * max(0.0, arrived - epoch.moved)
            epoch.offset += min(most, max(-most, off))
        epoch.moved = arrived
