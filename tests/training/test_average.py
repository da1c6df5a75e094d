"""Weights between two networks."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from training.loop.average import between  # noqa: E402


def test_weights_lie_between_and_kept_parts_stay() -> None:
    old, new = {"a": torch.zeros(2), "b.kept.c": torch.zeros(1)}, {"a": torch.ones(2), "b.kept.c": torch.ones(1)}
    assert {k: v.tolist() for k, v in between(old, new, 0.25, "kept").items()} == {"a": [0.25, 0.25], "b.kept.c": [0]}
