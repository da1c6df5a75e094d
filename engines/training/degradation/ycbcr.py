"""Converts RGB to planar YCbCr and back, at any bit depth."""

from __future__ import annotations

from typing import Any

import av
import cv2
import numpy as np

from rtface.media.formats.color import color_of
from rtface.util.av_arrays import plane_rows
from training.crop_space import F32, U8
from training.degradation.single_image import rounded

LUMA_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
"""Weights of red and blue in luma, by matrix: ITU-R BT.601, BT.709, BT.2020 (non-constant luminance)."""


def from_rgb(image: U8, pixels: str, siting: str = "left") -> av.VideoFrame:
    """Converts uint8 H×W×3 RGB to planar YCbCr, BT.601.

    Formats named ``yuvj…`` have full range, other formats limited range. A chroma sample is the mean of the pixels that
    share it, as in cameras. OpenCV's I420 copies one of these pixels, which shifts colour by half a pixel.

    Args:
        siting: position of a chroma sample among its luma samples: "center", or "left" (centred vertically only).
    """
    height, width = image.shape[:2]
    frame = av.VideoFrame(width, height, pixels)
    red, blue = LUMA_WEIGHTS["bt601"]
    rgb = image.astype(np.float32) / 255
    y = rgb @ np.array([red, 1 - red - blue, blue], np.float32)
    chroma = [(rgb[..., 2] - y) / (2 - 2 * blue), (rgb[..., 0] - y) / (2 - 2 * red)]
    full, bits = pixels.startswith("yuvj"), frame.format.components[0].bits
    for k, plane in enumerate(frame.planes):
        part = _reduce_chroma(chroma[k - 1], plane.width, plane.height, siting) if k else y
        black, span = (128 if k else 0, 255) if full else (128, 224) if k else (16, 219)
        depth = 1 << (bits - 8)
        code = np.clip(np.rint((black + part * span) * depth), 0, (1 << bits) - 1)
        _sample_array(plane, bits)[:, : plane.width] = code
    return frame


def _reduce_chroma(chroma: F32, width: int, height: int, siting: str) -> F32:
    """Reduces a chroma plane to ``width``×``height`` by averaging."""
    step = chroma.shape[1] // width
    if siting == "left" and step > 1:  # a tent filter, centred on the first column that shares a sample
        kernel = np.concatenate([np.arange(1, step + 1), np.arange(step - 1, 0, -1)]).astype(np.float32) / step**2
        chroma = cv2.filter2D(chroma, -1, kernel[None], borderType=cv2.BORDER_REPLICATE)[:, : step * width : step]
    return np.asarray(cv2.resize(chroma, (width, height), interpolation=cv2.INTER_AREA), np.float32)


def shown(frame: av.VideoFrame, siting: str = "left") -> U8:
    """Converts a decoded frame to uint8 H×W×3 RGB by its colour tags.

    Computes in float32 and rounds only at the end. libswscale would darken by about one code value per round trip.

    Raises:
        ValueError: the frame is neither planar YCbCr nor RGB.
    """
    color, name = color_of(frame), frame.format.name
    if color.matrix == "rgb":
        return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    if len(frame.planes) != 3 or color.matrix not in LUMA_WEIGHTS:
        raise ValueError(f"frames in the format {name} are not supported")
    bits = frame.format.components[0].bits
    y, cb, cr = (_scale(plane, bits, k > 0, color.full_range, frame, siting) for k, plane in enumerate(frame.planes))
    red, blue = LUMA_WEIGHTS[color.matrix]
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    g = (y - red * r - blue * b) / (1 - red - blue)
    return rounded(np.stack([r, g, b], -1) * np.float32(255))


def _scale(plane: Any, bits: int, chroma: bool, full: bool, frame: av.VideoFrame, siting: str) -> F32:
    """Converts a plane to float32 at full size H×W: luma 0…1, chroma −0.5…0.5."""
    code = _sample_array(plane, bits)[:, : plane.width].astype(np.float32) / np.float32(1 << (bits - 8))
    black, span = (128 if chroma else 0, 255) if full else (128, 224) if chroma else (16, 219)
    unit = (code - np.float32(black)) / np.float32(span)
    size = frame.width, frame.height
    if not chroma or siting != "left" or plane.width == frame.width:
        return np.asarray(cv2.resize(unit, size, interpolation=cv2.INTER_LINEAR), np.float32)
    x, y = plane.width / frame.width, plane.height / frame.height
    back = np.array([[x, 0, 0], [0, y, (y - 1) / 2]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(unit, back, size, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _sample_array(plane: Any, bits: int) -> Any:
    """Returns a plane's samples as a writable array: rows × (width and padding)."""
    rows = plane_rows(plane)
    return rows if bits == 8 else rows.view(np.uint16)
