"""Yields samples of damaged prints, endlessly: strips of faces with holes, and tiles of photographs with damage.

Objects that look like damage (text, lace, frames, hair, jewellery) are drawn into tiles before blur and grain; damage
lies on top of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage.data
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from rtface.repair.smooth_fill import smooth_fill
from training.crop_space import F32, U8
from training.data.portraits import load_faces, split
from training.degradation.print_damage import Dice, holes, stain, wave

SIDE, STRIP, WIDTH, LEAST_PX = 512, 256, 384, 320  # of face crops; height and width of strips; side of face pictures
# of tiles: side, share without damage, label of ignored pixels; least opacity and change of damage that is to be marked
TILE, SOUND_SHARE, UNSURE, MARKED, VISIBLE = 256, 0.4, 0.5, 0.3, 14
# pictures of scikit-image that are public domain or CC0
FREE_PHOTOS = ("astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel", "rocket")
NEAR = np.ones((3, 3), np.uint8)
WARP: Any = {"flags": cv2.WARP_INVERSE_MAP | cv2.INTER_CUBIC, "borderMode": cv2.BORDER_REFLECT_101}


def changed(picture: U8, row: int, r: Dice) -> F32:
    """Moves, turns, mirrors, fades and blurs a face at random. Returns a strip of it, float32 256×384×3, 0…255."""
    scale, half = picture.shape[0] / SIDE / r.uniform(0.92, 1.15), (SIDE - 1) / 2
    matrix = cv2.getRotationMatrix2D((half, half), float(r.normal(0, 4)), float(scale))
    matrix[:, 2] += (picture.shape[0] - 1) / 2 - half + r.normal(0, 5, 2) + matrix @ ((SIDE - WIDTH) / 2, row, 0)
    x = cv2.warpAffine(picture, matrix, (WIDTH, STRIP), **WARP)[:, :: r.choice([-1, 1])].astype(np.float32)
    x = cv2.GaussianBlur(x, (0, 0), float(r.uniform(0.5, 2.0))) if r.random() < 0.25 else x
    gray = (x @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    x = gray + np.float32(r.choice([0.0, r.uniform(0.4, 1.3), 1.0], p=[0.3, 0.3, 0.4])) * (x - gray)
    gain, light = np.exp(r.normal(0, 0.25)) * np.exp(r.normal(0, 0.06, 3)), 128 + r.normal(0, 15)
    return np.ascontiguousarray(((x - 128) * gain + light if r.random() < 0.5 else x).clip(0, 255), np.float32)


def cut_tile(picture: U8, r: Dice) -> U8:
    """Cuts a tile, uint8 256×256×3, at a random place, size and angle."""
    scale = float(np.exp(r.uniform(np.log(0.5), np.log(1.5 * min(picture.shape[:2]) / TILE))))
    angle = float(r.normal(0, 6) + 90 * r.integers(4) * (r.random() < 0.2))
    matrix = cv2.getRotationMatrix2D((TILE / 2, TILE / 2), angle, scale)
    matrix[:, 2] += r.uniform(0.2, 0.8, 2) * picture.shape[1::-1] - TILE / 2
    soft = cv2.GaussianBlur(picture, (0, 0), 0.42 * (scale**2 - 1) ** 0.5) if scale > 1.1 else picture
    return np.asarray(cv2.warpAffine(soft, matrix, (TILE, TILE), **WARP), np.uint8)


def curve(r: Dice, count: int, ends: Any = None) -> U8:
    """Returns points of a parabola near the tile, int32 count×2."""
    t, (a, b, c) = np.linspace(0, 1, count)[:, None], r.uniform(-40, TILE + 40, (3, 2)) if ends is None else ends
    return np.rint((1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c).astype(np.int32)


def draw_objects(x: U8, r: Dice) -> None:
    """Draws objects that are no damage: text, frames, lace, glasses, hair, wires, beads, collars or woven cloth."""
    tone, other = (tuple(v) for v in (r.uniform(0, 255, (2, 1)) + r.normal(0, 20, (2, 3))).clip(0, 255).tolist())
    kind, thick = int(r.integers(6)), int(r.integers(1, 4))
    if kind == 0:
        for _ in range(int(r.integers(1, 5))):
            letters = "".join(chr(int(v)) for v in r.integers(48, 123, int(r.integers(3, 14))))
            place, size = r.integers((-20, 10), (180, TILE)).tolist(), float(r.uniform(0.3, 2.2))
            cv2.putText(x, letters, place, int(r.integers(8)), size, tone, thick, cv2.LINE_AA)
    elif kind == 1:
        inset = int(r.integers(2, 90))
        x[: inset // 2], x[:, : inset // int(r.integers(1, 90))] = tone, tone
        cv2.rectangle(x, (inset, inset), (TILE + 40, TILE + 40), other, thick, cv2.LINE_AA)
    elif kind == 2:
        period, axes = int(r.integers(6, 60)), np.exp(r.uniform(0.5, 3.7, 2)).astype(int)
        grid = period * np.argwhere(np.ones(r.integers(1, 2 + 90 // period, 2))) + r.integers(0, 120, 2)
        size, fill = np.minimum(axes, period).tolist(), int(r.choice([-1, thick]))
        for centre in grid if r.random() < 0.6 else curve(r, 200 // period + 2):
            cv2.ellipse(x, centre.tolist(), size, 0, 0, 360, tone, fill, cv2.LINE_AA)
            cv2.circle(x, (centre - axes // 3).tolist(), int(axes.min()) // 4, other, -1, cv2.LINE_AA)
    elif kind == 3:
        ends, spread = r.uniform(-40, TILE + 40, (3, 2)), r.uniform(2, 30)
        for _ in range(int(np.exp(r.uniform(0, 4)))):
            shade = (np.array(tone) + r.normal(0, 35)).clip(0, 255).tolist()
            strand = curve(r, 40, ends + r.normal(0, spread, (3, 2)))
            cv2.polylines(x, [strand], False, shade, thick, cv2.LINE_AA)  # pyright: ignore
    elif kind == 4:
        where = np.zeros((TILE, TILE, 1), np.float32)
        cv2.fillPoly(where, [np.concatenate([curve(r, 3), curve(r, int(r.integers(2, 20)))])], 1, cv2.LINE_AA)
        cloth = r.uniform(90, 255) + np.array(tone) / 10 + wave(r, TILE, TILE, (20, 200))[..., None] * r.uniform(0, 30)
        x[:] = (x + (where > 0) * (cloth - x)).clip(0, 255)
    else:
        where, (a, b) = np.zeros((TILE, TILE), np.uint8), r.normal(0, 1, 2)
        v, u = np.mgrid[:TILE, :TILE] * (2 / r.uniform(1, 4, (2, 1, 1)))
        cloth = np.sin(u * a + v * b) + r.integers(2) * np.sin(v * a - u * b)
        stain(where, r, 40, 160)
        x[:] = (x + ((where > 0) * cloth * r.uniform(5, 50))[..., None]).clip(0, 255)


def printed(x: F32, r: Dice) -> F32:
    """Makes a picture look like a print: blurred, gray or brownish, faded, with grain."""
    x = np.asarray(cv2.GaussianBlur(x, (0, 0), float(r.uniform(0.4, 1.8))), np.float32) if r.random() < 0.7 else x
    tint = 1 + r.choice([0.0, 1.0]) * np.array([0.12, 0.0, -0.2]) * r.random()
    x = (x.mean(2, keepdims=True) * tint if r.random() < 0.6 else x) * r.uniform(0.45, 1.1) + r.uniform(-10, 60)
    return np.asarray(x + wave(r, TILE, TILE, (1, 2.5))[..., None] * max(0, r.uniform(-4, 9)), np.float32)


def lay_damage(x: F32, mask: U8, r: Dice) -> tuple[F32, F32]:
    """Lays damage of one kind over a picture. Returns the picture and the damage's opacity, 0…1."""
    share, kind = (mask / np.float32(255))[..., None], r.random()
    tone, around = (
        r.uniform(170, 255) if r.random() < 0.7 else r.uniform(0, 70),
        x[mask > 0].mean() if mask.any() else 0,
    )
    tone = around + 60 * (1 if around < 128 else -1) if abs(tone - around) < 35 else tone
    aged = 1 - r.choice([0.0, 1.0]) * np.array([0.0, 0.08, 0.25]) * r.random()
    paint = tone * aged + r.normal(0, 5, 3) + wave(r, TILE, TILE, (1, 20))[..., None] * max(0, r.uniform(-12, 22))
    share = share * (0.6 + 0.5 * wave(r, TILE, TILE, (3, 60))[..., None]).clip(0, 1) if r.random() < 0.3 else share
    opacity = share * min(1, r.uniform(0.4, 1.4))
    if kind < 0.15:
        opacity = (share * r.uniform(0.3, 0.7) + 0.3 * (share - cv2.erode(share, NEAR)[..., None])).clip(0, 1)
    elif kind > 0.7:
        relief = cv2.GaussianBlur(share, (0, 0), float(r.uniform(0.8, 2.5)))
        moved = cv2.warpAffine(relief, np.array([[1, 0, r.uniform(-3, 3)], [0, 1, r.uniform(-3, 3)]]), (TILE, TILE))
        x = x + (relief - moved)[..., None] * np.float32(r.uniform(30, 160))
    return np.asarray(x * (1 - opacity) + paint * opacity, np.float32), np.asarray(opacity[..., 0], np.float32)


def tensor(picture: F32) -> Tensor:
    """Converts H×W×3, 0…255, to 3×H×W, 0…1."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))) / 255


class DamagedPhotos(IterableDataset[tuple[Tensor, ...]]):
    """Yields tiles 3×256×256 (0…1), labels 1×256×256, and a place for errors."""

    least_px = TILE

    def __init__(self, root: Path, seed: int) -> None:
        self.pictures = [f.load() for f in split(load_faces(root))[0] if f.px >= self.least_px]
        self.seed = seed

    def sample(self, picture: U8, r: Dice) -> tuple[Tensor, ...]:
        """Makes a damaged or sound tile of a picture, scanned and coded."""
        if r.random() < 0.1:
            picture = np.dstack([getattr(skimage.data, r.choice(FREE_PHOTOS))()] * 3)[..., :3]
        photo = cut_tile(picture, r)
        for _ in range(int(r.integers(1, 4)) if r.random() < 0.55 else 0):
            draw_objects(photo, r)
        sound = x = printed(photo.astype(np.float32), r) if r.random() < 0.7 else photo.astype(np.float32)
        damage = np.zeros((TILE, TILE), np.float32)
        for _ in range(int(r.integers(1, 4)) if r.random() > SOUND_SHARE else 0):
            x, opacity = lay_damage(x, holes(r, TILE, TILE, sparse=True), r)
            damage = np.maximum(damage, opacity)
        change = np.abs(x.clip(0, 255) - sound.clip(0, 255)).mean(2)
        marked = (damage > MARKED) & (change > VISIBLE)
        near = (damage > 0.05) | (change > VISIBLE / 2) | (cv2.dilate(marked.astype(np.uint8), NEAR) > 0)
        label = np.where(marked, np.float32(1), np.float32(UNSURE) * near)
        x = cv2.GaussianBlur(x, (0, 0), float(r.uniform(0.3, 0.8))) if r.random() < 0.3 else x
        x = (x + r.normal(0, max(0.0, r.uniform(-12, 5)), x.shape)).clip(0, 255)
        if r.random() < 0.5:
            quality = [cv2.IMWRITE_JPEG_QUALITY, int(r.integers(40, 95))]
            x = cv2.imdecode(cv2.imencode(".jpg", x.astype(np.uint8), quality)[1], cv2.IMREAD_COLOR)
        if r.random() < 0.35:
            part = slice(0, int(r.integers(TILE // 2, TILE)))
            x = cv2.resize(np.asarray(x[part, part], np.float32), (TILE, TILE), interpolation=cv2.INTER_CUBIC)
            label = np.rint(2 * cv2.resize(label[part, part], (TILE, TILE), interpolation=cv2.INTER_LINEAR)) / 2
        return tensor(np.float32(x).clip(0, 255)), torch.from_numpy(label)[None].float(), torch.zeros(1)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        cv2.setNumThreads(1)
        r = np.random.default_rng(self.seed)
        while True:
            yield self.sample(self.pictures[int(r.integers(len(self.pictures)))], r)


class HoledFaces(DamagedPhotos):
    """Yields fill, hole and truth of strips of 256×384 pixels, and rows."""

    least_px = LEAST_PX

    def sample(self, picture: U8, r: Dice) -> tuple[Tensor, ...]:
        """Makes a sample of a picture: lays a tone over the damage, and fills it smoothly."""
        row = 4 * int(r.integers((SIDE - STRIP) // 4 + 1))
        truth, mask = changed(picture, row, r), holes(r, STRIP, WIDTH)
        share, tone = (mask / 255)[..., None], r.uniform(190, 250) if r.random() < 0.6 else r.uniform(5, 60)
        hole = (cv2.dilate(mask, NEAR) > 20).astype(np.float32)
        covered = np.asarray(truth * (1 - share) + tone * share, np.float32)
        fill = smooth_fill(covered, hole > 0).clip(0, 255)
        return tensor(fill), torch.from_numpy(hole)[None], tensor(truth), torch.tensor(float(row))
