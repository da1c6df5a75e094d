"""Which segment a worker takes next, so that each goes over long stretches and few lead-ins are processed."""

from __future__ import annotations

from collections.abc import Collection


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
