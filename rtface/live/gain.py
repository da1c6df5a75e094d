"""Multiplies native samples by a gain."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from rtface.frame import Float, Float32
from rtface.geometry.color_curves import Range
from rtface.geometry.planes import Samples


def ramp(value: float | Float | Float32, low: float, high: float) -> Float:
    """Returns a smooth rise from 0 at `low` to 1 at `high`."""
    x = np.clip((value - low) / (high - low), 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def multiply(view: Samples, shift: int, span: Range, gain: Float32) -> None:
    """Multiplies samples in place, as distances from black or grey.

    Args:
        view: samples of one component, of any layout.
        shift: bits by which a value is shifted left in its word.
        span: range of the component.
        gain: float32 of the same shape.
    """
    codes = native(view, shift)
    product = cv2.scaleAdd(gain, -span.offset, cv2.multiply(codes, gain, dtype=cv2.CV_32F))
    store(view, shift, span, codes, cv2.addWeighted(product, 1.0, product, 0.0, span.offset, dtype=depth(view)))


def native(view: Samples, shift: int) -> Samples:
    """Returns a copy of the code values in native byte order."""
    return view >> shift


def store(view: Samples, shift: int, span: Range, before: Samples, codes: cv2.typing.MatLike) -> None:
    """Stores code values, limited to the legal range and the values `before`."""
    legal = np.clip(cast(Samples, codes), np.minimum(before, span.low), np.maximum(before, span.high))
    view[...] = legal << shift if shift else legal


def depth(view: Samples) -> int:
    """Returns OpenCV's type for the code values."""
    return cv2.CV_8U if view.dtype.itemsize == 1 else cv2.CV_16U
