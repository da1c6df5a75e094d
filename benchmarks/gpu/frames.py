"""Frames in memory, made without PyAV: moving portraits, and their faces."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from rtface.frame import Color, Face, Frame

# Eye centres, nose tip and mouth corners of scikit-image's astronaut (512 pixels).
_POINTS = np.array([[201.5, 106.5], [248.5, 103.0], [229.5, 133.0], [208.0, 156.5], [250.5, 153.5]])
RATE = 30


class _Plane(bytearray):
    """A plane with the PyAV attributes that the frame path uses."""

    line_size = 0
    width = 0
    height = 0


class Picture:
    """A picture in I420 or NV12. Has those attributes of av.VideoFrame that the frame path uses."""

    def __init__(self, width: int, height: int, name: str, planes: list[np.ndarray]) -> None:
        self.width, self.height, self.format = width, height, SimpleNamespace(name=name)
        self.planes: list[_Plane] = []
        for samples in planes:
            plane = _Plane(samples.tobytes())
            plane.height, plane.line_size = samples.shape[0], samples.strides[0]
            plane.width = width if len(self.planes) == 0 else width // 2
            self.planes.append(plane)

    def make_writable(self) -> None:
        """Does nothing, because a `Picture` is always writable."""

    def copy(self) -> Picture:
        """Copies the picture and its samples."""
        out = Picture(self.width, self.height, self.format.name, [])
        for plane in self.planes:
            copied = _Plane(plane)
            copied.width, copied.height, copied.line_size = plane.width, plane.height, plane.line_size
            out.planes.append(copied)
        return out


class Film:
    """A short scene that repeats. Each frame has separate samples.

    Args:
        width, height: size in pixels.
        faces: number of copies of the portrait, side by side.
        face_px: width of a face's box.
        name: pixel format, "yuv420p" or "nv12".
        length: number of pictures until the scene repeats.
    """

    def __init__(self, width: int, height: int, faces: int, face_px: int, name: str = "nv12", length: int = 8) -> None:
        picture = portrait()
        self.width, self.height = width, height
        self._clean: list[Picture] = []
        self._faces: list[tuple[Face, ...]] = []
        rng = np.random.default_rng(0)
        scale = face_px / 105.0
        columns = [int(width * k / faces) for k in range(faces + 1)]
        for t in range(length):
            rgb = np.zeros((height, width, 3), np.uint8)
            detected: list[Face] = []
            for k in range(faces):
                middle = (columns[k] + columns[k + 1]) / 2 + 4 * np.sin(t * 0.8 + k)
                matrix = cv2.getRotationMatrix2D((225.0, 130.0), 4 * np.sin(t * 0.5 + k), scale)
                matrix[:, 2] += (middle - 225.0, height / 2 - 130.0 + 3 * np.cos(t * 0.7 + k))
                layer = cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
                rgb[:, columns[k] : columns[k + 1]] = layer[:, columns[k] : columns[k + 1]]
                points = _POINTS @ matrix[:, :2].T + matrix[:, 2]
                centre = points.mean(0)
                detected.append(Face(k + 1, np.concatenate([centre - face_px / 2, centre + face_px / 2]), points))
            noisy = np.clip(rgb + rng.normal(0, 2, rgb.shape), 0, 255).astype(np.uint8)
            self._clean.append(_picture(noisy, name))
            self._faces.append(tuple(detected))

    def frame(self, n: int) -> Frame:
        """Returns the n-th frame."""
        k = n % len(self._clean)
        image: Any = self._clean[k].copy()
        return Frame(image, n, Fraction(1, RATE), 1, color=Color("bt601"), faces=self._faces[k])


def video_frame(picture: Any, pts: int) -> Any:
    """Converts a `Picture` in NV12 to an av.VideoFrame."""
    import av

    image = av.VideoFrame(picture.width, picture.height, "nv12")
    for to, plane in zip(image.planes, picture.planes, strict=True):
        rows = np.frombuffer(to, np.uint8).reshape(plane.height, to.line_size)
        rows[:, : plane.line_size] = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    image.pts, image.time_base = pts, Fraction(1, RATE)
    return image


def portrait() -> np.ndarray:
    """Returns a portrait, uint8 512×512×3."""
    try:
        from skimage import data

        return data.astronaut()
    except ImportError:  # plain shapes suffice to measure speed
        picture = np.full((512, 512, 3), 90, np.uint8)
        cv2.ellipse(picture, (228, 130), (55, 75), 0, 0, 360, (200, 160, 140), -1)
        return cv2.GaussianBlur(picture, (0, 0), 3.0)


def _picture(rgb: np.ndarray, name: str) -> Picture:
    height, width = rgb.shape[:2]
    samples = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420).reshape(-1)
    y, chroma = samples[: height * width].reshape(height, width), samples[height * width :]
    u, v = chroma.reshape(2, height // 2, width // 2)
    if name == "yuv420p":
        return Picture(width, height, name, [y, u, v])
    return Picture(width, height, name, [y, np.ascontiguousarray(np.stack([u, v], -1)).reshape(height // 2, width)])
