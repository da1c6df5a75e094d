"""``picture``: an image with alpha, animated or not, on a face or at a fixed place."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from rtface.errors import UsageError
from rtface.frame import Bytes, Float
from rtface.stages import Canvas, Frame, Run, Sprite, option, state
from rtface.util.foreign import open_regular
from rtface.util.parse import boolean, choice, number, path
from rtface_overlays.follow import FaceChoice, Fade, Spot, Steady, check_faces
from rtface_overlays.places import PLACES, stand

# Anchor points on the 512×512 face template, and the point of the image placed there (as shares of the image's size).
_ANCHORS = {
    "eyes": ((256.0, 240.0), (0.5, 0.5)),
    "nose": ((257.0, 314.0), (0.5, 0.5)),
    "mouth": ((257.0, 371.0), (0.5, 0.5)),
    "face": ((256.0, 270.0), (0.5, 0.5)),
    "above": ((256.0, 40.0), (0.5, 1.0)),
    "below": ((256.0, 490.0), (0.5, 0.0)),
}
_SIDE = {False: 2048, True: 512}  # maximum side in pixels; True: of an animation
_MAX_IMAGES = 600  # maximum number of images in an animation
_FADE_S, _GONE_S = 0.15, 1.0  # time of fading; time after which the image of a lost face is removed


@dataclass(slots=True)
class _Sticker:
    last_seen: float
    fade: Fade
    steady: Steady
    matrix: Float


@dataclass
class Picture:
    """An image on a face or at a fixed place: PNG, GIF or WebP, animated or not."""

    api = 1
    file: Path = option(help="PNG, animated PNG, GIF or WebP", check=path)
    at: str = option(
        "above",
        "on a face: eyes, nose, mouth, face, above, below; in the frame: top-left … bottom-right",
        choice(*_ANCHORS, *PLACES),
    )
    size: float = option(
        0.0, "width: share of the face's width (0: 1), at a fixed place of the frame's height (0: 0.2)", number(0, 20)
    )
    x: float = option(0.0, "shift to the right, in units of the image's width", number(-20, 20))
    y: float = option(0.0, "shift down, in units of the image's width", number(-20, 20))
    roll: bool = option(True, "rotate with the head", boolean)
    faces: str = option("all", "all, largest, 1,3 or all but 2", check_faces)
    margin: float = option(0.025, "at a fixed place: distance to the edge, share of the frame's height", number(0, 0.5))
    opacity: float = option(1.0, "0…1", number(0, 1))
    _stickers: dict[int, _Sticker] = state(dict)
    _run: Run = state(Run)

    def __post_init__(self) -> None:
        self._choose = FaceChoice(self.faces)
        self._images, self._end_times = load(self.file)
        self._image_index, self._sprite = 0, Sprite(self._images[0])

    def begin(self, run: Run) -> None:
        """Stores the run. Its clock times animations."""
        self._run = run

    def __call__(self, frame: Frame) -> Frame:
        canvas = Canvas(frame)
        self._select_image(self._run.elapsed(frame))
        if self.at in _ANCHORS:
            self._draw_on_faces(canvas, frame)
            return canvas.frame
        width = (self.size or 0.2) * canvas.height
        height = width * self._sprite.height / self._sprite.width
        x, y = stand(self.at, (width, height), (canvas.width, canvas.height), self.margin * canvas.height)
        x, y = x + self.x * width, y + self.y * width
        canvas.draw(self._sprite, (x, y, x + width, y + height), self.opacity)
        return canvas.frame

    def _select_image(self, seconds: float) -> None:
        """Selects the image for a time."""
        if self._end_times:
            # Image times are rounded, so a tolerance of 0.1 ms is needed.
            index = bisect_right(self._end_times, max(seconds + 1e-4, 0.0) % self._end_times[-1]) % len(self._images)
            if index != self._image_index:
                self._image_index, self._sprite = index, Sprite(self._images[index])

    def _draw_on_faces(self, canvas: Canvas, frame: Frame) -> None:
        now = frame.time
        if frame.cut or frame.new:
            self._stickers.clear()
        visible_tracks: set[int] = set()
        for face in self._choose(frame):
            visible_tracks.add(face.track_id)
            item = self._stickers.setdefault(face.track_id, _Sticker(now, Fade(_FADE_S), Steady(0.4), np.zeros((2, 3))))
            item.last_seen, item.matrix = now, self._sprite_matrix(Spot.of(face), item.steady)
        for track, item in list(self._stickers.items()):
            opacity = 1.0 if frame.new else item.fade(track in visible_tracks, now)
            if 0 <= now - item.last_seen <= _GONE_S:
                canvas.draw(self._sprite, item.matrix, self.opacity * opacity)
            else:
                del self._stickers[track]

    def _sprite_matrix(self, spot: Spot, steady: Steady) -> Float:
        """Returns the 2×3 matrix from sprite to display. Steadies two corners, because the far corner jitters most."""
        (face_x, face_y), (u, v) = _ANCHORS[self.at]
        width = (self.size or 1.0) * spot.width
        height = width * self._sprite.height / self._sprite.width
        angle = spot.roll if self.roll else 0.0
        right, down = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
        corner = spot.at(face_x, face_y) + right * width * (self.x - u) + down * (self.y * width - v * height)
        # Two corners define a similarity.
        a, b = steady(np.stack([corner, corner + right * width]))
        x_axis = (b - a) / self._sprite.width
        return np.array([(x_axis[0], -x_axis[1], a[0]), (x_axis[1], x_axis[0], a[1])])


def load(file: Path) -> tuple[list[Bytes], list[float]]:
    """Loads the images of a file and their end times.

    Returns:
        Images (uint8 h×w×4), and their end times in seconds. A single image has no end time.

    Raises:
        UsageError: the file does not exist, or is not an image that Pillow can read.
    """
    try:
        open_regular(file).close()  # a pipe would block
        with Image.open(file) as image:
            animated = getattr(image, "n_frames", 1) > 1
            images: list[Bytes] = []
            seconds: list[float] = []
            for item in ImageSequence.Iterator(image):
                rgba = item.convert("RGBA")  # Pillow knows a WebP image's duration only after this conversion
                # Browsers show an animation that is faster than 50 images a second at 10 a second.
                duration = float(item.info.get("duration", 100)) / 1000
                seconds.append(duration if duration > 0.01 else 0.1)
                rgba.thumbnail((_SIDE[animated], _SIDE[animated]), reducing_gap=3.0)
                images.append(np.array(rgba))
                if len(images) > _MAX_IMAGES:
                    raise UsageError(
                        "file={path} has more than {most} images; shorten it",
                        code="picture_long",
                        path=file,
                        most=_MAX_IMAGES,
                    )
    except UsageError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError(
            "file={path} cannot be read as an image: {why}",
            code="picture_unreadable",
            path=file,
            why=getattr(error, "strerror", None) or error,
        ) from None
    return images, list(accumulate(seconds)) if animated else []
