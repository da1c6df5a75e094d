"""Renders the slate, the picture for viewers while the source is away."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from textwrap import wrap
from typing import Any

import av
import cv2
import numpy as np

from rtface.errors import UsageError
from rtface.frame import Bytes, Color, Frame
from rtface.live.protocols import VideoFormat
from rtface.live.reshape import Letterbox
from rtface.util.foreign import read_regular
from rtface.util.paths import expanded
from rtface.util.text import encodable

WORDS = "back in a moment"
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_BACKGROUND, _INK = 24, (208, 208, 208)
# Maxima: height of a line, height of all lines and width of a line, as shares of the frame; characters per line.
_LINE_HEIGHT, _TEXT_HEIGHT, _TEXT_WIDTH, _COLUMNS = 0.07, 0.55, 0.86, 36


class Slate:
    """Renders a neutral text, or the user's text or image. The neutral text does not mention the source,
    because its address is private.

    Args:
        content: text, or path of an image; None for the neutral text.

    Raises:
        UsageError: the image is missing or cannot be read.
    """

    def __init__(self, content: str | None = None) -> None:
        self._text, self._image = content or WORDS, None
        if content is not None and (content.lower().endswith(_SUFFIXES) or Path(content).is_file()):
            self._image = _read(content)

    def __call__(self, form: VideoFormat) -> av.VideoFrame:
        """Renders the slate in a format. An image with another aspect ratio is letterboxed."""
        image = self._image
        if image is None:
            image = np.full((form.height, round(form.width * form.aspect), 3), _BACKGROUND, np.uint8)
            _draw_text(self._text, image)
        picture: Any = av.VideoFrame.from_ndarray(image, "rgb24")
        color = Color("rgb", full_range=True)
        return Letterbox(form)(Frame(picture, 0, Fraction(1), color=color)).image


def _read(path: str) -> Bytes:
    try:
        data = np.frombuffer(read_regular(expanded(path, "--slate")), np.uint8)
    except OSError as error:
        raise UsageError(
            "{--slate:{path}}: cannot be read ({why}); use an image or a text",
            code="slate_unreadable",
            path=path,
            why=error.strerror,
        ) from None
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise UsageError(
            "{--slate:{path}}: is not a readable image; use a PNG or JPEG image, or a text",
            code="slate_no_image",
            path=path,
        )
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _draw_text(text: str, canvas: Bytes) -> None:
    """Draws text in the middle of the canvas, as large as possible."""
    height, width = canvas.shape[:2]
    font, lines = cv2.FontFace("sans"), [row for line in text.splitlines() for row in wrap(encodable(line), _COLUMNS)]
    size = max(8, round(min(_LINE_HEIGHT, _TEXT_HEIGHT / max(1, len(lines))) * height))
    while size > 8 and max(_width(canvas, line, font, size) for line in lines) > _TEXT_WIDTH * width:
        size -= 1
    for number, line in enumerate(lines):
        x = (width - _width(canvas, line, font, size)) // 2
        y = round(height / 2 + (number - (len(lines) - 1) / 2) * 1.5 * size + size / 3)
        cv2.putText(canvas, line, (x, y), _INK, font, size, 400)


def _width(canvas: Bytes, line: str, font: cv2.FontFace, size: int) -> int:
    return cv2.getTextSize(canvas.shape[1::-1], line, (0, 0), font, size, 400)[2]
