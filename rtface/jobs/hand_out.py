"""Which segment of a job is made next, and by whom: the coordinator's book."""

from __future__ import annotations

from collections.abc import Callable, Collection

from rtface.jobs.folder import JobFolder

Take = Callable[[int | None], int | None]
"""Gives a worker the segment that it wants, or with None any free one; None where there is none for it."""


class HandOut:
    """The segments of a job that are finished, at work, or free. Only the process that coordinates the job has one.

    Args:
        folder: of the job.
        count: of its segments.
    """

    def __init__(self, folder: JobFolder, count: int) -> None:
        self._folder, self._count = folder, count
        self._at_work: dict[int, object] = {}
        self._done = set[int]()  # which a network's file system may not list yet

    def take(self, worker: object, wanted: int | None = None) -> int | None:
        """Gives a segment to a worker: `wanted`, or the one of `choose`; None where that is not free."""
        finished = self._folder.finished() | self._done
        if wanted is None:
            wanted = choose(self._count, finished, self._at_work)
        elif wanted >= self._count or wanted in finished or wanted in self._at_work:
            return None
        if wanted is not None:
            self._at_work[wanted] = worker
        return wanted

    def finish(self, number: int) -> None:
        """Takes note of a segment that its worker has finished."""
        self._done.add(number)

    def give_back(self, worker: object) -> None:
        """Makes the segments of a worker that is gone free again, as far as they are not finished."""
        self._at_work = {number: other for number, other in self._at_work.items() if other != worker}


def choose(total: int, finished: Collection[int], at_work: Collection[int]) -> int | None:
    """The segment to begin with; None where none is free.

    Of the longest stretch of free segments it is the first, or the middle where another worker comes along to it.

    Args:
        total: number of segments.
        finished, at_work: those that are not free.
    """
    free: list[range] = []
    for number in range(total):
        if number in finished or number in at_work:
            continue
        if free and free[-1].stop == number:
            free[-1] = range(free[-1].start, number + 1)
        else:
            free.append(range(number, number + 1))
    longest = max(free, key=len, default=None)
    if longest is None:
        return None
    return longest[len(longest) // 2] if longest.start - 1 in at_work else longest.start
