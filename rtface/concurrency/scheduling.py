"""Protects the scheduling policy of this process's threads from a library's changes."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def scheduling_kept() -> Generator[None]:
    """Restores the policy and priority of all threads after the block. New threads get those of the calling thread.
    Works on Linux only, and does nothing elsewhere.

    This is for SVT-AV1. As root (such as in a container) it makes its own threads, and the one that opens it, real-time
    (SCHED_FIFO, priority 99). Later threads and processes inherit that. One that computes without a pause then keeps
    everything else from its core.
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
                with suppress(OSError):  # the thread has ended
                    os.sched_setscheduler(thread, *wanted)


if sys.platform == "linux":

    def _scheduling() -> dict[int, tuple[int, os.sched_param]]:
        """Returns the policy and priority of this process's threads, by kernel ID."""
        policies: dict[int, tuple[int, os.sched_param]] = {}
        for thread in map(int, (path.name for path in Path("/proc/self/task").iterdir())):
            with suppress(OSError):  # the thread has ended
                policies[thread] = os.sched_getscheduler(thread), os.sched_getparam(thread)
        return policies
