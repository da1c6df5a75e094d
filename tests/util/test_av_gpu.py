"""Frames in a GPU's memory: where they lie, and other layouts of the same samples."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from rtface.util.av_gpu import FORMATS, native_format, on_gpu, repacked, software, surface_of

_CUDA = 2  # DLPack's number of that kind of device


class GpuImage:
    """What PyAV shows of a picture on a GPU."""

    format = SimpleNamespace(name="cuda")
    width, height = 130, 98

    def __init__(self, held: str) -> None:
        self.sw_format = SimpleNamespace(name=held)
        self.planes = tuple(
            SimpleNamespace(buffer_ptr=at, line_size=256, __dlpack_device__=lambda: (_CUDA, 2))
            for at in (1 << 40, (1 << 40) + 256 * 112)
        )

    def reformat(self, format: str) -> Any:
        return ("downloaded", format)


@pytest.mark.parametrize("held", FORMATS)
def test_where_a_picture_on_a_gpu_lies(held):
    image: Any = GpuImage(held)
    assert on_gpu(image) and native_format(image) == held
    surface = surface_of(image)
    assert surface.device == 2
    assert (surface.luma, surface.chroma) == (1 << 40, (1 << 40) + 256 * 112)
    assert surface.luma_pitch == surface.chroma_pitch == 256
    assert software(image) == ("downloaded", held)


def test_what_is_no_surface():
    image = av.VideoFrame(64, 48, "nv12")
    assert not on_gpu(image) and native_format(image) == "nv12" and software(image) is image


@pytest.mark.parametrize(
    ("have", "want"),
    [
        ("yuvj420p", "nv12"),
        ("p010le", "yuv420p10le"),
    ],
)
def test_another_layout_changes_no_sample(have, want):
    image = av.VideoFrame(642, 362, have)
    image.color_range = 2 if have == "yuvj420p" else 1
    top = 1 << 10 if "10" in have else 1 << 8
    for plane in image.planes:
        values = np.random.default_rng(1).integers(0, top, (plane.height, plane.line_size // (2 if top > 256 else 1)))
        values = (values << 6 if have == "p010le" else values).astype("<u2" if top > 256 else np.uint8)
        plane.update(values.tobytes())
    for _ in range(50):  # swscale's threads got in each other's way now and then
        there = repacked(image, want)
        back = repacked(there, have)
        if not all(
            np.array_equal(np.from_dlpack(a), np.from_dlpack(b)) for a, b in zip(image.planes, back.planes, strict=True)
        ):
            break
    assert there.format.name == want and int(there.color_range) == int(image.color_range)
    for one, other in zip(image.planes, back.planes, strict=True):
        assert np.array_equal(np.from_dlpack(one), np.from_dlpack(other))
    luma, moved = np.from_dlpack(image.planes[0]), np.from_dlpack(there.planes[0])
    shift = {"p010le": 6}
    assert np.array_equal(luma >> shift.get(have, 0), moved >> shift.get(want, 0))
