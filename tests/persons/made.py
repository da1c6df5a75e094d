"""Made embeddings, and what stands in for views and the network."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from rtface.engine import learned
from rtface.engine.recipe import SHIPPED
from rtface.frame import Bytes, Face, Float, Float32, Frame


def direction(angle: float, other: int = 1) -> Float32:
    """A vector of length 1 at an angle (radians) from the first axis; the distance of two is about their angle."""
    out = np.zeros(128, np.float32)
    out[0], out[other] = np.cos(angle), np.sin(angle)
    return out


ANNA, BEN, CLEO = direction(0.0), direction(1.2, 1), direction(1.2, 2)
"""Three people: far from each other."""


def at(person: Float32, off: float, axis: int = 50) -> Float32:
    """An embedding at about this distance from a person's."""
    out = person.copy()
    out[axis] += np.float32(off)
    return out / np.float32(np.linalg.norm(out))


def face(track: int, width: float = 100.0, *, x: float = 200.0, yaw: float = 0.0) -> Face:
    """A frontal face of this width around (x, 150)."""
    unit = np.array([(-0.22, -0.05), (0.22, -0.05), (0.0, 0.2), (-0.18, 0.42), (0.18, 0.42)])
    points = unit * width + (x, 150.0)
    half = width / 2
    return Face(track, np.array([x - half, 150 - half, x + half, 150 + half]), points, pose=(yaw, 0.0, 0.0))


def frame(time: float, *faces: Face, new: bool = False) -> Frame:
    return Frame(av.VideoFrame(16, 16, "yuv420p"), round(time * 1000), Fraction(1, 1000), faces=faces, new=new)


class NumberedView:
    """A view of 640×360 whose crops tell where they were cut: the first sample is the place in x, of 640 in 255."""

    width, height = 640.0, 360.0

    def crop(self, matrix: Float, size: tuple[int, int]) -> Bytes:
        rng = np.random.default_rng(0)
        out = rng.integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
        x = (size[0] / 2 - matrix[0, 2]) / matrix[0, 0]
        out[0, 0] = np.clip(round(x * 255 / 640), 0, 255)
        return out


def learnt(path: Path, person: Float32, *, amount: float = 0.002, **meta: Any) -> Path:
    """Writes a person's file, by which the last convolution of `rtface-s` is changed by `amount` everywhere;
    `meta` over what is usual."""
    import onnx

    data = (SHIPPED / "rtface-s" / "model.onnx").read_bytes()
    (head,) = (t for t in onnx.load_from_string(data).graph.initializer if "core.head.weight" in t.name)
    rows, columns = head.dims[0], int(np.prod(head.dims[1:]))
    place = data.find(head.raw_data), len(head.raw_data) // (rows * columns), rows, columns
    meta = {"base": hashlib.sha256(data).hexdigest()} | meta
    learned.write(path.stem.title(), meta, person[None], [place], np.full(rows * columns, amount), path)
    return path
