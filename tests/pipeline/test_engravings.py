"""Prints of lines: an engraving is no noisy photograph."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import rtface
from tests.pipeline.fakes import portrait


def engraved(image: np.ndarray, ink: float, pitch: float = 2.5) -> np.ndarray:
    """The picture as parallel lines, wider where it is darker."""
    light = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), 1.0) / 255.0
    y, x = np.mgrid[: light.shape[0], : light.shape[1]]
    lines = 0.5 + 0.5 * np.sin(2 * np.pi * (x + 2 * y) / np.sqrt(5) / pitch)
    print_ = np.where(lines < 1 - light * ink, 30, 240).astype(np.float32)
    return np.repeat(cv2.GaussianBlur(print_, (0, 0), 0.7)[..., None], 3, 2).round().astype(np.uint8)


@pytest.mark.parametrize("ink", [1.3])
def test_an_engraving_is_left_as_it_is(tmp_path: Path, ink: float) -> None:
    print_ = engraved(portrait(480, 360, scale=1.3, blur=0.0)[0], ink)
    assert cv2.imwrite(str(tmp_path / "in.jpg"), print_, [cv2.IMWRITE_JPEG_QUALITY, 85])
    report = rtface.run(tmp_path / "in.jpg", tmp_path / "out.png")
    assert [track.treatment["reasons"] for track in report.tracks] == [["nothing to gain"]]
