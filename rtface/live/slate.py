"""The slate: the image that viewers see while the source is away."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap

import av
import cv2
import numpy as np

from rtface.errors import UsageError
from rtface.frame import Bytes
from rtface.live.letterbox import frame_from_rgb
from rtface.live.protocols import VideoFormat
from rtface.util.foreign import read_regular
from rtface.util.paths import expanded
from rtface.util.text import encodable

WORDS = "back in a moment"
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_BACKGROUND, _INK = 24, (208, 208, 208)
# Of the frame's height: a line, and all of them with their distances; of its width; characters of a line.
_TEXT_SIZE, _TEXT_HEIGHT, _TEXT_WIDTH, _LINE = 0.07, 0.55, 0.86, 36


class Slate:
    """The image shown while the source is away: neutral words, or the user's text or image. It does not
    name the source, whose address is private.

    Args:
        given: words, or the path of an image; None for the usual words.

    Raises:
        UsageError: an image that is missing or cannot be read.
    """

    def __init__(self, given: str | None = None) -> None:
        self._words, self._image = given or WORDS, None
        if given is not None and (given.lower().endswith(_SUFFIXES) or Path(given).is_file()):
            self._image = _read(given)

    def __call__(self, form: VideoFormat) -> av.VideoFrame:
        """The slate as a frame of a format; an image of other proportions is shown whole in the middle."""
        aspect = float(form.aspect)
        canvas = np.full(
            (form.height, round(form.width * aspect), 3), 0 if self._image is not None else _BACKGROUND, np.uint8
        )
        if self._image is not None:
            _place(self._image, canvas)
        else:
            _write(self._words, canvas)
        if canvas.shape[1] != form.width:
            canvas = np.asarray(cv2.resize(canvas, (form.width, form.height), interpolation=cv2.INTER_AREA), np.uint8)
        return frame_from_rgb(canvas, form)


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
            "{--slate:{path}}: is no image that can be read; give a PNG or JPEG, or words",
            code="slate_no_image",
            path=path,
        )
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _place(image: Bytes, canvas: Bytes) -> None:
    height, width = canvas.shape[:2]
    scale = min(width / image.shape[1], height / image.shape[0])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    y, x = (height - size[1]) // 2, (width - size[0]) // 2
    canvas[y : y + size[1], x : x + size[0]] = small


def _write(words: str, canvas: Bytes) -> None:
    """Words in the middle, as large as they fit."""
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
