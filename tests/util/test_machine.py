"""What a process may use: memory within the limits of its container; which machine it is on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from rtface.util.machine import free_memory, give_memory_back, machine_name

GIB = 1 << 30


def system(tmp_path: Path, groups: dict[str, tuple[object, int, int]], own: str = "/") -> Path:
    """A made /proc and /sys with 16 GiB free; of each group: limit, what is used, what of that is cached files."""
    files = {
        "proc/meminfo": f"MemTotal: {32 * GIB >> 10} kB\nMemAvailable: {16 * GIB >> 10} kB\n",
        "proc/self/cgroup": f"0::{own}\n",
    }
    for name, (limit, used, cached) in groups.items():
        files |= {
            f"sys/fs/cgroup{name}/memory.max": f"{limit}\n",
            f"sys/fs/cgroup{name}/memory.current": f"{used}\n",
            f"sys/fs/cgroup{name}/memory.stat": f"anon 5\ninactive_file {cached}\n",
        }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("groups", "own", "expected"),
    [
        ({}, "/", 16),
        ({"": (4 * GIB, 4 * GIB, 2 * GIB)}, "/", 2),
        ({"": (4 * GIB, 5 * GIB, 0)}, "/", 0),
        ({"/batch": (4 * GIB, GIB, 0), "/batch/step": ("max", GIB, 0)}, "/batch/step", 3),
    ],
)
def test_free_memory_is_within_the_limits_of_cgroups(tmp_path: Path, groups, own: str, expected: int):
    assert free_memory(system(tmp_path, groups, own)) == expected * GIB


def test_machines_of_one_host_name_differ(tmp_path: Path):
    places = [tmp_path / name for name in "ab"]
    for place in places:
        (place / "etc").mkdir(parents=True)
        (place / "etc/machine-id").write_text(f"{place.name * 32}\n")
    names = {machine_name(place) for place in (*places, tmp_path)}
    assert len(names) == 3 and machine_name(places[0]) in names


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps less")
def test_the_system_gets_freed_memory_back() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    blocks = [bytearray(100_000) for _ in range(2000)]  # below the size that has pages of its own
    kept, blocks = blocks[::40], []
    before = resident()
    give_memory_back()
    assert before - resident() > 100_000_000 and len(kept) == 50
