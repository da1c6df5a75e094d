"""The slate: the image that viewers see while the source is away."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np

from rtface.frame import Color, Frame
from rtface.live.protocols import VideoFormat
from rtface.live.reshape import Letterbox

WORDS = "back in a moment"
_BACKGROUND, _INK = 24, (208, 208, 208)


def slate(form: VideoFormat) -> av.VideoFrame:
    """The slate as a frame of a format: words that do not name the source, whose address is private."""
    width, height = round(form.width * form.aspect), form.height
    canvas, face = np.full((height, width, 3), _BACKGROUND, np.uint8), cv2.FontFace("sans")
    size = max(8, round(min(0.07 * height, 0.09 * width)))
    right = cv2.getTextSize((width, height), WORDS, (0, 0), face, size, 400)[2]
    cv2.putText(canvas, WORDS, ((width - right) // 2, round(height / 2 + size / 3)), _INK, face, size, 400)
    picture: Any = av.VideoFrame.from_ndarray(canvas, "rgb24")
    return Letterbox(form)(Frame(picture, 0, Fraction(1), color=Color("rgb", full_range=True))).image
