"""Keeps the scheduling policy of this process's threads, where a library would change it."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def scheduling_kept() -> Generator[None]:
    """Threads have the policy and priority afterwards that they had before; new threads those of the
    calling thread. Linux only; does nothing elsewhere.

    For SVT-AV1: as root (in a container, say) it makes its own threads and the one that opens it
    real-time (SCHED_FIFO, priority 99). Threads and processes that are started later inherit that,
    and one that computes without a pause then keeps a core from everything else.
    """
    if sys.platform != "linux":
        yield
        return
    before = _scheduling()
    default = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        for thread, now in _scheduling().items():
            if (wanted := before.get(thread, default)) != now:
                with suppress(OSError):  # it has ended
                    os.sched_setscheduler(thread, *wanted)


if sys.platform == "linux":

    def _scheduling() -> dict[int, tuple[int, os.sched_param]]:
        """Policy and priority of each thread of this process, by its kernel number."""
        found: dict[int, tuple[int, os.sched_param]] = {}
        for thread in map(int, (path.name for path in Path("/proc/self/task").iterdir())):
            with suppress(OSError):  # it has ended
                found[thread] = os.sched_getscheduler(thread), os.sched_getparam(thread)
        return found
