"""How many workers a machine holds."""

from __future__ import annotations

import pytest

from rtface.errors import UsageError
from rtface.jobs.local_workers import count_workers
from rtface.util import machine


class Plan:
    """What `count_workers` asks of a plan."""

    size, video = (1920, 1080, "yuv420p"), None

    def __len__(self) -> int:
        return 100


@pytest.mark.parametrize(
    ("cores", "free", "expected"), [(32, 64 << 30, 8), (32, 4 << 30, 2), (64, 0, 1), (32, None, 8)]
)
def test_as_many_workers_as_cores_and_memory_hold(monkeypatch, cores: int, free: int | None, expected: int):
    monkeypatch.setattr(machine, "free_memory", lambda: free)
    monkeypatch.setattr(machine, "cores", lambda: cores)
    assert count_workers("auto", Plan()) == expected  # type: ignore[arg-type]
    assert count_workers("3", Plan()) == 3  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--workers 0: use a number from 1"):
        count_workers("0", Plan())  # type: ignore[arg-type]
