"""Time left of a job, from the speed of its workers and the faces on sampled frames of the film.

A frame with a face can take ten times as long as one without, so that a mean speed says little
about a film whose faces are in one half. The costs of a frame and of a face are fitted to what the
workers have done. How many faces follow is known from samples, or else taken to be as before.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# Seconds of a row at first, and the rows that are kept.
_ROW_S, _ROWS = 0.25, 64
# A face costs so many times as much as a frame without faces, before it is measured; seconds of
# measurement that weigh as much as this assumption.
_FACE_COST, _ASSUMED_S = 6.0, 4.0
# Part of the rows that give the speed of a worker, and rows that tell which faces follow at once.
_RECENT, _LATEST = 0.25, 3
# Part of the time left by which it may be wrong at any time.
_LEAST_SPREAD = 0.1


class Row(NamedTuple):
    """What a worker did in some seconds: frames, and the sum of the faces on them."""

    frames: int
    faces: int
    seconds: float


class Pace:
    """Measures what a worker does, from its first frame on, in at most 64 rows of the same length.

    Args:
        clock: seconds, monotonic.

    Attributes:
        rows: in order of time; replaced, never changed.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._row_s = clock, _ROW_S
        self._since: float | None = None
        self._frames = self._faces = 0
        self.rows: list[Row] = []

    def add(self, faces: int) -> None:
        """Counts a finished frame with its faces. The time before the first one is that of loading
        engines, and is not counted."""
        now = self._clock()
        if self._since is None:
            self._since = now
            return
        self._frames += 1
        self._faces += faces
        if now - self._since < self._row_s:
            return
        rows = [*self.rows, Row(self._frames, self._faces, round(now - self._since, 3))]
        if len(rows) >= _ROWS:
            rows = [_sum(rows[k : k + 2]) for k in range(0, len(rows), 2)]
            self._row_s *= 2
        self.rows, self._since, self._frames, self._faces = rows, now, 0, 0


@dataclass(frozen=True, slots=True)
class AtWork:
    """A worker that is there.

    Attributes:
        place: number of its segment, and the part of it that is done (3.25: a quarter of
            segment 3); None between two.
        rows: see `Pace`; none before its first frames.
    """

    place: float | None = None
    rows: Sequence[Row] = ()


def time_left(
    frames: Sequence[int],
    finished: Collection[int],
    workers: Sequence[AtWork],
    samples: Sequence[tuple[float, int]] = (),
) -> float | None:
    """Seconds until all segments are made; None before any worker has made frames.

    The workers that are there take the missing segments by the rule of `choose`, each at
    its recent speed.

    Args:
        frames: of every segment.
        finished: numbers of segments.
        workers: those that are there.
        samples: place (as `AtWork.place`) and number of faces of sampled frames.
    """
    if len(finished) >= len(frames):
        return 0.0
    rows = [row for worker in workers for row in worker.rows]
    if not rows:
        return None
    frame_s, face_s = _costs(rows)
    places = {int(at.place): at.place % 1 for at in workers if at.place is not None}
    ahead: dict[int, list[int]] = {}
    for place, faces in samples:
        number = int(place)
        if number not in finished and place % 1 >= places.get(number, 0.0):
            ahead.setdefault(number, []).append(faces)
    latest = [row for at in workers for row in at.rows[-_LATEST:]] if samples else rows
    mean = _mixed([faces for found in ahead.values() for faces in found], _mean_faces(latest, 0.0))

    def work(number: int, missing: float, before: float) -> float:
        """Seconds of a part of a segment for a worker of mean speed."""
        return frames[number] * missing * (frame_s + face_s * _mixed(ahead.get(number, ()), before))

    leased, over = set(places), set(finished)
    ends: list[tuple[float, int, int | None]] = []  # when a worker is free, which, and its segment
    speeds: list[float] = []
    for k, at in enumerate(workers):
        speeds.append(_speed(at.rows[-max(1, round(len(at.rows) * _RECENT)) :], frame_s, face_s))
        number, left = None if at.place is None else int(at.place), 0.0
        if number is not None and number not in finished:
            left = work(number, 1 - places[number], _mean_faces(at.rows[-_LATEST:], mean))
        ends.append((left / speeds[k], k, number))
    heapq.heapify(ends)
    while True:  # until no worker has a segment; the last one to end is the last here
        end, k, number = heapq.heappop(ends)
        if number is not None:
            leased.discard(number)
            over.add(number)
            number += 1
        if number is None or number >= len(frames) or number in over or number in leased:
            number = choose(len(frames), over, leased)
        if number is not None:
            leased.add(number)
            heapq.heappush(ends, (end + work(number, 1.0, mean) / speeds[k], k, number))
        elif not ends:
            return end


def spread(workers: Sequence[AtWork]) -> tuple[float, float]:
    """The factors between which the time left may lie: how far the speed of the workers that are there was from their
    recent one in each quarter of their work, and a tenth at least."""
    rows = [row for worker in workers for row in worker.rows]
    if not rows:
        return 1 - _LEAST_SPREAD, 1 + _LEAST_SPREAD
    frame_s, face_s = _costs(rows)
    factors = [1 - _LEAST_SPREAD, 1 + _LEAST_SPREAD]
    for worker in workers:
        count = max(1, round(len(worker.rows) * _RECENT))
        now = _speed(worker.rows[-count:], frame_s, face_s)
        factors += [
            now / _speed(worker.rows[k : k + count], frame_s, face_s)
            for k in range(0, len(worker.rows) - count + 1, count)
        ]
    return min(factors), max(factors)


def join_s(frames: int, size: int) -> float:
    """Seconds that joining a film may take: 80 µs a frame (benchmarks/README.md), and a disk of
    200 MB/s that reads the input and segments of the same size, and writes the output.

    Args:
        frames: of the film.
        size: bytes of the input.
    """
    return frames * 80e-6 + 3 * size / 200e6


def _costs(rows: Sequence[Row]) -> tuple[float, float]:
    """Seconds of a frame, and those that each face on it adds: least squares with an assumption."""
    total = _sum(rows)
    frame_s = total.seconds / (total.frames + _FACE_COST * total.faces)
    measured = np.array(rows, np.float64)
    weights = 1.0 / np.sqrt(measured[:, 2])
    # Each cost as some seconds of measurement would have shown it.
    assumed = np.sqrt(_ASSUMED_S) * np.diag((1.0 / frame_s, 1.0 / (_FACE_COST * frame_s)))
    left = np.vstack((measured[:, :2] * weights[:, None], assumed))
    right = np.concatenate((measured[:, 2] * weights, np.full(2, np.sqrt(_ASSUMED_S))))
    fitted = np.linalg.lstsq(left, right)[0]
    return max(float(fitted[0]), frame_s / 10), max(float(fitted[1]), 0.0)


def _mixed(faces: Sequence[int], before: float) -> float:
    """Mean number of faces of samples and of the frames before, which weigh as one more sample."""
    return (sum(faces) + before) / (len(faces) + 1)


def _mean_faces(rows: Sequence[Row], unknown: float) -> float:
    total = _sum(rows)
    return total.faces / total.frames if total.frames else unknown


def _speed(rows: Sequence[Row], frame_s: float, face_s: float) -> float:
    """Speed of a worker relative to the mean of all; 1 where it is not known."""
    total = _sum(rows)
    expected = frame_s * total.frames + face_s * total.faces
    return max(0.05, expected / total.seconds) if total.frames else 1.0


def _sum(rows: Sequence[Row]) -> Row:
    return Row(sum(r.frames for r in rows), sum(r.faces for r in rows), sum(r.seconds for r in rows))


def choose(total: int, finished: Collection[int], leased: Collection[int]) -> int | None:
    """The segment to begin with; None where none is free.

    Of the longest stretch of free segments it is the first, or the middle where another worker comes along to it.

    Args:
        total: number of segments.
        finished, leased: those that are not free.
    """
    best = (0, 0)  # length and first
    first = None
    for number in range(total + 1):
        free = number < total and number not in finished and number not in leased
        if free and first is None:
            first = number
        elif not free and first is not None:
            if number - first > best[0]:
                best = number - first, first
            first = None
    length, first = best
    if not length:
        return None
    return first + length // 2 if first - 1 in leased else first
