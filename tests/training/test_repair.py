"""Networks for damaged prints: made damage, and what is learnt from."""

from __future__ import annotations

import numpy as np
import pytest

from training.degradation.print_damage import holes

pytest.importorskip("torch", reason="torch is not installed: make test-engines sets it up")
from training.data.damaged_prints import UNSURE, DamagedPhotos, HoledFaces


@pytest.mark.parametrize("sparse", [False, True])
def test_holes_are_drawn_again_from_the_same_seed(sparse: bool) -> None:
    first, again = (holes(np.random.default_rng(3), 256, 384, sparse=sparse) for _ in range(2))
    assert first.shape == (256, 384) and np.array_equal(first, again)
    assert 0.001 < (first > 0).mean() < 0.62


def test_samples_are_whole_and_sound_tiles_are_among_them() -> None:
    r = np.random.default_rng(5)
    picture = r.integers(0, 256, (512, 512, 3)).astype(np.uint8)
    damaged = DamagedPhotos.__new__(DamagedPhotos)
    tiles = [damaged.sample(picture, r) for _ in range(16)]
    for tile, label, error in tiles:
        assert tile.shape == (3, 256, 256) and tile.min() >= 0 and tile.max() <= 1
        assert set(label.unique().tolist()) <= {0, UNSURE, 1} and error == 0
    assert 0 < sum(bool((label == 1).any()) for _, label, _ in tiles) < 16
    fill, hole, truth, row = HoledFaces.__new__(HoledFaces).sample(picture, r)
    assert fill.shape == truth.shape == (3, 256, 384) and 0 <= row <= 256
    assert hole.mean() > 0.02 and not fill.isnan().any()
