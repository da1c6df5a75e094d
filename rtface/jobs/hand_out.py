"""Assigns segments to workers in the coordinating process."""

from __future__ import annotations

from collections.abc import Callable, Collection

from rtface.jobs.folder import JobFolder

Take = Callable[[int | None], int | None]
"""Assigns a worker the segment that it requests, or any free one for None. Returns None if that is not available."""


class HandOut:
    """Assigns the segments of a job to workers.

    Args:
        folder: folder of the job.
        count: number of segments.
    """

    def __init__(self, folder: JobFolder, count: int) -> None:
        self._folder, self._count = folder, count
        self._assigned: dict[int, object] = {}
        self._finished = set[int]()  # finished segments, which a network file system may not list yet

    def take(self, worker: object, wanted: int | None = None) -> int | None:
        """Assigns a worker the segment `wanted`, by default that of `choose`. Returns None if it is not free."""
        finished = self._folder.finished() | self._finished
        if wanted is None:
            wanted = choose(self._count, finished, self._assigned)
        elif wanted >= self._count or wanted in finished or wanted in self._assigned:
            return None
        if wanted is not None:
            self._assigned[wanted] = worker
        return wanted

    def finish(self, number: int) -> None:
        """Records that a worker has finished a segment."""
        self._finished.add(number)

    def give_back(self, worker: object) -> None:
        """Makes the unfinished segments of a vanished worker available again."""
        self._assigned = {number: other for number, other in self._assigned.items() if other != worker}


def choose(total: int, finished: Collection[int], at_work: Collection[int]) -> int | None:
    """Returns the next segment to assign; None if none is free.

    This is the first segment of the longest free stretch, or its middle one if another worker is busy just before it.

    Args:
        total: number of segments.
        finished, at_work: segments that are not available.
    """
    stretches: list[range] = []
    for number in range(total):
        if number in finished or number in at_work:
            continue
        if stretches and stretches[-1].stop == number:
            stretches[-1] = range(stretches[-1].start, number + 1)
        else:
            stretches.append(range(number, number + 1))
    longest = max(stretches, key=len, default=None)
    if longest is None:
        return None
    return longest[len(longest) // 2] if longest.start - 1 in at_work else longest.start
