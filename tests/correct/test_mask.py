"""Where a correction may act."""

import cv2
import numpy as np
import pytest

from rtface.correct.colour import cells_of
from rtface.correct.face_region import KeptMask
from rtface.correct.mask import FACE_OVAL, face_mask, residual_gate, small_mask, support_box
from rtface.geometry.transforms import FFHQ_512


def oval_mesh(size: int) -> np.ndarray:
    """478 points whose face oval is an ellipse in the crop; the others lie at its centre."""
    mesh = np.full((478, 3), size / 2.0)
    t = np.linspace(0, 2 * np.pi, len(FACE_OVAL), endpoint=False)
    mesh[list(FACE_OVAL), 0] = size * (0.5 + 0.26 * np.sin(t))
    mesh[list(FACE_OVAL), 1] = size * (0.6 - 0.31 * np.cos(t))
    return mesh


@pytest.mark.parametrize("size", [128, 256, 512])
@pytest.mark.parametrize("mesh", [False, True])
def test_mask_covers_the_face_and_ends_softly(size, mesh):
    mask = face_mask(size, oval_mesh(size) if mesh else None)
    assert mask.shape == (size, size) and mask.dtype == np.float32
    for x, y in FFHQ_512 * size / 512:
        assert mask[int(y), int(x)] == 1.0
    assert mask.max() == 1.0 and mask.min() == 0.0
    assert (mask[[0, -1]] == 0).all() and (mask[:, [0, -1]] == 0).all()
    steepest = max(np.abs(np.diff(mask, axis=0)).max(), np.abs(np.diff(mask, axis=1)).max())
    assert steepest < 26 / size  # over about a fourteenth of the side
    x0, y0, x1, y1 = support_box(mask)
    assert (mask[y0:y1, x0:x1] > 0).any(axis=0).all() and mask.sum() == pytest.approx(mask[y0:y1, x0:x1].sum())


def test_mesh_mask_follows_the_mesh_and_stops_at_the_crop():
    size = 256
    shifted = oval_mesh(size) + (60.0, 0.0, 0.0)
    mask = face_mask(size, shifted)
    assert np.average(np.arange(size), weights=mask.sum(axis=0)) > size / 2 + 40
    assert (mask[:, -1] == 0).all()
    assert support_box(np.zeros((8, 8), np.float32)) is None


def test_a_profile_leaves_no_hole_in_the_mask():
    """Turned far, the near half of the oval folds over the far one."""
    mesh = oval_mesh(256)
    far = mesh[:, 0] > 150
    mesh[far, 0] = 150 - 0.4 * (mesh[far, 0] - 150)
    mask = face_mask(256, mesh)
    filled = (mask > 0).astype(np.uint8)
    contours, _ = cv2.findContours(filled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    assert len(contours) == 1


def weight64(mask: np.ndarray) -> np.ndarray:
    return cv2.resize(mask, (64, 64), interpolation=cv2.INTER_AREA)


def test_gate_closes_where_the_engine_paints_over_an_object(face):
    """A flat hand-coloured bar lies over the mouth; the engine answers with the whole face."""
    size = 256
    r = face(size)
    c = r.copy()
    bar = np.array([0.72, 0.52, 0.42], np.float32)
    c[:, 170:215, 60:200] = bar[:, None, None]
    mask = face_mask(size)
    gate = cv2.resize(residual_gate(cells_of(r - c), weight64(mask)), (size, size))
    mouth = gate[178:205, 105:155]
    assert mouth.mean() < 0.25
    assert gate[90:140, 90:170].min() > 0.95, "the eyes are not touched by it"


@pytest.mark.parametrize("change", ["sharpen", "denoise", "brighten", "warm"])
def test_gate_stays_open_for_what_restorers_do(change, face):
    size = 256
    clear = face(size)
    rng = np.random.default_rng(0)
    if change == "sharpen":
        c, r = np.stack([cv2.GaussianBlur(p, (0, 0), 3) for p in clear]), clear
    elif change == "denoise":
        c, r = clear + rng.normal(0, 0.06, clear.shape), clear
    elif change == "brighten":
        c, r = clear * 0.7, clear
    else:
        c, r = clear, clear + np.array([0.08, 0.0, -0.08])[:, None, None]
    mask = face_mask(size)
    gate = cv2.resize(residual_gate(cells_of((r - c).astype(np.float32)), weight64(mask)), (size, size))
    assert (gate * mask).sum() / mask.sum() > 0.97


def test_a_mask_is_kept_until_its_oval_moves_visibly() -> None:
    kept, size = KeptMask(), 256
    first = kept.of(size, oval_mesh(size), "face", 0.0)
    np.testing.assert_allclose(first, face_mask(size, oval_mesh(size)), atol=1e-6)
    for step in range(1, 5):  # slow motion adds up
        moved = oval_mesh(size) + 0.1 * step
        mask = kept.of(size, moved, "face", 0.0)
        assert (mask is first) == (step < 4)
    np.testing.assert_allclose(mask, face_mask(size, moved), atol=1e-6)
    assert kept.of(size, moved - 0.1, "face", 1.0) is not mask  # a second begins
    assert not np.array_equal(kept.of(size, moved, "head", 1.0), mask)
    np.testing.assert_allclose(kept.of(size, None, "face", 0.0), face_mask(size), atol=1e-6)


def test_a_mask_does_not_depend_on_where_it_lies_in_memory() -> None:
    mesh = np.random.default_rng(0).uniform(60, 200, (478, 3))
    held, masks = [], set()
    for size in range(1, 4000, 40):
        held.append(np.empty(size, np.uint8))
        masks.add(small_mask(256, mesh).tobytes())
    assert len(masks) == 1
