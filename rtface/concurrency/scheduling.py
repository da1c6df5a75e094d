"""Protects the scheduling policy of this process's threads from a library's changes."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def scheduling_kept() -> Generator[None]:
    """Restores the policy and priority of all threads after the block. Threads that started within the block get those
    of the calling thread. Does nothing on systems other than Linux.

    SVT-AV1 makes this necessary. When run as root (such as in a container), it gives its own threads, and the thread
    that opens it, real-time priority (SCHED_FIFO, 99). Threads and processes that start later inherit the priority. If
    one of them computes without a pause, nothing else runs on its core.
    """
    if sys.platform != "linux":
        yield
        return
    saved = _policies()
    default = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        for thread, current in _policies().items():
            if (policy := saved.get(thread, default)) != current:
                with suppress(OSError):  # the thread has ended
                    os.sched_setscheduler(thread, *policy)


if sys.platform == "linux":

    def _policies() -> dict[int, tuple[int, os.sched_param]]:
        """Returns the policy and priority of this process's threads, by kernel ID."""
        policies: dict[int, tuple[int, os.sched_param]] = {}
        for thread in map(int, (path.name for path in Path("/proc/self/task").iterdir())):
            with suppress(OSError):  # the thread has ended
                policies[thread] = os.sched_getscheduler(thread), os.sched_getparam(thread)
        return policies
