"""The curve against fading, on the samples of every kind of frame."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from rtface.analysis.fading import values_through
from rtface.device.cpu.fading import unfaded
from rtface.frame import Color, Display, Frame
from rtface.geometry.planes import layout, planes

CURVE = ((1.6, 0.02), (1.2, 0.04), (1.1, 0.06))
ALIKE = ((1.3, 0.03),) * 3


def frame(name: str, rgb: np.ndarray, *, full: bool = True, fields: str = "progressive") -> Frame:
    """A frame of RGB values 0…1 in a pixel format."""
    deep = av.VideoFrame.from_ndarray(np.rint(rgb * 65535).astype(np.uint16), "rgb48le")
    ranges = {"src_color_range": "JPEG", "dst_color_range": "JPEG" if full else "MPEG"}
    image = deep.reformat(format=name, dst_colorspace="ITU709", **ranges)
    kind = "rgb" if image.format.is_rgb else "bt709"
    return Frame(image, 0, Fraction(1, 25), color=Color(kind, full), display=Display(fields=fields))


def rgb_of(of: Frame) -> np.ndarray:
    """Its RGB values 0…1, read by swscale."""
    full = "JPEG" if of.color.full_range else "MPEG"
    deep = of.image.reformat(format="rgb48le", src_colorspace="ITU709", src_color_range=full, dst_color_range="JPEG")
    return deep.to_ndarray() / 65535


def patches() -> np.ndarray:
    """Large patches of colours that stay in every gamut."""
    colours = np.random.default_rng(4).uniform(0.15, 0.85, (4, 6, 3))
    return np.kron(colours, np.ones((16, 16, 1)))


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le", "yuv444p16le", "nv12", "p010le"])
def test_a_film_of_any_format_goes_through_the_curve(name: str, full: bool) -> None:
    given = frame(name, patches(), full=full)
    before = rgb_of(given)
    made = rgb_of(unfaded(given, CURVE))
    inside = (slice(8, -8, 16), slice(8, -8, 16))
    bits = layout(name).bits  # type: ignore[union-attr]
    assert np.abs(made - values_through(before, CURVE))[inside].max() < 4 / (1 << min(bits, 10))


@pytest.mark.parametrize("name", ["rgb24", "gbrp", "gbrp10le", "gbrp16le", "bgra", "rgb48be"])
def test_rgb_goes_through_the_curve_sample_by_sample(name: str) -> None:
    given = frame(name, np.random.default_rng(1).random((20, 31, 3)))
    form = layout(name)
    assert form is not None
    top = (1 << form.bits) - 1

    def values(of: Frame) -> np.ndarray:
        return np.stack([planes(of.image, form)[role] >> form.shift for role in "rgb"], -1) / top

    old = values(given)
    new = values(unfaded(given, CURVE))
    assert np.abs(new - values_through(old, CURVE)).max() < 0.51 / top + 2e-5


@pytest.mark.parametrize("name", ["gray", "gray10le", "gray16le", "ya8", "monob"])
def test_gray_stays_as_it_is(name: str) -> None:
    given = Frame(
        av.VideoFrame.from_ndarray(np.full((16, 16), 90, np.uint8), "gray").reformat(format=name), 0, Fraction(1)
    )
    before = bytes(given.image.planes[0])
    made = unfaded(given, CURVE)
    assert made.image.format.name == name and bytes(made.image.planes[0]) == before and not made.filtered


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le", "gbrp10le"])
def test_neutral_stays_neutral_by_three_alike_curves(name: str) -> None:
    given = frame(name, np.linspace(0, 1, 96)[None, :, None] * np.ones((32, 1, 3)))
    form = layout(name)
    assert form is not None
    for role in form.components.keys() & {"u", "v"}:
        planes(given.image, form)[role][...] = 1 << (form.bits - 1)
    views = planes(unfaded(given, ALIKE).image, form)
    if name.startswith("yuv"):
        assert {int(v) for role in "uv" for v in np.unique(views[role])} == {1 << (form.bits - 1)}
    else:
        assert np.array_equal(views["r"], views["g"]) and np.array_equal(views["g"], views["b"])


def test_a_field_of_interlaced_film_does_not_touch_the_other() -> None:
    rgb = patches()
    other = rgb.copy()
    other[1::2] = other[1::2, ::-1]
    made, again = (unfaded(frame("yuv422p", one, fields="tff"), CURVE) for one in (rgb, other))
    form = layout("yuv422p")
    assert form is not None
    for role, view in planes(made.image, form, 0).items():
        assert np.array_equal(view, planes(again.image, form, 0)[role])


def test_what_lies_beyond_black_and_white_stays_there() -> None:
    given = frame("yuv444p", np.ones((16, 16, 3)), full=False)
    form = layout("yuv444p")
    assert form is not None
    planes(given.image, form)["y"][:, :8] = 245
    planes(given.image, form)["y"][:, 8:] = 5
    made = planes(unfaded(given, ((1.3, 0.0),) * 3).image, form)["y"]
    assert made[:, :8].min() > 235 and made[:, 8:].max() < 16
