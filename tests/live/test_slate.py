"""The frame that viewers see while the source is away."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtface.errors import UsageError
from rtface.frame import Color
from rtface.live.protocols import VideoFormat
from rtface.live.slate import Slate

FORM = VideoFormat(320, 180, "yuv420p", Fraction(30), Color("bt709"))


def shown(slate: Slate, form: VideoFormat = FORM) -> np.ndarray:
    image = slate(form)
    assert (image.width, image.height, image.format.name) == (form.width, form.height, form.pix_fmt)
    return image.to_ndarray(format="rgb24").astype(int)


def test_words_stand_in_the_middle_whatever_their_length():
    for words in (None, "caf\udce9", "Zurück um 20:15 – bis gleich", "a line\nand another", "very long words " * 12):
        rgb = shown(Slate(words))
        rows, columns = np.nonzero(rgb.max(2) > 120)
        assert len(rows) > 40, words
        assert abs(rows.min() + rows.max() - 180) < 24 and abs(columns.min() + columns.max() - 320) < 16
        assert columns.min() > 10


@pytest.mark.parametrize(
    ("size", "bar"), [((180, 180), (slice(None), slice(0, 60))), ((320, 60), (slice(0, 50), slice(None)))]
)
def test_a_picture_of_the_user_s_stands_whole_in_the_middle(tmp_path: Path, size, bar):
    path = tmp_path / "be right back.png"
    cv2.imwrite(str(path), np.full((size[1], size[0], 3), (30, 60, 200), np.uint8))
    rgb = shown(Slate(str(path)))
    assert rgb[bar].max() < 20 and np.abs(rgb[90, 160] - (200, 60, 30)).max() < 12


def test_samples_that_are_not_square_keep_its_shape(tmp_path: Path):
    path = tmp_path / "square.png"
    cv2.imwrite(str(path), np.full((90, 90, 3), 200, np.uint8))
    rgb = shown(Slate(str(path)), VideoFormat(180, 180, "yuv420p", Fraction(25), Color("bt601"), Fraction(16, 9)))
    columns = np.nonzero(rgb[90].max(1) > 100)[0]
    assert abs(len(columns) - 180 * 9 / 16) < 4


def test_a_picture_that_is_not_there_is_refused(tmp_path: Path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for path, words in (
        (tmp_path / "missing.png", "cannot be read"),
        (tmp_path / "broken.png", "is not a readable image"),
    ):
        with pytest.raises(UsageError, match=words):
            Slate(str(path))
