"""Frames of any pixel format, made without the code under test."""

from collections.abc import Callable
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from rtface.device.cuda.kernels import CODE, KERNELS
from rtface.device.cuda.structs import STRUCTS
from rtface.frame import Color, Display, Frame
from tests.device.cuda.host_kernels import HostKernels, compile_kernels

WIDTH, HEIGHT = 160, 96


def plane_bytes(image: av.VideoFrame) -> list[np.ndarray]:
    """Every byte of every plane, rows × line size, padding cut off where the width is known by the plane."""
    return [
        np.frombuffer(p, np.uint8)[: p.line_size * p.height].reshape(p.height, p.line_size).copy() for p in image.planes
    ]


@pytest.fixture
def noise_frame() -> Callable[..., Frame]:
    """A frame of random legal samples: `make(format, display=…, color=…)`."""

    def make(name: str, *, width: int = WIDTH, height: int = HEIGHT, seed: int = 0, **kwargs) -> Frame:
        rng = np.random.default_rng(seed)
        rgb = cv2.GaussianBlur(rng.integers(40, 216, (height, width, 3)).astype(np.uint8), (3, 3), 0.8)
        image = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=name)
        image.pts, image.time_base = 17, Fraction(1, 25)
        return Frame(image, 17, Fraction(1, 25), **kwargs)

    return make


@pytest.fixture
def flat_frame() -> Callable[..., Frame]:
    """A frame of one colour, converted by swscale: `make(format, (r, g, b), color=…)`."""

    def make(
        name: str,
        rgb: tuple[int, int, int],
        *,
        width: int = WIDTH,
        height: int = HEIGHT,
        color: Color | None = None,
        display: Display | None = None,
    ) -> Frame:
        color = color or Color()
        image = av.VideoFrame.from_ndarray(np.full((height, width, 3), rgb, np.uint8), "rgb24")
        image = image.reformat(
            format=name,
            dst_colorspace={"bt601": "ITU601", "bt709": "ITU709"}.get(color.matrix),
            dst_color_range="JPEG" if color.full_range else "MPEG",
        )
        image.pts = 5
        return Frame(image, 5, Fraction(1, 25), color=color, display=display or Display())

    return make


@pytest.fixture
def mean_rgb() -> Callable[..., np.ndarray]:
    """Mean RGB of a stored region by swscale, 0…255."""

    def measure(frame: Frame, box: tuple[int, int, int, int]) -> np.ndarray:
        name = {"bt601": "ITU601", "bt709": "ITU709"}.get(frame.color.matrix)
        out = frame.image.reformat(
            format="rgb48le",
            src_colorspace=name,
            src_color_range="JPEG" if frame.color.full_range else "MPEG",
            dst_color_range="JPEG",
        )
        x0, y0, x1, y1 = box
        return out.to_ndarray()[y0:y1, x0:x1].reshape(-1, 3).mean(axis=0) / 257.0

    return measure


@pytest.fixture(scope="session")
def host() -> HostKernels:
    """The kernels of the frame path, compiled for the host once."""
    return compile_kernels(CODE, KERNELS, STRUCTS)
