"""Memory lent to other libraries without a copy, and the pictures made around it."""

from __future__ import annotations

import gc
import threading
import weakref
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from rtface.errors import UsageError
from rtface.util.av_gpu import FORMATS, native_format, on_gpu, picture_of, repacked, software, surface_of
from rtface.util.dlpack import CPU, CUDA, Plane, lent


class Owner:
    """Memory with somebody who owns it."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self.address: int = values.ctypes.data


def owner_of(values: np.ndarray) -> tuple[Owner, list[str]]:
    """An owner, and a list that says when it went."""
    owner, said = Owner(values), []
    weakref.finalize(owner, said.append, "gone")
    return owner, said


def numbers(shape: tuple[int, ...], dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(3).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


@pytest.fixture(autouse=True)
def nothing_stays_out():
    before = lent()
    yield
    gc.collect()
    assert lent() == before


@pytest.mark.parametrize(("shape", "strides", "dtype"), [
    ((48, 64), (64, 1), np.uint8), ((48, 50), (64, 1), np.uint8), ((24, 32, 2), (64, 2, 1), np.uint8),
    ((48, 64), (80, 1), np.uint16), ((7,), (3,), np.uint16),
])
def test_numpy_sees_the_same_bytes(shape, strides, dtype):
    memory = numbers((48, 80), dtype)
    bits = 8 * memory.itemsize
    owner, said = owner_of(memory)
    seen = np.from_dlpack(Plane(owner.address, shape, strides, bits, owner))
    want = np.lib.stride_tricks.as_strided(memory, shape, [s * memory.itemsize for s in strides])
    assert np.array_equal(seen, want) and seen.ctypes.data == memory.ctypes.data and seen.dtype == dtype
    memory[0] = 77
    assert seen.flat[0] == 77 and lent() == 1
    del owner
    assert not said
    del seen
    assert said == ["gone"] and lent() == 0


def test_a_capsule_that_nobody_takes_lets_go():
    owner, said = owner_of(numbers((4, 4)))
    capsule = Plane(owner.address, (4, 4), (4, 1), 8, owner).__dlpack__()
    del owner
    assert lent() == 1 and not said
    del capsule
    assert lent() == 0 and said == ["gone"]


def test_every_hand_over_is_let_go_once():
    owner, said = owner_of(numbers((4, 4)))
    plane = Plane(owner.address, (4, 4), (4, 1), 8, owner)
    one, two = np.from_dlpack(plane), np.from_dlpack(plane)
    assert lent() == 2
    del one, owner, plane
    assert lent() == 1 and not said and two.shape == (4, 4)
    del two
    assert said == ["gone"]


def test_another_thread_may_let_go():
    owner, said = owner_of(numbers((48, 64)))
    held = [np.from_dlpack(Plane(owner.address, (48, 64), (64, 1), 8, owner))]
    del owner
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert said == ["gone"]


def test_where_it_lies():
    owner = Owner(numbers((4, 4)))
    assert Plane(owner.address, (4, 4), (4, 1), 8, owner).__dlpack_device__() == (CPU, 0)
    gpu = Plane(owner.address, (4, 4), (4, 1), 8, owner, device=1)
    assert gpu.__dlpack_device__() == (CUDA, 1)
    with pytest.raises(BufferError):
        gpu.__dlpack__(dl_device=(CPU, 0))
    with pytest.raises(BufferError):
        gpu.__dlpack__(copy=True)
    assert gpu.__dlpack__(stream=7, max_version=(1, 0), dl_device=(CUDA, 1)) is not None


@pytest.mark.parametrize(("format", "dtype"), [("nv12", np.uint8), ("p010le", np.uint16)])
@pytest.mark.parametrize("padding", [0, 32])
def test_a_picture_around_memory(format, dtype, padding):
    """PyAV takes both planes without a copy, and lets go when the last of it goes."""
    pitch = 64 + padding
    memory = numbers((72, pitch), dtype)
    owner, said = owner_of(memory)
    like = av.VideoFrame(64, 48, "yuv420p")
    like.color_range, like.colorspace, like.color_primaries, like.color_trc = 2, 9, 9, 16
    image = picture_of(owner.address, pitch * memory.itemsize, 64, 48, format, owner=owner, device=None, like=like)
    assert (image.width, image.height, image.format.name, lent()) == (64, 48, format, 2)
    assert [int(image.color_range), int(image.colorspace), int(image.color_primaries), int(image.color_trc)] == [
        2, 9, 9, 16]
    assert image.planes[0].buffer_ptr == memory.ctypes.data
    luma, chroma = (np.from_dlpack(plane) for plane in image.planes)
    assert np.array_equal(luma, memory[:48, :64]) and np.array_equal(chroma.reshape(24, 64), memory[48:, :64])
    del owner, luma, chroma
    assert not said
    del image
    gc.collect()
    assert said == ["gone"]


@pytest.mark.parametrize("change", [{"width": 63}, {"height": 47}, {"format": "yuv420p"}, {"pitch": 60}])
def test_a_picture_that_cannot_be(change):
    memory = numbers((72, 64))
    with pytest.raises(UsageError, match="cannot be a picture"):
        picture_of(memory.ctypes.data, **{"pitch": 64, "width": 64, "height": 48, "format": "nv12", **change},
                   owner=memory, device=None)


def test_pictures_around_memory_go_into_an_encoder():
    """A lossless round trip; the encoder lets go of each buffer, so a ring of them can be used."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 64, 48, "nv12"
    encoder.time_base, encoder.options = Fraction(1, 25), {"qp": "0", "preset": "ultrafast", "tune": "zerolatency"}
    memories, packets, free = [numbers((72, 64)) // 2 + n for n in range(4)], [], []
    for n, memory in enumerate(memories):
        owner = Owner(memory)
        weakref.finalize(owner, free.append, n)
        image = picture_of(owner.address, 64, 64, 48, "nv12", owner=owner, device=None)
        image.pts = n
        packets += encoder.encode(image)
    del image, owner
    packets += encoder.encode(None)
    assert sorted(free) == [0, 1, 2, 3]
    decoder = av.CodecContext.create("h264", "r")
    images = [i for packet in [*packets, None] for i in decoder.decode(packet)]
    assert len(images) == 4
    for image, memory in zip(images, memories, strict=True):
        luma, chroma = (np.from_dlpack(plane) for plane in repacked(image, "nv12").planes)
        assert np.array_equal(luma, memory[:48]) and np.array_equal(chroma.reshape(24, 64), memory[48:])


class GpuImage:
    """What PyAV shows of a picture on a GPU."""

    format = SimpleNamespace(name="cuda")
    width, height = 130, 98

    def __init__(self, held: str) -> None:
        self.sw_format = SimpleNamespace(name=held)
        self.planes = tuple(SimpleNamespace(buffer_ptr=at, line_size=256, __dlpack_device__=lambda: (CUDA, 2))
                            for at in (1 << 40, (1 << 40) + 256 * 112))

    def reformat(self, format: str) -> Any:
        return ("downloaded", format)


@pytest.mark.parametrize("held", FORMATS)
def test_where_a_picture_on_a_gpu_lies(held):
    image: Any = GpuImage(held)
    assert on_gpu(image) and native_format(image) == held
    surface = surface_of(image)
    assert (surface.format, surface.device, surface.width, surface.height) == (held, 2, 130, 98)
    assert (surface.luma, surface.chroma) == (1 << 40, (1 << 40) + 256 * 112)
    assert surface.luma_pitch == surface.chroma_pitch == 256 and surface.image is image
    assert software(image) == ("downloaded", held)


def test_what_is_no_surface():
    image = av.VideoFrame(64, 48, "nv12")
    assert not on_gpu(image) and native_format(image) == "nv12" and software(image) is image
    with pytest.raises(UsageError, match="memory of the host"):
        surface_of(image)
    with pytest.raises(UsageError, match="yuv444p16le"):
        surface_of(GpuImage("yuv444p16le"))  # type: ignore[arg-type]


@pytest.mark.parametrize(("have", "want"), [("yuv420p", "nv12"), ("yuvj420p", "nv12"), ("yuv420p10le", "p010le"),
                                            ("nv12", "yuv420p"), ("p010le", "yuv420p10le")])
@pytest.mark.parametrize("size", [(66, 50), (642, 362)])
def test_another_layout_changes_no_sample(have, want, size):
    image = av.VideoFrame(*size, have)
    image.color_range = 2 if have == "yuvj420p" else 1
    top = 1 << 10 if "10" in have else 1 << 8
    for plane in image.planes:
        values = np.random.default_rng(1).integers(0, top, (plane.height, plane.line_size // (2 if top > 256 else 1)))
        values = (values << 6 if have == "p010le" else values).astype("<u2" if top > 256 else np.uint8)
        plane.update(values.tobytes())
    for _ in range(50):  # swscale's threads got in each other's way now and then
        there = repacked(image, want)
        back = repacked(there, have)
        if not all(np.array_equal(np.from_dlpack(a), np.from_dlpack(b))
                   for a, b in zip(image.planes, back.planes, strict=True)):
            break
    assert there.format.name == want and int(there.color_range) == int(image.color_range)
    for one, other in zip(image.planes, back.planes, strict=True):
        assert np.array_equal(np.from_dlpack(one), np.from_dlpack(other))
    luma, moved = np.from_dlpack(image.planes[0]), np.from_dlpack(there.planes[0])
    shift = {"p010le": 6}
    assert np.array_equal(luma >> shift.get(have, 0), moved >> shift.get(want, 0))
