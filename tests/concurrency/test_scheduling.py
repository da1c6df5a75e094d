"""Libraries must not change how this process's threads are scheduled."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from rtface.concurrency.scheduling import scheduling_kept

linux = pytest.mark.skipif(sys.platform != "linux", reason="scheduling policies of Linux")


def policies() -> set[int]:
    """The policies of all threads of this process."""
    return {os.sched_getscheduler(int(task.name)) for task in Path("/proc/self/task").iterdir()}


@linux
def test_policies_that_a_library_sets_are_taken_back() -> None:
    end, before = threading.Event(), policies()

    def batch() -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))

    def library() -> None:
        batch()
        end.wait(30)

    thread = threading.Thread(target=library)
    with scheduling_kept():
        batch()
        thread.start()
    try:
        assert policies() == before
    finally:
        end.set()
        thread.join()
