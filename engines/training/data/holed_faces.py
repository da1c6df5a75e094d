"""Yields strips of aligned faces with holes, endlessly, to train the network that fills them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from training.crop_space import F32, U8
from training.data.portraits import Face, load_faces, split
from training.data.smooth_fill import smooth_fill
from training.degradation.print_damage import holes

SIDE, STRIP, WIDTH = 512, 256, 384
LEAST_PX = 320
NEAR = np.ones((3, 3), np.uint8)


def damaged(truth: F32, mask: U8, r: np.random.Generator) -> tuple[F32, U8]:
    """Lays a tone over the damage of a picture 0…255 and fills it smoothly. Returns the fill and the holes, 0 or 1."""
    share = (mask / np.float32(255))[..., None]
    tone = r.uniform(190, 250) if r.random() < 0.6 else r.uniform(5, 60)
    hole = (cv2.dilate(mask, NEAR) > 20).astype(np.uint8)
    covered = np.asarray(truth * (1 - share) + tone * share, np.float32)
    return smooth_fill(covered, hole > 0).clip(0, 255), hole


def changed(picture: U8, row: int, r: np.random.Generator) -> F32:
    """Moves, turns, mirrors, fades and blurs a face at random. Returns a strip of it, float32 256×384×3, 0…255."""
    scale, half = picture.shape[0] / SIDE / r.uniform(0.92, 1.15), (SIDE - 1) / 2
    matrix = cv2.getRotationMatrix2D((half, half), float(r.normal(0, 4)), float(scale))
    matrix[:, 2] += (picture.shape[0] - 1) / 2 - half + r.normal(0, 5, 2) + matrix @ ((SIDE - WIDTH) / 2, row, 0)
    flags = cv2.WARP_INVERSE_MAP | cv2.INTER_CUBIC
    x = cv2.warpAffine(picture, matrix, (WIDTH, STRIP), flags=flags, borderMode=cv2.BORDER_REFLECT_101).astype(
        np.float32
    )
    if r.random() < 0.5:
        x = x[:, ::-1]
    if r.random() < 0.25:
        x = cv2.GaussianBlur(x, (0, 0), float(r.uniform(0.5, 2.0)))
    gray = x @ np.array([0.299, 0.587, 0.114], np.float32)
    x = gray[..., None] + np.float32(r.choice([0.0, r.uniform(0.4, 1.3), 1.0], p=[0.3, 0.3, 0.4])) * (
        x - gray[..., None]
    )
    if r.random() < 0.5:
        gain = np.exp(r.normal(0, 0.25)) * np.exp(r.normal(0, 0.06, 3))
        x = (x - 128) * gain.astype(np.float32) + np.float32(128 + r.normal(0, 15))
    return np.ascontiguousarray(x.clip(0, 255))


class HoledFaces(IterableDataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """Yields fill and truth 3×256×384 (0…1), hole 1×256×384, and the row of the strip in the crop."""

    def __init__(self, root: Path, seed: int) -> None:
        self.faces: list[Face] = [f for f in split(load_faces(root))[0] if f.px >= LEAST_PX]
        self.pictures: list[U8] = [f.load() for f in self.faces]
        self.seed = seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        cv2.setNumThreads(1)
        r = np.random.default_rng(self.seed)
        while True:
            for number in r.permutation(len(self.pictures)):
                row = 4 * int(r.integers((SIDE - STRIP) // 4 + 1))
                truth = changed(self.pictures[number], row, r)
                noise = r.normal(0, r.uniform(1, 6), (STRIP, WIDTH, 1)).astype(np.float32) if r.random() < 0.2 else 0
                fill, hole = damaged((truth + np.float32(noise)).clip(0, 255), holes(r, STRIP, WIDTH), r)
                fill, truth = (
                    torch.from_numpy(np.ascontiguousarray(v.transpose(2, 0, 1))) / 255 for v in (fill, truth)
                )
                yield fill, torch.from_numpy(hole)[None].float(), truth, torch.tensor(float(row))
