"""Frames that lie on their side, in a live run."""

from __future__ import annotations

import queue
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rtface.config.addresses import LiveAddress
from rtface.frame import Display, Frame
from rtface.geometry.planes import layout, planes
from rtface.geometry.transforms import apply, sample_to_display
from rtface.live.reshape import Rotation
from rtface.live.sources.open_source import open_live_source


def spotted(name: str, width: int = 48, height: int = 32) -> tuple[av.VideoFrame, tuple[int, int]]:
    """A frame of a format, dark with one bright 8×8 block; where that begins."""
    image, at = av.VideoFrame(width, height, name), (8, 16)
    form = layout(name)
    assert form is not None
    for role, samples in planes(image, form).items():
        sx, sy = form.role_subsampling(role)
        samples[:] = 20
        samples[at[1] // sy : (at[1] + 8) // sy, at[0] // sx : (at[0] + 8) // sx] = 200
    return image, at


@pytest.mark.parametrize(
    ("name", "turns", "mirror"),
    [
        *(("yuv420p", turns, mirror) for turns in range(4) for mirror in (False, True)),
        *(
            (name, turns, turns == 2)
            for name in ("nv12", "yuv444p", "yuv422p", "gray", "yuv420p10le", "rgb24")
            for turns in (1, 2)
        ),
    ],
)
def test_every_sample_lands_where_its_display_says(name: str, turns: int, mirror: bool):
    image, (x, y) = spotted(name)
    lying = Display(turns, mirror, Fraction(1))
    out, display = Rotation()(image, lying)
    assert (display.quarter_turns, display.mirror) == (0, False)
    assert (out.width, out.height) == ((32, 48) if turns % 2 else (48, 32))
    assert (out is image) == (not turns and not mirror)
    corners = apply(sample_to_display(48, 32, lying), np.array([[x, y], [x + 8, y + 8]], float))
    (x0, y0), (x1, y1) = corners.min(0).round().astype(int), corners.max(0).round().astype(int)
    form = layout(out.format.name)
    assert form is not None
    for role, samples in planes(out, form).items():
        sx, sy = form.role_subsampling(role)
        bright = samples > 110
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        assert (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) == (y0 // sy, y1 // sy, x0 // sx, x1 // sx), role


def test_oblong_samples_are_turned_too():
    _, display = Rotation()(spotted("yuv420p")[0], Display(1, False, Fraction(4, 3)))
    assert display.aspect == Fraction(3, 4)


def test_a_film_of_a_telephone_stands_upright(tmp_path: Path):
    path = tmp_path / "phone.mp4"
    with av.open(path, "w") as box:
        video = box.add_stream("libx264", rate=20)
        video.width, video.height, video.pix_fmt = 320, 192, "yuv420p"
        video.set_display_matrix([0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30])  # 90° clockwise
        for i in range(10):
            image, _ = spotted("yuv420p", 320, 192)
            image.pts, image.time_base = i, Fraction(1, 20)
            box.mux(video.encode(image))
        box.mux(video.encode(None))
    kept: queue.Queue[Frame] = queue.Queue()
    source = open_live_source(LiveAddress("file", str(path)))
    source.start(kept.put, lambda _: None)
    first = kept.get(timeout=20)
    source.close()
    assert (source.video_format.width, source.video_format.height) == (192, 320)
    assert first.display == Display()
    luma = first.image.to_ndarray(format="gray8")
    rows, columns = np.flatnonzero((luma > 110).any(1)), np.flatnonzero((luma > 110).any(0))
    assert (abs(rows[0] - 8), abs(columns[0] - (192 - 24))) <= (1, 1)
