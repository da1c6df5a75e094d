"""Made damage, its masks, and the network that finds it."""
# ruff: noqa: E402 - what follows needs torch, and is skipped without it

from __future__ import annotations

import numpy as np
import pytest
from skimage import data

torch = pytest.importorskip("torch", reason="torch is needed for training only")

from rtface.correct.damage import REGION
from training.data import damaged_faces
from training.degradation import broken_print
from training.model.damage import DamageNet

FACE = np.ascontiguousarray(data.astronaut()[0:288, 80:368])


@pytest.mark.parametrize("kind", broken_print.KINDS)
def test_damage_lies_where_its_mask_is(kind: str) -> None:
    image = damaged_faces.crop_of(FACE)
    out, opaque = broken_print.damaged(image, np.random.default_rng(3), kind)
    changed = np.abs(out.astype(int) - image).max(axis=2) > 12
    assert out.dtype == np.uint8 and opaque.shape == image.shape[:2]
    assert opaque.min() >= 0.0
    assert 0.3 < opaque.max() <= 1.001
    assert changed.sum() > 20
    if kind != "crease":  # whose shade is no damage
        assert (opaque[changed] > 0).mean() > 0.9


def test_sample_without_damage_is_its_own_truth() -> None:
    sample = damaged_faces.sample(FACE, np.random.default_rng(1), [])
    assert not sample.mask.any()
    assert np.array_equal(sample.seen, sample.truth)


def test_samples_can_be_made_again() -> None:
    first, again = (damaged_faces.sample(FACE, np.random.default_rng(7), ["torn"]) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    hurt = first.mask > 0.9
    assert hurt.any()
    assert np.abs(first.seen.astype(int) - first.truth)[hurt].mean() > 20


def test_network_answers_for_each_pixel_of_its_region() -> None:
    x, _, w, h = REGION
    assert 2 * x + w == damaged_faces.SIZE  # the mirror image lies on it
    net = DamageNet()
    with torch.no_grad():
        assert net(torch.rand(2, 3, h, w)).shape == (2, 1, h, w)
    assert sum(p.numel() for p in net.parameters()) < 600_000
