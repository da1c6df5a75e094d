"""Yields tiles of photographs with and without damage, endlessly, to train the network that finds damage.

Objects that look like damage (text, lace, frames, hair, jewellery) are drawn into the picture before blur and grain;
damage lies on top of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from training.crop_space import F32, U8
from training.data.portraits import load_faces, split
from training.degradation.print_damage import Dice, holes, stain, wave

TILE = 256
SOUND_SHARE = 0.4
"""Share of tiles without damage."""
MARKED, VISIBLE = 0.3, 14
"""Least opacity of damage that is to be marked, and its least change of the picture."""
UNSURE = 0.5
"""Label of pixels that training ignores: at the rim of damage, and where it is hardly visible."""
FREE_PHOTOS = ("astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel", "rocket")
"""Pictures of scikit-image that are public domain or CC0."""


def texture(r: Dice, grain: float) -> F32:
    """Draws smooth noise, 256×256×1, whose structure has ``grain`` pixels."""
    return wave(r, TILE, TILE, grain)[..., None]


def cut_tile(picture: U8, r: Dice) -> U8:
    """Cuts a tile out of a picture, uint8 256×256×3, at a random place, size and angle."""
    height, width = picture.shape[:2]
    scale = float(np.exp(r.uniform(np.log(0.5), np.log(1.5 * min(height, width) / TILE))))
    angle = r.normal(0, 6) + 90 * r.integers(4) * (r.random() < 0.2)
    matrix = cv2.getRotationMatrix2D((TILE / 2, TILE / 2), float(angle), scale)
    matrix[:, 2] += r.uniform(0.2, 0.8, 2) * (width, height) - TILE / 2
    soft = cv2.GaussianBlur(picture, (0, 0), 0.42 * (scale**2 - 1) ** 0.5) if scale > 1.1 else picture
    flags = cv2.WARP_INVERSE_MAP | cv2.INTER_CUBIC
    return np.asarray(
        cv2.warpAffine(soft, matrix, (TILE, TILE), flags=flags, borderMode=cv2.BORDER_REFLECT_101), np.uint8
    )


def curve(r: Dice, count: int, spread: float = 0) -> F32:
    """Returns points of a random parabola, count×2, each moved by ``spread``."""
    t, (a, b, c) = np.linspace(0, 1, count)[:, None], r.uniform(-40, TILE + 40, (3, 2))
    return np.asarray((1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c + r.normal(0, spread, (count, 2)), np.float32)


def draw_objects(x: U8, r: Dice) -> None:
    """Draws objects that are no damage: text, frames, lace, glasses, hair, wires, beads, collars or woven cloth."""
    tone, other = (tuple(v) for v in (r.uniform(0, 255, (2, 1)) + r.normal(0, 20, (2, 3))).clip(0, 255).tolist())
    kind, thick = int(r.integers(7)), int(r.integers(1, 4))
    if kind == 0:
        for _ in range(int(r.integers(1, 5))):
            letters = "".join(chr(int(v)) for v in r.integers(48, 123, int(r.integers(3, 14))))
            place, size = r.integers((-20, 10), (180, TILE)).tolist(), float(r.uniform(0.3, 2.2))
            cv2.putText(x, letters, place, int(r.integers(8)), size, tone, thick, cv2.LINE_AA)
    elif kind == 1:
        inset = int(r.integers(2, 90))
        if r.random() < 0.5:
            x[:inset], x[:, : inset // 2] = tone, tone
        cv2.rectangle(x, (inset, inset), (TILE + 40, TILE + 40), other, thick, cv2.LINE_AA)
    elif kind == 2:
        period, start, axes = int(r.integers(6, 60)), r.integers(0, 120, 2), np.exp(r.uniform(0.5, 3.7, 2)).astype(int)
        for k, j in np.ndindex(*r.integers(1, 1 + 90 // period + 1, 2).tolist()):
            centre = (start + (k * period, j * period)).tolist()
            cv2.ellipse(x, centre, np.minimum(axes, period).tolist(), 0, 0, 360, tone, thick, cv2.LINE_AA)
    elif kind == 3:
        ends, spread = curve(r, 3), r.uniform(2, 30)
        t = np.linspace(0, 1, 40)[:, None]
        for _ in range(int(np.exp(r.uniform(0, 4)))):
            a, b, c = ends + r.normal(0, spread, (3, 2))
            strand = np.rint((1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c).astype(np.int32)
            shade = (np.array(tone) + r.normal(0, 35)).clip(0, 255).tolist()
            cv2.polylines(x, [strand], False, shade, thick, cv2.LINE_AA)
    elif kind == 4:
        radius = int(r.integers(2, 12))
        for centre in np.rint(curve(r, max(4, 200 // radius))).astype(int):
            cv2.circle(x, centre.tolist(), radius, tone, -1, cv2.LINE_AA)
            cv2.circle(x, (centre - radius // 3).tolist(), radius // 4, (255, 255, 255), -1, cv2.LINE_AA)
    elif kind == 5:
        corners = np.concatenate([curve(r, 3), curve(r, int(r.integers(2, 20)))])
        cv2.fillPoly(x, [np.rint(corners).astype(np.int32)], tone, cv2.LINE_AA)
    else:
        where, turn = np.zeros((TILE, TILE), np.uint8), r.uniform(0, 1.6)
        v, u = np.mgrid[:TILE, :TILE] * (2 * np.pi / r.uniform(2.5, 12, (2, 1, 1)))
        cloth = np.sin(u * np.cos(turn) + v * np.sin(turn)) + r.integers(2) * np.sin(
            v * np.cos(turn) - u * np.sin(turn)
        )
        stain(where, r, 40, 160)
        x[:] = (x + ((where > 0) * cloth * r.uniform(5, 50))[..., None]).clip(0, 255)


def printed(x: F32, r: Dice) -> F32:
    """Makes a picture look like a print: blurred, gray or brownish, faded, with grain."""
    if r.random() < 0.7:
        x = np.asarray(cv2.GaussianBlur(x, (0, 0), float(r.uniform(0.4, 1.8))), np.float32)
    if r.random() < 0.6:
        x = x.mean(2, keepdims=True) * (1 + r.choice([0.0, 1.0]) * np.array([0.12, 0.0, -0.2]) * r.random())
    x = x * r.uniform(0.45, 1.1) + r.uniform(-10, 60)
    return np.asarray(x + texture(r, float(r.uniform(1, 2.5))) * max(0, r.uniform(-4, 9)), np.float32)


def lay_damage(x: F32, mask: U8, r: Dice) -> tuple[F32, F32]:
    """Lays damage of one kind over a picture. Returns the picture and the damage's opacity, 0…1."""
    share, kind = (mask / np.float32(255))[..., None], r.random()
    tone, around = (
        r.uniform(170, 255) if r.random() < 0.7 else r.uniform(0, 70),
        x[mask > 0].mean() if mask.any() else 0,
    )
    if abs(tone - around) < 35:
        tone = around + 60 * (1 if around < 128 else -1)
    colour = tone * (1 - r.choice([0.0, 1.0]) * np.array([0.0, 0.08, 0.25]) * r.random()) + r.normal(0, 5, 3)
    paint = colour + texture(r, float(r.uniform(1, 20))) * max(0, r.uniform(-12, 22))
    if r.random() < 0.3:
        share = share * (0.6 + 0.5 * texture(r, float(r.uniform(3, 60)))).clip(0, 1)
    if kind < 0.15:
        edge = share - cv2.erode(share, np.ones((3, 3), np.uint8))[..., None]
        opacity = (share * r.uniform(0.3, 0.7) + edge * 0.3).clip(0, 1)
    else:
        opacity = share * min(1, r.uniform(0.4, 1.4))
    if kind > 0.7:
        relief = cv2.GaussianBlur(share, (0, 0), float(r.uniform(0.8, 2.5)))
        moved = cv2.warpAffine(relief, np.array([[1, 0, r.uniform(-3, 3)], [0, 1, r.uniform(-3, 3)]]), (TILE, TILE))
        x = x + (relief - moved)[..., None] * np.float32(r.uniform(30, 160))
    return np.asarray(x * (1 - opacity) + paint * opacity, np.float32), np.asarray(opacity[..., 0], np.float32)


def labels(opacity: F32, change: F32) -> F32:
    """Labels pixels: 1 damage, 0 none, `UNSURE` at the rim and where the change is small."""
    marked = ((opacity > MARKED) & (change > VISIBLE)).astype(np.uint8)
    unsure = (opacity > 0.05) | (change > VISIBLE / 2) | (cv2.dilate(marked, np.ones((3, 3), np.uint8)) > 0)
    return np.where(marked > 0, np.float32(1), np.float32(UNSURE) * unsure)


def scanned(x: F32, marks: F32, r: Dice) -> tuple[F32, F32]:
    """Blurs, codes and enlarges a picture, 0…255, as scanners and websites do, with its labels."""
    x = cv2.GaussianBlur(x, (0, 0), float(r.uniform(0.3, 0.8))) if r.random() < 0.3 else x
    x = (x + r.normal(0, max(0.0, r.uniform(-12, 5)), x.shape)).clip(0, 255)
    if r.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(r.integers(40, 95))]
        x = cv2.imdecode(cv2.imencode(".jpg", x.astype(np.uint8), quality)[1], cv2.IMREAD_COLOR)
    if r.random() < 0.35:
        part = slice(0, int(r.integers(TILE // 2, TILE)))
        x = cv2.resize(np.asarray(x[part, part], np.float32), (TILE, TILE), interpolation=cv2.INTER_CUBIC)
        marks = cv2.resize(marks[part, part], (TILE, TILE), interpolation=cv2.INTER_LINEAR)
        marks = np.where(marks > 0.75, 1, np.where(marks < 0.25, 0, UNSURE))
    return np.asarray(x, np.float32).clip(0, 255), marks.astype(np.float32)


class DamagedPhotos(IterableDataset[tuple[Tensor, Tensor, Tensor]]):
    """Yields tiles 3×256×256, 0…1, their labels 1×256×256, and a place for the network's error."""

    def __init__(self, root: Path, seed: int) -> None:
        from skimage import data

        self.pictures = [f.load() for f in split(load_faces(root))[0] if f.px >= TILE]
        self.free: list[U8] = [np.dstack([getattr(data, name)()] * 3)[..., :3] for name in FREE_PHOTOS]
        self.seed = seed

    def example(self, r: Dice) -> tuple[F32, F32]:
        """Makes a tile, 0…255, and its labels."""
        pictures = self.free if r.random() < 0.1 else self.pictures
        photo = cut_tile(pictures[int(r.integers(len(pictures)))], r)
        for _ in range(int(r.integers(1, 4)) if r.random() < 0.45 else 0):
            draw_objects(photo, r)
        x = photo.astype(np.float32)
        sound = x = printed(x, r) if r.random() < 0.7 else x
        damage = np.zeros((TILE, TILE), np.float32)
        for _ in range(int(r.integers(1, 4)) if r.random() > SOUND_SHARE else 0):
            x, opacity = lay_damage(x, holes(r, TILE, TILE, sparse=True), r)
            damage = np.maximum(damage, opacity)
        x = x.clip(0, 255)
        return scanned(x, labels(damage, np.abs(x - sound.clip(0, 255)).mean(2)), r)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        cv2.setNumThreads(1)
        r = np.random.default_rng(self.seed)
        while True:
            x, marks = self.example(r)
            picture = torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1))) / 255
            yield picture, torch.from_numpy(marks)[None], torch.zeros(1)
