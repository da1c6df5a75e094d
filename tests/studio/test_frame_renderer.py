"""Frames on demand are those of a run."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

import rtface
from rtface.errors import Closed, InputError
from rtface.options import Options
from rtface.studio.frame_renderer import FrameRenderer
from tests.studio.films import make_film

pytest.importorskip("skimage")


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b.astype(float)) ** 2))))


def test_rendered_frame_is_that_of_the_run(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4")
    rtface.run(film, tmp_path / "out.mkv", engine="rtface-s", codec="ffv1")
    with av.open(str(tmp_path / "out.mkv")) as container:
        wanted = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    renderer = FrameRenderer(film)
    try:
        shown = renderer.render(0.8, 320, Options(engine="rtface-s"))
        assert shown.time == pytest.approx(0.8) and shown.faces == 1
        changed = psnr(shown.before, shown.after)
        assert psnr(shown.after, wanted[8]) > max(36.0, changed + 6.0), changed
        corner = np.s_[:12, :, :]
        assert np.array_equal(shown.before[corner], shown.after[corner])
        weaker = renderer.render(0.8, 320, Options(engine="rtface-s", strength=0.0))
        assert np.array_equal(weaker.after, weaker.before)
        assert renderer.render(0.85, 320, Options(engine="rtface-s")).time == pytest.approx(0.8)
    finally:
        renderer.close()
    with pytest.raises(Closed):
        renderer.render(0.8, 320, Options(engine="rtface-s"))


def test_time_beyond_the_end_is_said(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4")
    renderer = FrameRenderer(film)
    try:
        with pytest.raises(InputError, match="no frame at 50"):
            renderer.render(50.0, 320, Options(engine="rtface-s"))
    finally:
        renderer.close()
