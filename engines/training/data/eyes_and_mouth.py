"""Draws closing lids, moving eyes and opening mouths into a still.

Warps cannot do this, because lids, irises and lips slide over other parts. Their places come from the face mesh of the
still (478 points, pixels of a 512-px crop). Networks thus learn to handle motion that alignment cannot follow.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from training.crop_space import F32, F64, U8
from training.data.face_warps import draw_transient
from training.landmarks import Landmarks

EYES = (
    (33, (246, 161, 160, 159, 158, 157, 173), (7, 163, 144, 145, 153, 154, 155), 133, 468, (52, 65)),
    (362, (398, 384, 385, 386, 387, 388, 466), (382, 381, 380, 374, 373, 390, 249), 263, 473, (282, 295)),
)
"""Mesh indices of both eyes: left corner, upper lid, lower lid, right corner, iris, and lower edge of the brow. Left
and right are those of the picture."""

LIPS = (78, (191, 80, 81, 82, 13, 312, 311, 310, 415), (95, 88, 178, 87, 14, 317, 402, 318, 324), 308)
"""Mesh indices of the mouth's inner edge: left corner, upper lip, lower lip, right corner."""
CHIN = 152

FRAMES = 24
"""Number of frames in which events start."""


@cache
def _reader() -> Landmarks:
    return Landmarks()


def mesh_of(picture: U8) -> F64 | None:
    """Finds the face mesh of a canonical S×S×3 picture: 478×3, pixels of 512. Returns None if there is no face."""
    reader = _reader()
    points, score = reader.read(picture, reader.region(picture))
    return points if score > 0.5 else None


class Slit:
    """The opening between two lids or lips. Stores the x of both corners, and the points of both edges."""

    def __init__(self, points: F64, left: int, upper: tuple[int, ...], lower: tuple[int, ...], right: int) -> None:
        self.x0, self.x1 = float(points[left, 0]), float(points[right, 0])
        rows = [np.vstack([points[left, :2], points[list(edge), :2], points[right, :2]]) for edge in (upper, lower)]
        self.rows = [r[np.argsort(r[:, 0])] for r in rows]

    @property
    def width(self) -> float:
        return self.x1 - self.x0

    def edges(self, x: F32) -> tuple[F32, F32]:
        """Returns the y of both edges at columns ``x``. Beyond the corners, the edges coincide."""
        upper, lower = (np.interp(x, r[:, 0], r[:, 1]).astype(np.float32) for r in self.rows)
        return upper, np.maximum(upper, lower)


def window(picture: U8, x: tuple[float, float], y: tuple[float, float]) -> tuple[tuple[slice, slice], F32, F32]:
    """Converts ranges in pixels of 512 to slices of an S×S×3 picture. Also returns the coordinates of the columns (1×w)
    and rows (h×1), in pixels of 512."""
    side = picture.shape[0]
    scale = side / 512
    (x0, x1), (y0, y1) = ((max(0, int(a * scale)), min(side, int(b * scale) + 2)) for a, b in (x, y))
    across, down = ((np.arange(a, b, dtype=np.float32) + 0.5) / scale - 0.5 for a, b in ((x0, x1), (y0, y1)))
    return (slice(y0, y1), slice(x0, x1)), across[None], down[:, None]


def sample_at(picture: U8, x: F32, y: F32) -> F32:
    """Reads an S×S×3 picture at coordinates in pixels of 512: h×w×3, 0..255."""
    q = picture.shape[0] / 512
    across, down = (((z + 0.5) * q - 0.5).astype(np.float32) for z in np.broadcast_arrays(x, y))
    samples = cv2.remap(picture, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return samples.astype(np.float32)


def blend(picture: U8, part: tuple[slice, slice], over: F32, alpha: F32) -> None:
    """Blends ``over`` (h×w×3) over a part of a picture, in place."""
    under = picture[part].astype(np.float32)
    picture[part] = np.clip(under + alpha[..., None] * (over - under) + 0.5, 0, 255).astype(np.uint8)


class Eye:
    """An eye with a movable iris and upper lid."""

    def __init__(self, points: F64, left: int, upper: tuple[int, ...], lower: tuple[int, ...], right: int,
                 iris: int, brow: tuple[int, int]) -> None:  # fmt: skip
        self.slit = Slit(points, left, upper, lower, right)
        brow_distance = float(points[list(upper), 1].min() - points[list(brow), 1].mean())
        self.lid_height = float(np.clip(0.8 * brow_distance, 6, 0.42 * self.slit.width))
        self.iris = points[iris, :2]
        self.radius = float(np.linalg.norm(points[iris + 1 : iris + 5, :2] - self.iris, axis=1).mean())

    def look(self, picture: U8, across: float, down: float) -> None:
        """Moves the iris by shares of the eye's width, in ``picture``. Other parts are stretched or compressed."""
        slit, reach = self.slit, self.radius * 1.15
        limit = max(0.0, min(self.iris[0] - slit.x0, slit.x1 - self.iris[0]) - reach - 1)
        dx = float(np.clip(across * slit.width, -limit, limit))
        part, x, y = window(picture, (slit.x0, slit.x1), (self.iris[1] - 30, self.iris[1] + 30))
        upper, lower = slit.edges(x)
        centre = self.iris[0]
        places = (slit.x0, centre - reach + dx, centre + reach + dx, slit.x1)
        columns = np.interp(x, places, (slit.x0, centre - reach, centre + reach, slit.x1)).astype(np.float32)
        inside = np.clip(np.minimum(y - upper, lower - y) / 2.5, 0, 1)
        fade = np.clip(1.6 - np.abs(x - centre - dx) / (1.5 * reach), 0, 1)
        blend(picture, part, sample_at(picture, columns, y - np.float32(down * slit.width) * inside * fade), inside)

    def shut(self, picture: U8, share: float) -> None:
        """Lowers the upper lid over a share of the eye, in ``picture``. Stretches the skin below the brow."""
        slit, height = self.slit, self.lid_height
        ends = self.iris[1] - 0.9 * slit.width, self.iris[1] + 0.4 * slit.width
        part, x, y = window(picture, (slit.x0, slit.x1), ends)
        upper, lower = slit.edges(x)
        lid = upper + np.float32(share) * (lower - upper)
        top = upper - height
        skin = np.where(y < top, y, top + (y - top) * height / np.maximum(lid - top, 1))
        blend(picture, part, sample_at(picture, x, skin), np.clip(lid - y + 0.5, 0, 1))


class Mouth:
    """A mouth that can open: lips, chin, and a dark interior with or without teeth."""

    def __init__(self, points: F64, r: np.random.Generator) -> None:
        self.slit = Slit(points, *LIPS)
        self.depth = 1.6 * max(40.0, float(points[CHIN, 1]) - float(points[LIPS[2][4], 1]))
        upper, lower = self.slit.edges(np.array([(self.slit.x0 + self.slit.x1) / 2], np.float32))
        self.gap = float(lower[0] - upper[0])
        self.teeth = float(r.uniform(0.3, 0.6)) if self.gap < 6 and r.random() < 0.6 else 0.0
        self.dark = r.uniform(0.15, 0.4) * np.array((1.2, 0.8, 0.8))

    def open(self, picture: U8, shift: float) -> None:
        """Moves the lower lip of ``picture`` down by ``shift`` pixels of 512. Negative values move the lip up until the
        mouth is closed."""
        slit, half = self.slit, self.slit.width / 2
        shift = max(shift, -0.9 * self.gap)
        middle = (slit.x0 + slit.x1) / 2
        heights = slit.rows[1][:, 1]
        part, x, y = window(picture, (middle - 2.2 * half, middle + 2.2 * half),
                            (float(heights.min()) - 8, float(heights.max()) + self.depth + max(shift, 0)))  # fmt: skip
        _, lower = slit.edges(x)

        def lip_shift(row: F32) -> F32:
            below = np.maximum(row - lower, 0)
            profile = np.clip(1 - ((x - middle) / (half + 0.6 * below)) ** 2, 0, 1)
            return (np.float32(shift) * profile * np.clip(1 - below / self.depth, 0, 1)).astype(np.float32)

        row = y + np.zeros_like(x)
        for _ in range(4):
            row = y - lip_shift(row)
        lip = lower + lip_shift(lower + np.zeros_like(y[:1]))
        original = picture.copy()
        if shift > 0:
            skin = picture[part].mean((0, 1))
            inside = np.broadcast_to(skin * self.dark, (len(y), x.shape[1], 3))
            bright = float(skin.mean()) * (1.15 + 0.12 * np.sin(x * (6.28 / 13)))[..., None] * (1.0, 0.96, 0.9)
            strip = np.clip((lower + self.teeth * (lip - lower) - y) / 2 + 0.5, 0, 1) if self.teeth else 0 * row
            strip *= np.clip(1.5 - 2 * np.abs(x - middle) / half, 0, 1)
            inside = inside + strip[..., None] * (bright - inside)
            opening = np.clip(y - lower + 0.5, 0, 1) * np.clip(lip - y + 0.5, 0, 1) * (np.abs(x - middle) < half)
            blend(picture, part, inside.astype(np.float32), opening)
        blend(picture, part, sample_at(original, x, row), np.clip(y - lip + 0.5, 0, 1))


class Features:
    """Motion of a face's eyes and mouth during a film.

    Args:
        points: face mesh of the still, (478, 2 or 3), pixels of 512.
        r: random generator.
        amount: strength of the motion, 0..1.
    """

    def __init__(self, points: F64, r: np.random.Generator, amount: float) -> None:
        self.eyes = [Eye(points, *indices) for indices in EYES]
        self.mouth = Mouth(points, r)
        self.blinks = [(draw_transient(FRAMES, r), float(r.uniform(0.3, 1.05))) for _ in range(int(r.integers(0, 4)))]
        self.squint = float(r.uniform(-0.1, 0.3)) * amount
        jumps = np.sort(r.integers(0, FRAMES, int(r.integers(0, 5))))
        self.glances = [(int(t), r.normal(0, 1, 2) * (0.14, 0.05) * amount) for t in jumps]
        speech_px = abs(r.normal(0, 22.0)) * amount if r.random() < 0.7 else 0.0
        self.speech = speech_px * r.dirichlet((1, 1, 1))
        self.pace, self.phase, self.rest = r.uniform(0.2, 1.6, 3), r.uniform(0, 6.28, 3), r.uniform(-0.3, 0.6)

    def shown(self, picture: U8, t: float) -> U8:
        """Returns a copy of the still with the motion of frame ``t``."""
        out = picture.copy()
        gaze = np.zeros(2)
        for start, direction in self.glances:
            gaze = direction if t >= start else gaze
        closing = self.squint + sum(share * blink.share(t) for blink, share in self.blinks)
        opening = float((self.speech * np.sin(self.pace * t + self.phase)).sum() + self.rest * self.speech.sum())
        for eye in self.eyes:
            if gaze.any():
                eye.look(out, *gaze)
            if closing > 0.02:
                eye.shut(out, min(closing, 1.05))
        if abs(opening) > 0.5:
            self.mouth.open(out, opening)
        return out
