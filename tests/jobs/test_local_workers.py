"""How many workers a machine holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from rtface.jobs import local_workers
from rtface.jobs.local_workers import count_workers


@dataclass
class Plan:
    """What `count_workers` asks of a plan."""

    size: tuple[int, int, str] = 1920, 1080, "yuv420p"
    video: dict[str, Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return 100


@pytest.mark.parametrize(("free", "expected"), [(64 << 30, 8), (4 << 30, 2), (0, 1), (None, 5)])
def test_as_many_workers_as_memory_holds(monkeypatch, free: int | None, expected: int):
    monkeypatch.setattr(local_workers, "free_memory", lambda: free)
    assert count_workers("auto", Plan(), 32) == expected  # type: ignore[arg-type]
