"""Measures the resources that this process may use: cores and memory."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

from rtface.errors import UsageError


def cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine_name(system: Path = Path("/")) -> str:
    """Returns the host name, on Linux with the machine's id. Machines that share a folder may have the same name.

    Args:
        system: folder that contains etc.
    """
    try:
        return f"{platform.node()} {(system / 'etc/machine-id').read_text(encoding='ascii').strip()}"
    except (OSError, ValueError):
        return platform.node()


def free_memory(system: Path = Path("/")) -> int | None:
    """Returns the free memory of this process in bytes, or None. Limits of a container or batch job (cgroup 2) apply.

    Args:
        system: folder that contains proc and sys.
    """
    try:
        lines = (system / "proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except (OSError, ValueError, StopIteration):
        return None
    root = system / "sys/fs/cgroup"
    groups = [root]
    with suppress(OSError, StopIteration):
        lines = (system / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        groups.append(root / next(line[4:] for line in lines if line.startswith("0::/")))
    for group in {groups[-1], *(g for g in groups[-1].parents if g.is_relative_to(root))}:
        with suppress(OSError, ValueError):  # no cgroup, or no limit ("max")
            limit, used = (int((group / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
            stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
            free = min(free, max(0, limit - used + int(stat.get("inactive_file", 0))))  # can be reclaimed
    return free


def how_many(requested: int | str, option: str, bytes_each: int) -> int:
    """Returns the number of films (or parts) to process at once.

    Args:
        requested: a number, or "auto": one per four cores, limited by the free memory.
        option: name of the option, for the message.
        bytes_each: memory of each.

    Raises:
        UsageError: `requested` is neither a number nor "auto".
    """
    if requested == "auto":
        free = free_memory()
        return max(1, min(cores() // 4, 64 if free is None else free // bytes_each))
    if not str(requested).isdecimal() or not 1 <= int(requested) <= 256:
        raise UsageError(
            '{option} {value}: use a number from 1 to 256, or "auto"', code="how_many", option=option, value=requested
        )
    return int(requested)


def give_memory_back() -> None:
    """Returns freed memory to the system. Linux's C library would keep it, but frame buffers leave gaps that it hardly
    uses again: the process of a long 1440×1080 film grew by 26 kB a frame."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def busy_seconds() -> float | None:
    """Returns the seconds that all cores have worked, for any process. None if the system does not report them."""
    if sys.platform != "linux":
        return None
    try:
        with Path("/proc/stat").open(encoding="ascii") as file:
            user, nice, system, _idle, _wait, irq, softirq, steal = map(int, file.readline().split()[1:9])
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None
