"""The preview's JPEG shows the colours of the frame, whatever the frame's format."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from rtface.device.cpu.swscale import Swscale
from rtface.device.cpu.view import CpuView
from rtface.frame import Color, Frame
from rtface.live.control.preview import PairEncoder


def colourful(width, height):
    """RGB that changes slowly, of strong colours, other ones in every corner."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return np.stack([40 + 180 * x, 40 + 180 * y, 220 - 160 * x * y], axis=-1).round().astype(np.uint8)


def frame(fmt="yuv420p", matrix="bt709", full=False, size=(320, 180)):
    image = av.VideoFrame.from_ndarray(colourful(*size), format="rgb24").reformat(
        format=fmt,
        dst_colorspace={"bt601": "ITU601", "bt709": "ITU709"}[matrix],
        dst_color_range="JPEG" if full else "MPEG",
    )
    return Frame(image, 0, Fraction(1, 1000), color=Color(matrix, full_range=full))


def shown(given, side=640):
    jpeg = PairEncoder()(given, given, side)
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)


@pytest.mark.parametrize(
    ("fmt", "matrix", "full", "size"),
    [
        ("yuv420p", "bt601", False, (320, 180)),
        ("yuv420p", "bt709", False, (1280, 720)),
        ("yuv420p", "bt709", True, (1922, 1082)),
        ("yuvj422p", "bt601", True, (1280, 720)),
        ("yuvj422p", "bt709", True, (320, 180)),
        ("yuv444p", "bt709", False, (1922, 1082)),
        ("yuv444p", "bt601", True, (320, 180)),
        ("nv12", "bt709", False, (1280, 720)),
        ("yuv420p10le", "bt709", False, (320, 180)),
        ("bgr24", "bt601", True, (1922, 1082)),
    ],
)
def test_colours_are_those_of_the_frame(fmt, matrix, full, size):
    given = frame(fmt, matrix, full or fmt.startswith("yuvj"), size)
    found = shown(given)
    found = found[:, : found.shape[1] // 2]
    wanted = CpuView(given, Swscale()).thumbnail(640)[0]
    wanted = cv2.resize(wanted, found.shape[1::-1], interpolation=cv2.INTER_LINEAR).astype(int)
    assert abs((found - wanted).mean(axis=(0, 1))).max() < 2.5  # a matrix or range that is mixed up: 8 or more
    assert np.percentile(abs(found - wanted), 99) < 8
