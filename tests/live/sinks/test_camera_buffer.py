"""A virtual camera's reader sees the colours and the samples that went in."""

from __future__ import annotations

import av
import numpy as np
import pytest

from rtface.frame import Color
from rtface.live.sinks.camera_buffer import CameraBuffer

LIMITED = Color("bt601")
W, H = 128, 96


def noise(width, height, pix_fmt, seed=0):
    image = av.VideoFrame(width, height, pix_fmt)
    for plane in image.planes:
        flat = np.frombuffer(plane, np.uint8)
        flat[:] = np.random.default_rng(seed).integers(0, 256, flat.size)
    return image


def samples(image):
    """The planes' own samples, without what pads their rows, one after another."""
    rows = []
    for plane in image.planes:
        flat = np.frombuffer(plane, np.uint8)[: plane.height * plane.line_size].reshape(plane.height, plane.line_size)
        rows.append(flat[:, : plane.width].ravel())
    return np.concatenate(rows)


@pytest.mark.parametrize("width", [W, 90])  # 90: rows end in padding
def test_what_fits_goes_through_bit_for_bit(width):
    image, canvas = noise(width, H, "yuv420p"), CameraBuffer(width, H)
    canvas.draw(image, LIMITED)
    assert np.array_equal(canvas.data, samples(image))


def rgb_as_read(canvas):
    """What a reader shows: BT.601 of limited range, in float, chroma repeated."""
    area = W * H
    y = canvas.data[:area].reshape(H, W).astype(float)
    chroma = canvas.data[area:]
    u, v = (half.reshape(H // 2, W // 2).astype(float).repeat(2, 0).repeat(2, 1) for half in np.split(chroma, 2))
    y, u, v = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    return np.clip(np.stack([y + 1.402 * v, y - 0.344136 * u - 0.714136 * v, y + 1.772 * u], -1), 0, 1) * 255


def bars():
    """Eight bars of full colour, 16 samples each: what a wrong matrix or range shows at once."""
    colours = [
        (255, 255, 255),
        (255, 255, 0),
        (0, 255, 255),
        (0, 255, 0),
        (255, 0, 255),
        (255, 0, 0),
        (0, 0, 255),
        (0, 0, 0),
    ]
    return np.repeat(np.array(colours, np.uint8)[None], H, 0).repeat(W // 8, 1)


@pytest.mark.parametrize(
    ("pix_fmt", "color", "matrix", "range_"),
    [
        ("yuvj422p", Color("bt601", True), "ITU601", 2),
        ("yuv420p", Color("bt709"), "ITU709", 1),
        ("yuv420p", Color("bt709", True), "ITU709", 2),
        ("nv12", Color("bt601"), "ITU601", 1),
        ("yuyv422", Color("bt601"), "ITU601", 1),
        ("rgb24", Color("rgb", True), None, 2),
        ("yuv420p10le", Color("bt709"), "ITU709", 1),
        ("yuv444p", Color("bt2020"), "BT2020", 1),
        ("yuv420p", Color("smpte240m"), "SMPTE240M", 1),
    ],
)
def test_readers_see_the_colours_of_the_frame(pix_fmt, color, matrix, range_):
    image = av.VideoFrame.from_ndarray(bars(), "rgb24")
    if matrix:
        image = image.reformat(
            format=pix_fmt, dst_colorspace=matrix, src_color_range=2, dst_color_range=range_, interpolation="BICUBIC"
        )
    canvas = CameraBuffer(W, H)
    canvas.draw(image, color)
    inner = np.s_[:, np.arange(W) % 16 // 4 % 3 == 1]  # away from the bars' edges, where chroma is shared
    error = np.abs(rgb_as_read(canvas)[inner] - bars()[inner].astype(float))
    assert error.max() < 8  # a wrong range is off by 16, a wrong matrix by 60


def test_an_odd_side_is_lengthened_by_one():
    image, canvas = noise(W - 1, H - 1, "yuv420p"), CameraBuffer(W, H)
    canvas.draw(image, LIMITED)
    luma = canvas.data[: W * H].reshape(H, W)
    own = samples(image)[: (W - 1) * (H - 1)].reshape(H - 1, W - 1)
    assert np.array_equal(luma[:-1, :-1], own)
    assert np.array_equal(luma[:-1, -1], own[:, -1])
    assert np.array_equal(luma[-1], luma[-2])
    assert np.array_equal(canvas.data[W * H :], samples(image)[own.size :])  # chroma was rounded up already


def test_another_size_is_fitted_in_with_black_beside():
    canvas = CameraBuffer(W, H)
    image = noise(W, H, "yuv420p")
    for plane, value in zip(image.planes, (200, 100, 150), strict=True):
        np.frombuffer(plane, np.uint8)[:] = value
    canvas.draw(noise(W, H, "yuv420p"), LIMITED)  # nothing of it may stay
    canvas.draw(image.reformat(width=W, height=H // 2), LIMITED)
    luma, chroma = canvas.data[: W * H].reshape(H, W), canvas.data[W * H :]
    top = H // 4
    assert (luma[:top] == 16).all() and (luma[-top:] == 16).all()
    assert (luma[top:-top] == 200).all()
    for plane, value in zip(np.split(chroma, 2), (100, 150), strict=True):
        grid = plane.reshape(H // 2, W // 2)
        assert (grid[: top // 2] == 128).all() and (grid[top // 2 : -top // 2] == value).all()
