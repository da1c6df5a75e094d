"""The colour lock is exactly the operation that training uses."""

import cv2
import numpy as np
import pytest

from rtface.correct.colour import CHROMA_LIMIT, LUMA_LIMIT, chroma_limit, lock_colour

LUMA = np.array([0.299, 0.587, 0.114])


def reference(d: np.ndarray) -> np.ndarray:
    """The definition step by step, in float64: luma and chroma apart, explicit Gaussian taps, half-pixel bilinear."""
    size = d.shape[1]
    taps = np.exp(-(np.arange(-2, 3) ** 2) / 2.0)
    taps /= taps.sum()

    def low(z):
        cells = z.reshape(32, size // 32, 32, size // 32).mean(axis=(1, 3))
        for axis in (0, 1):
            padded = np.pad(cells, [(2, 2) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
            cells = sum(t * np.take(padded, np.arange(k, k + 32), axis=axis) for k, t in enumerate(taps))
        return cells

    def up(cells):
        at = np.clip((np.arange(size) + 0.5) * 32 / size - 0.5, 0, 31)
        i = np.minimum(at.astype(int), 30)
        f = at - i
        across = cells[:, i] * (1 - f) + cells[:, i + 1] * f
        return across[i] * (1 - f[:, None]) + across[i + 1] * f[:, None]

    y = np.tensordot(LUMA, d, 1)
    chroma = [d[k] - y for k in range(3)]
    below = np.stack([low(z) for z in chroma])
    most = np.abs(below).max(0)
    gone = below * (1 - np.tanh(most / CHROMA_LIMIT) / (most / CHROMA_LIMIT))
    chroma = [z - up(g) for z, g in zip(chroma, gone, strict=True)]
    y = y - up(low(y) - LUMA_LIMIT * np.tanh(low(y) / LUMA_LIMIT))
    return np.stack([z + y for z in chroma])


@pytest.mark.parametrize("size", [256, 512])
def test_lock_is_the_shared_definition(size):
    rng = np.random.default_rng(size)
    d = cv2.GaussianBlur(rng.normal(0, 1, (size, size, 3)), (0, 0), 3).transpose(2, 0, 1)
    d = d * 0.3 + rng.normal(0, 0.02, (3, 1, 1))
    got = lock_colour(d.astype(np.float32).copy())
    np.testing.assert_allclose(got, reference(d), atol=2e-6)


def test_chroma_moves_less_than_one_code_on_a_face(face):
    """A restorer that warms, brightens and sharpens: mean chroma over the face stays within 1/255."""
    c = face(256)
    r = c + 1.5 * (c - np.stack([cv2.GaussianBlur(p, (0, 0), 2) for p in c]))
    r[0] += 0.06
    r[2] -= 0.05
    d = lock_colour((r - c).astype(np.float32))
    chroma = d - np.tensordot(LUMA, d, 1)
    inside = chroma[:, 70:210, 75:180]
    assert np.abs(inside.mean(axis=(1, 2))).max() < 1 / 255
    assert d[:, 70:210, 75:180].std() > 2 / 255, "the sharpening itself has to stay"


def test_a_grey_picture_stays_grey(face):
    grey = np.repeat(np.tensordot(LUMA, face(256), 1)[None], 3, 0).astype(np.float32)
    assert chroma_limit(grey) < 1e-6 and chroma_limit(face(256)) == CHROMA_LIMIT
    d = lock_colour(
        np.full((3, 256, 256), 0.02, np.float32) * np.float32([[[1]], [[0]], [[-1]]]), chroma=chroma_limit(grey)
    )
    assert np.ptp(d, axis=0).max() < 1e-6
