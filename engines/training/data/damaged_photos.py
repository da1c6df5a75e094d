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
from training.degradation import print_damage

TILE = 256
SOUND_SHARE = 0.4
"""Share of tiles without damage."""
MARKED, VISIBLE = 0.3, 14
"""Least opacity of damage that is to be marked, and its least change of the picture."""
UNSURE = 0.5
"""Label of pixels that training ignores: at the rim of damage, and where it is hardly visible."""
FREE_PHOTOS = ("astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel", "rocket")
"""Pictures of scikit-image that are public domain or CC0."""
Dice = np.random.Generator


def texture(r: Dice, grain: float) -> F32:
    """Draws smooth noise, 256×256×1, whose structure has ``grain`` pixels."""
    return print_damage.wave(r, TILE, TILE, grain)[..., None]


def cut_tile(picture: U8, r: Dice) -> U8:
    """Cuts a tile out of a picture, uint8 256×256×3, at a random place, size and angle."""
    height, width = picture.shape[:2]
    scale = float(np.exp(r.uniform(np.log(0.5), np.log(1.5 * min(height, width) / TILE))))
    angle = r.normal(0, 6) + 90 * r.integers(4) * (r.random() < 0.2)
    matrix = cv2.getRotationMatrix2D((TILE / 2, TILE / 2), float(angle), scale)
    matrix[:, 2] += r.uniform(0.2, 0.8, 2) * (width, height) - TILE / 2
    soft = cv2.GaussianBlur(picture, (0, 0), 0.42 * (scale**2 - 1) ** 0.5) if scale > 1.1 else picture
    flags = cv2.WARP_INVERSE_MAP | cv2.INTER_CUBIC
    x = cv2.warpAffine(soft, matrix, (TILE, TILE), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(x, np.uint8)


def curve(r: Dice, count: int = 40) -> F32:
    """Returns points of a random parabola, count×2, in and around the tile."""
    a, b, c = r.uniform(-40, TILE + 40, (3, 2))
    t = np.linspace(0, 1, count)[:, None]
    return np.asarray((1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c, np.float32)


def draw_objects(x: U8, r: Dice) -> None:
    """Draws objects that are no damage: text, frames, lace, wires, hair, beads, collars, glasses or weave."""
    tone = tuple(float(v) for v in (r.uniform(0, 255) + r.normal(0, 20, 3)).clip(0, 255))
    kind, thick = int(r.integers(9)), int(r.integers(1, 4))
    if kind == 0:
        for _ in range(int(r.integers(1, 5))):
            letters = "".join(chr(int(v)) for v in r.integers(48, 123, int(r.integers(3, 14))))
            place = (int(r.integers(-20, 180)), int(r.integers(10, TILE)))
            cv2.putText(x, letters, place, int(r.integers(8)), float(r.uniform(0.3, 2.2)), tone, thick, cv2.LINE_AA)
    elif kind == 1:
        inset, other = int(r.integers(2, 90)), tuple(float(v) for v in r.uniform(0, 255, 3))
        if r.random() < 0.5:
            x[:inset], x[:, : inset // 2] = tone, tone
        cv2.rectangle(x, (inset, inset), (TILE + 40, TILE + 40), other, thick, cv2.LINE_AA)
    elif kind == 2:
        period, first, last = int(r.integers(6, 24)), int(r.integers(0, 120)), int(r.integers(130, TILE))
        for k in range(first, last, period):
            for j in range(first, last, period):
                cv2.circle(x, (k, j), int(period * r.uniform(0.3, 0.55)), tone, thick, cv2.LINE_AA)
    elif kind == 3:
        for _ in range(int(r.integers(1, 4))):
            cv2.polylines(x, [np.asarray(np.rint(curve(r)), np.int32)], False, tone, thick, cv2.LINE_AA)
    elif kind == 4:
        middle, spread = curve(r), r.uniform(2, 30)
        for _ in range(int(r.integers(8, 60))):
            strand = middle + r.normal(0, spread, (2, 2))[[0] * 20 + [1] * 20] * np.linspace(0.5, 1.5, 40)[:, None]
            shade = tuple(float(v) for v in (np.array(tone) + r.normal(0, 35)).clip(0, 255))
            cv2.polylines(x, [np.asarray(np.rint(strand), np.int32)], False, shade, 1, cv2.LINE_AA)
    elif kind == 5:
        radius = int(r.integers(2, 12))
        for u, v in np.rint(curve(r, max(4, 200 // radius))).astype(int).tolist():
            cv2.circle(x, (u, v), radius, tone, -1, cv2.LINE_AA)
            cv2.circle(x, (u - radius // 3, v - radius // 3), radius // 4, (255, 255, 255), -1, cv2.LINE_AA)
    elif kind == 6:
        corners = np.concatenate([curve(r, 3), curve(r, int(r.integers(2, 20)))])
        cv2.fillPoly(x, [np.asarray(np.rint(corners), np.int32)], tone, cv2.LINE_AA)
    elif kind == 7:
        axes, centre = r.integers(8, 60, 2).tolist(), r.integers(40, 200, 2).tolist()
        for k in (0, int(2.4 * axes[0])):
            cv2.ellipse(x, (centre[0] + k, centre[1]), axes, float(r.normal(0, 6)), 0, 360, tone, thick, cv2.LINE_AA)
            start = (centre[0] + k - axes[0] // 2, centre[1])
            cv2.line(x, start, (start[0] + axes[0] // 2, start[1] - axes[1] // 3), (235, 235, 235), thick, cv2.LINE_AA)
    else:
        v, u = np.mgrid[:TILE, :TILE] * (2 * np.pi / r.uniform(2.5, 12, (2, 1, 1)))
        turn = r.uniform(0, 1.6)
        cloth = np.sin(u * np.cos(turn) + v * np.sin(turn)) + r.integers(2) * np.sin(
            v * np.cos(turn) - u * np.sin(turn)
        )
        where = np.zeros((TILE, TILE, 1), np.uint8)
        print_damage.polygon(where[..., 0], r, r.uniform(0, TILE, 2).astype(np.float32), float(r.uniform(40, 160)))
        x[:] = (x + (where > 0) * cloth[..., None] * r.uniform(5, 50)).clip(0, 255)


def printed(x: F32, r: Dice) -> F32:
    """Makes a picture look like a print: blurred, gray or brownish, faded, with grain."""
    if r.random() < 0.7:
        x = np.asarray(cv2.GaussianBlur(x, (0, 0), float(r.uniform(0.4, 1.8))), np.float32)
    gray = x.mean(2, keepdims=True)
    if r.random() < 0.6:
        x = np.asarray(gray * (1 + r.choice([0.0, 1.0]) * np.array([0.12, 0.0, -0.2]) * r.random()), np.float32)
    x = x * np.float32(r.uniform(0.45, 1.1)) + np.float32(r.uniform(-10, 60))
    if r.random() < 0.7:
        x = x + texture(r, float(r.uniform(1, 2.5))) * np.float32(r.uniform(1, 9))
    return np.asarray(x, np.float32)


def lay_damage(x: F32, mask: U8, r: Dice) -> tuple[F32, F32]:
    """Lays damage of one kind over a picture. Returns the picture and the damage's opacity, 0…1."""
    share = (mask / np.float32(255))[..., None]
    kind = r.random()
    around = x[mask > 0].mean() if mask.any() else 128.0
    tone = r.uniform(170, 255) if r.random() < 0.7 else r.uniform(0, 70)
    if abs(tone - around) < 35:
        tone = around + 60 * (1 if around < 128 else -1)
    aged = 1 - r.choice([0.0, 1.0]) * np.array([0.0, 0.08, 0.25]) * r.random()
    colour = np.asarray(tone * aged + r.normal(0, 5, 3), np.float32)
    paint = colour + texture(r, float(r.uniform(1, 20))) * np.float32(max(0, r.uniform(-12, 22)))
    if r.random() < 0.3:
        share = share * (0.6 + 0.5 * texture(r, float(r.uniform(3, 60)))).clip(0, 1)
    if kind < 0.55:
        opacity = share * np.float32(min(1, r.uniform(0.5, 1.4)))
    elif kind < 0.85:
        relief = cv2.GaussianBlur(share, (0, 0), float(r.uniform(0.8, 2.5)))
        moved = cv2.warpAffine(relief, np.array([[1, 0, r.uniform(-3, 3)], [0, 1, r.uniform(-3, 3)]]), (TILE, TILE))
        x = x + (relief - moved)[..., None] * np.float32(r.uniform(30, 160))
        opacity = share * np.float32(r.uniform(0.3, 1))
    else:
        edge = share - cv2.erode(share, np.ones((3, 3), np.uint8))[..., None]
        opacity = (share * np.float32(r.uniform(0.3, 0.7)) + edge * np.float32(0.3)).clip(0, 1)
    return np.asarray(x * (1 - opacity) + paint * opacity, np.float32), np.asarray(opacity[..., 0], np.float32)


def labels(opacity: F32, change: F32) -> F32:
    """Labels pixels: 1 damage, 0 none, `UNSURE` at the rim and where the change is small."""
    marked = ((opacity > MARKED) & (change > VISIBLE)).astype(np.uint8)
    unsure = (opacity > 0.05) | (change > VISIBLE / 2) | (cv2.dilate(marked, np.ones((3, 3), np.uint8)) > 0)
    return np.where(marked > 0, np.float32(1), np.float32(UNSURE) * unsure)


class DamagedPhotos(IterableDataset[tuple[Tensor, Tensor, Tensor]]):
    """Yields tiles 3×256×256, 0…1, their labels 1×256×256, and a place for the network's error."""

    def __init__(self, root: Path, seed: int) -> None:
        from skimage import data

        self.pictures = [f.load() for f in split(load_faces(root))[0] if f.px >= TILE]
        free = [np.asarray(getattr(data, name)()) for name in FREE_PHOTOS]
        self.free: list[U8] = [v if v.ndim == 3 else np.repeat(v[..., None], 3, 2) for v in free]
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
        if r.random() > SOUND_SHARE:
            for _ in range(int(r.integers(1, 4))):
                x, opacity = lay_damage(x, print_damage.holes(r, TILE, TILE, sparse=True), r)
                damage = np.maximum(damage, opacity)
        x, marks = x.clip(0, 255), labels(damage, np.abs(x.clip(0, 255) - sound.clip(0, 255)).mean(2))
        if r.random() < 0.3:
            x = cv2.GaussianBlur(x, (0, 0), float(r.uniform(0.3, 0.8)))
        if r.random() < 0.25:
            x = x + r.normal(0, r.uniform(1, 5), x.shape)
        if r.random() < 0.5:
            coded = cv2.imencode(
                ".jpg", x.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, int(r.integers(40, 95))]
            )[1]
            x = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.float32)
        if r.random() < 0.35:
            part, size = slice(0, int(r.integers(TILE // 2, TILE))), (TILE, TILE)
            x = cv2.resize(np.asarray(x[part, part], np.float32), size, interpolation=cv2.INTER_CUBIC)
            marks = cv2.resize(marks[part, part], size, interpolation=cv2.INTER_LINEAR)
            marks = np.where(marks > 0.75, np.float32(1), np.where(marks < 0.25, np.float32(0), np.float32(UNSURE)))
        return np.asarray(x, np.float32).clip(0, 255), marks

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        cv2.setNumThreads(1)
        r = np.random.default_rng(self.seed)
        while True:
            x, marks = self.example(r)
            picture = torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1))) / 255
            yield picture, torch.from_numpy(marks)[None], torch.zeros(1)
