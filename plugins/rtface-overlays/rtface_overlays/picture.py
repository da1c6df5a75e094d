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

# Anchor points in the face's 512×512 square, and the point of the image placed there (as shares of the image's size).
_ANCHORS = {
    "eyes": ((256.0, 240.0), (0.5, 0.5)),
    "nose": ((257.0, 314.0), (0.5, 0.5)),
    "mouth": ((257.0, 371.0), (0.5, 0.5)),
    "face": ((256.0, 270.0), (0.5, 0.5)),
    "above": ((256.0, 40.0), (0.5, 1.0)),
    "below": ((256.0, 490.0), (0.5, 0.0)),
}
_SIDE = {False: 2048, True: 512}  # maximum side of a still, and of an animation
_MAX_IMAGES = 600  # maximum number of images in an animation
_FADE_S, _GONE_S = 0.15, 1.0


@dataclass(slots=True)
class _Worn:
    seen: float
    fade: Fade
    steady: Steady
    place: Float


@dataclass
class Picture:
    """An image on a face or at a fixed place: PNG, GIF or WebP, animated or not."""

    api = 1
    file: Path = option(help="PNG, animated PNG, GIF or WebP", check=path)
    at: str = option(
        "above",
        "eyes, nose, mouth, face, above, below; or without a face top-left … bottom-right",
        choice(*_ANCHORS, *PLACES),
    )
    size: float = option(
        0.0, "width: share of the face's width (1), without a face of the frame's height (0.2)", number(0, 20)
    )
    x: float = option(0.0, "shift to the right, in units of that width", number(-20, 20))
    y: float = option(0.0, "shift down, in units of that width", number(-20, 20))
    roll: bool = option(True, "rotate with the head", boolean)
    faces: str = option("all", "all, largest, 1,3 or all but 2", check_faces)
    margin: float = option(0.025, "at a fixed place: distance to the edge, share of the frame's height", number(0, 0.5))
    opacity: float = option(1.0, "0…1", number(0, 1))
    _worn: dict[int, _Worn] = state(dict)
    _run: Run = state(Run)

    def __post_init__(self) -> None:
        self._choose = FaceChoice(self.faces)
        self._images, self._ends = load(self.file)
        self._shown, self._sprite = 0, Sprite(self._images[0])

    def begin(self, run: Run) -> None:
        """Stores the run, whose clock times animations."""
        self._run = run

    def __call__(self, frame: Frame) -> Frame:
        canvas = Canvas(frame)
        self._turn(self._run.elapsed(frame))
        if self.at in _ANCHORS:
            self._follow(canvas, frame)
            return canvas.frame
        wide = (self.size or 0.2) * canvas.height
        high = wide * self._sprite.height / self._sprite.width
        x, y = stand(self.at, (wide, high), (canvas.width, canvas.height), self.margin * canvas.height)
        x, y = x + self.x * wide, y + self.y * wide
        canvas.draw(self._sprite, (x, y, x + wide, y + high), self.opacity)
        return canvas.frame

    def _turn(self, seconds: float) -> None:
        """Selects the image that is due."""
        if self._ends:
            # Times of images are rounded, hence a tolerance of a tenth of a millisecond.
            due = bisect_right(self._ends, max(seconds + 1e-4, 0.0) % self._ends[-1]) % len(self._images)
            if due != self._shown:
                self._shown, self._sprite = due, Sprite(self._images[due])

    def _follow(self, canvas: Canvas, frame: Frame) -> None:
        now = frame.time
        if frame.cut or frame.new:
            self._worn.clear()
        here: set[int] = set()
        for face in self._choose(frame):
            here.add(face.track_id)
            worn = self._worn.setdefault(face.track_id, _Worn(now, Fade(_FADE_S), Steady(0.4), np.zeros((2, 3))))
            worn.seen, worn.place = now, self._place(Spot.of(face), worn.steady)
        for track, worn in list(self._worn.items()):
            opacity = 1.0 if frame.new else worn.fade(track in here, now)
            if 0 <= now - worn.seen <= _GONE_S:
                canvas.draw(self._sprite, worn.place, self.opacity * opacity)
            else:
                del self._worn[track]

    def _place(self, spot: Spot, steady: Steady) -> Float:
        """Returns the matrix from sprite to display. Steadies two corners, because the far corner jitters most."""
        (ax, ay), (anchor_x, anchor_y) = _ANCHORS[self.at]
        wide = (self.size or 1.0) * spot.width
        high = wide * self._sprite.height / self._sprite.width
        angle = spot.roll if self.roll else 0.0
        right, down = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
        corner = spot.at(ax, ay) + right * wide * (self.x - anchor_x) + down * (self.y * wide - anchor_y * high)
        # Two corners define a similarity.
        a, b = steady(np.stack([corner, corner + right * wide]))
        across = (b - a) / self._sprite.width
        return np.array([(across[0], -across[1], a[0]), (across[1], across[0], a[1])])


def load(file: Path) -> tuple[list[Bytes], list[float]]:
    """Loads the images of a file and their end times.

    Returns:
        Images, uint8 h×w×4, and their end times in seconds; no times for a single image.

    Raises:
        UsageError: the file does not exist, or is not an image that Pillow reads.
    """
    try:
        open_regular(file).close()  # a pipe would block
        with Image.open(file) as image:
            moving = getattr(image, "n_frames", 1) > 1
            images: list[Bytes] = []
            seconds: list[float] = []
            for one in ImageSequence.Iterator(image):
                rgba = one.convert("RGBA")  # a WebP image has its duration only after this conversion
                # Browsers show an animation that is faster than 50 images a second at 10 a second.
                wait = float(one.info.get("duration", 100)) / 1000
                seconds.append(wait if wait > 0.01 else 0.1)
                rgba.thumbnail((_SIDE[moving], _SIDE[moving]), reducing_gap=3.0)
                images.append(np.array(rgba))
                if len(images) > _MAX_IMAGES:
                    raise UsageError(
                        "file={path} has more than {most} images: make it shorter",
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
    return images, list(accumulate(seconds)) if moving else []
