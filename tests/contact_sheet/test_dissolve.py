"""Frames in which two views are blended, told by thumbnails of the frames around them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from rtface.contact_sheet.dissolve import in_dissolve


def view(seed: int, aside: int = 0, light: float = 1.0) -> np.ndarray:
    """Clouds, moved aside, under a lamp."""
    clouds = np.random.default_rng(seed).integers(0, 200, (6, 10)).astype(np.uint8)
    gray = np.roll(cv2.resize(clouds, (256, 144), interpolation=cv2.INTER_CUBIC), aside, 1)
    return np.repeat(np.clip(gray * light, 0, 255).astype(np.uint8)[:, :, None], 3, 2)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.75])
def test_one_frame_of_two_views_between_flashes_is_told(share: float) -> None:
    """The camera moves, and flashes light what is half a second away: only the frames beside it explain the blend."""
    frames = [view(n > 30, 5 * n, 1.6 if n % 20 > 9 else 0.9) for n in range(60)]
    frames[30] = ((1 - share) * frames[29] + share * frames[31]).astype(np.uint8)
    film = [(n / 25, frame) for n, frame in enumerate(frames)]
    assert [n for n, (time, _) in enumerate(film) if in_dissolve(time, film)] == [30]
