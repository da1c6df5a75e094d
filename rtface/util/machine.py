"""What this process may use of the machine: cores and memory."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cores() -> int:
    """Number of CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory() -> int | None:
    """Bytes of memory that are free for this process, within the limit of its container (cgroup 2); None where that is
    not known."""
    if sys.platform != "linux":
        return None
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except (OSError, ValueError, StopIteration):
        return None
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        return min(free, max(0, limit - int((group / "memory.current").read_text(encoding="ascii"))))
    except (OSError, ValueError):  # no cgroup, or no limit ("max")
        return free
