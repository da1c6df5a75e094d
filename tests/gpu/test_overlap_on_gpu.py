"""Copies beside computing: the loop of a run against one that waits for every frame."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import loop, overlap
from benchmarks.gpu.machine import Bench
from rtface.engine.recipe import find_recipes, load_recipe
from tests.gpu.real_gpu import REHEARSAL, gpu_plan


@pytest.fixture
def bench(cuda_python: None, tmp_path: Path, monkeypatch: Any) -> Any:
    bench = Bench(False, tmp_path, "a test")
    if REHEARSAL:
        monkeypatch.setattr(bench, "count", lambda real, dry=2: dry)
    monkeypatch.setattr(
        Bench,
        "plan",
        lambda self, recipe, precision=None: (
            *gpu_plan(self.streams, load_recipe(find_recipes()[recipe.name]), precision),
            "for a test",
        ),
    )
    yield bench
    bench.close()


def test_frames_overlap(bench: Bench) -> None:
    found = overlap.measure(bench, Namespace(overlap_faces=2))
    for name in ("rtface-m", "rtface-s")[: bench.count(2, 1)]:
        print(name, found[name])
        if REHEARSAL:  # nothing runs beside anything on a driver that is not there
            continue
        assert found[name]["ratio"]["median"] > 1.05
        assert found[name]["overlapped"]["copies_beside_computing"] > found[name]["serial"]["copies_beside_computing"]
        assert found[name]["overlapped"]["busy"]["compute"] > found[name]["serial"]["busy"]["compute"]


def test_times_are_joined_and_cut() -> None:
    a = loop.merged([(5.0, 7.0), (0.0, 1.0), (0.5, 2.0)])
    assert a == [(0.0, 2.0), (5.0, 7.0)]
    assert loop.common(a, [(1.0, 6.0), (6.5, 9.0)]) == [(1.0, 2.0), (5.0, 6.0), (6.5, 7.0)]
