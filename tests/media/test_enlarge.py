"""Frames in a larger size: every sample against Lanczos' kernel, each pixel format, sizes and refusals."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rtface.errors import InputError, UsageError
from rtface.frame import Color, Display, Frame, Siting
from rtface.geometry.planes import layout, planes
from rtface.media.read.enlarge import Enlarger
from rtface.media.read.source import FileSource
from tests.pairs import pairs
from tests.pipeline.run_media import write_film

FORMATS = [
    *("yuv420p", "yuvj420p", "yuv422p10le", "yuv444p12le", "yuv411p", "nv12", "p010le", "yuyv422", "yuv420p16be"),
    *("gray", "gray10le", "ya8", "rgb24", "bgra", "rgb48be", "gbrp", "gbrp10le", "gbrap12le", "gbrp16le"),
]
SCALES = ["2", "3", "60p", "80x60"]
SHIFTS: dict[Siting, tuple[float, float]] = {"left": (-0.25, 0.0), "center": (0.0, 0.0), "topleft": (-0.25, -0.25)}


def picture(pix_fmt: str, width: int = 32, height: int = 24, siting: Siting = "left") -> Frame:
    """Smooth noise in each component."""
    image, random = av.VideoFrame(width, height, pix_fmt), np.random.default_rng(1)
    image.pts, image.time_base = 7, Fraction(1, 25)
    form = layout(pix_fmt)
    assert form is not None
    for samples in planes(image, form).values():
        rough = random.random(samples.shape)
        for axis in (0, 1, 0, 1):
            rough = (np.roll(rough, 1, axis) + 2 * rough + np.roll(rough, -1, axis)) / 4
        samples[...] = np.rint((0.25 + 0.5 * rough) * ((1 << form.bits) - 1)).astype(np.uint16) << form.shift
    return Frame(image, 7, Fraction(1, 25), color=Color(siting=siting))


def lanczos(count: int, wanted: int, shift: float) -> np.ndarray:
    """The weights of samples for each of more samples, whose places are shifted in both grids."""
    places = (np.arange(wanted) + 0.5 + shift) * count / wanted - 0.5 - shift
    apart = places[:, None] - np.arange(-8, count + 8)
    weights = np.where(abs(apart) < 3, np.sinc(apart) * np.sinc(apart / 3), 0.0)
    weights[:, 8] += weights[:, :8].sum(1)
    weights[:, -9] += weights[:, -8:].sum(1)
    return weights[:, 8:-8] / weights[:, 8:-8].sum(1, keepdims=True)


@pytest.mark.parametrize(("pix_fmt", "scale"), pairs(FORMATS, SCALES, ["yuv420p"]))
def test_samples_are_those_of_the_exact_kernel(pix_fmt: str, scale: str) -> None:
    for siting, (across, down) in SHIFTS.items():
        frame = picture(pix_fmt, siting=siting)
        large, form = Enlarger(scale)(frame), layout(pix_fmt)
        assert form is not None and large.image.format.name == pix_fmt and large.pts == large.image.pts == 7
        before, after = (planes(image, form) for image in (frame.image, large.image))
        for role, samples in before.items():
            wide, high = (step > 1 for step in form.role_subsampling(role))
            shape = after[role].shape
            exact = lanczos(samples.shape[0], shape[0], down * high) @ (samples >> form.shift).astype(float)
            exact = exact @ lanczos(samples.shape[1], shape[1], across * wide).T
            apart = abs((after[role] >> form.shift).astype(float) - exact)[6:-6, 6:-6]
            assert apart.max() < max(1.5, 0.0025 * (1 << form.bits))


def test_a_frame_of_that_size_is_the_same_object() -> None:
    frame = picture("yuv420p")
    assert Enlarger("24p")(frame) is frame


@pytest.mark.parametrize(
    ("scale", "display", "size", "aspect"),
    [
        ("2", Display(aspect=Fraction(4, 3)), (64, 48), Fraction(4, 3)),
        ("48p", Display(aspect=Fraction(4, 3)), (86, 48), 1),
        ("86x48", Display(aspect=Fraction(4, 3)), (86, 48), 1),
        ("64p", Display(quarter_turns=1), (64, 48), 1),
        ("48x64", Display(quarter_turns=3), (64, 48), 1),
    ],
)
def test_lines_and_sizes_are_those_that_are_seen(
    scale: str, display: Display, size: tuple[int, int], aspect: Fraction
) -> None:
    *found, shown = Enlarger(scale).size(picture("yuv420p").image, display)
    assert (*found,) == size and shown.aspect == aspect and shown.quarter_turns == display.quarter_turns


@pytest.mark.parametrize(
    ("scale", "code"),
    [("20p", "scale_smaller"), ("65x49", "scale_odd"), ("64x64", "scale_shape"), ("20000p", "scale_large")],
)
def test_a_size_that_cannot_be_is_refused(scale: str, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        Enlarger(scale)(picture("yuv420p"))
    assert caught.value.code == code


def test_floating_point_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        Enlarger("2")(Frame(av.VideoFrame(32, 24, "gbrpf32le"), 0, Fraction(1)))
    assert caught.value.code == "scale_format"


def test_an_interlaced_film_is_refused(tmp_path: Path) -> None:
    grey = np.full((64, 96, 3), 90, np.uint8)
    path = write_film(tmp_path / "in.mkv", [grey] * 3, codec="libx264", options={"x264-params": "interlaced=1:tff=1"})
    with pytest.raises(UsageError) as caught:
        FileSource(path, scale="2")
    assert caught.value.code == "scale_fields"


def test_what_says_no_colours_keeps_those_of_its_size(tmp_path: Path) -> None:
    path = write_film(tmp_path / "in.mkv", [np.zeros((360, 480, 3), np.uint8)])
    source = FileSource(path, scale="720p")
    assert (source.info.width, source.info.height, source.info.tags.matrix) == (960, 720, 6)
    assert source.info.decoded == (480, 360, "yuv420p")
    source.close()
