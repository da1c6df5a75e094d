"""Renders the slate, which viewers see while the source is away."""

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
# Largest shares of the frame: height of a line, height of all lines, width of a line. Then: characters per line.
_TEXT_SIZE, _TEXT_HEIGHT, _TEXT_WIDTH, _LINE = 0.07, 0.55, 0.86, 36


class Slate:
    """Renders neutral words, or the user's text or image. The slate does not name the source, whose address is private.

    Args:
        given: words, or path of an image; None for the default words.

    Raises:
        UsageError: the image is missing or cannot be read.
    """

    def __init__(self, given: str | None = None) -> None:
        self._words, self._image = given or WORDS, None
        if given is not None and (given.lower().endswith(_SUFFIXES) or Path(given).is_file()):
            self._image = _read(given)

    def __call__(self, form: VideoFormat) -> av.VideoFrame:
        """Renders the slate in a format. An image of other proportions is letterboxed."""
        image = self._image
        if image is None:
            image = np.full((form.height, round(form.width * form.aspect), 3), _BACKGROUND, np.uint8)
            _write(self._words, image)
        picture: Any = av.VideoFrame.from_ndarray(image, "rgb24")
        color = Color("rgb", full_range=True)
        return Letterbox(form)(Frame(picture, 0, Fraction(1), color=color)).image


def _read(path: str) -> Bytes:
    try:
        data = np.frombuffer(read_regular(expanded(path, "--slate")), np.uint8)
    except OSError as error:
        raise UsageError(
            "{--slate:{path}}: cannot be read ({why}); give an image or words",
            code="slate_unreadable",
            path=path,
            why=error.strerror,
        ) from None
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise UsageError(
            "{--slate:{path}}: is not a readable image; give a PNG or JPEG, or words",
            code="slate_no_image",
            path=path,
        )
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _write(words: str, canvas: Bytes) -> None:
    """Draws words in the middle, as large as they fit."""
    height, width = canvas.shape[:2]
    face, lines = cv2.FontFace("sans"), [part for line in words.splitlines() for part in wrap(encodable(line), _LINE)]
    size = max(8, round(min(_TEXT_SIZE, _TEXT_HEIGHT / max(1, len(lines))) * height))
    while size > 8 and max(_width(canvas, line, face, size) for line in lines) > _TEXT_WIDTH * width:
        size -= 1
    for number, line in enumerate(lines):
        x = (width - _width(canvas, line, face, size)) // 2
        y = round(height / 2 + (number - (len(lines) - 1) / 2) * 1.5 * size + size / 3)
        cv2.putText(canvas, line, (x, y), _INK, face, size, 400)


def _width(canvas: Bytes, line: str, face: cv2.FontFace, size: int) -> int:
    return cv2.getTextSize(canvas.shape[1::-1], line, (0, 0), face, size, 400)[2]
