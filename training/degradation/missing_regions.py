"""Missing regions of a face: torn or painted-over parts, creases, tape dropouts, lost macroblocks.

Pictures are uint8 H×W×3 RGB, about a face's crop; masks are float32 H×W, 1 where the picture is gone, and outside
them it is left as it was. Shares are of the whole crop.
"""

from __future__ import annotations

import cv2
import numpy as np

from training.crop_space import F32, U8

Rng = np.random.Generator
KINDS = ("torn", "crease", "dropouts", "lost")
SHARES = {"torn": (0.006, 0.115), "crease": (0.006, 0.04), "dropouts": (0.006, 0.05), "lost": (0.007, 0.08)}
"""How much each kind covers, least and most; small ones are as likely as large ones (log-uniform)."""
GREEN = (0, 135, 0)
"""What a decoder shows where Y, U and V are all 0."""


def _inside(rng: Rng) -> tuple[float, float]:
    """A place (x, y) on the face, as fractions of the crop's sides."""
    return rng.uniform(0.25, 0.75), rng.uniform(0.28, 0.88)


def _nearest(distance: F32, share: float) -> F32:
    """1 for the ``share`` of all pixels that have the smallest ``distance``."""
    count = round(share * distance.size)
    mask = np.zeros(distance.size, np.float32)
    mask[np.argpartition(distance, count, axis=None)[:count]] = 1
    return mask.reshape(distance.shape)


def _rough(h: int, w: int, rng: Rng) -> F32:
    """Noise of coarse and fine scales together, for torn edges: float32 h×w, about 1 at most."""
    total = np.zeros((h, w), np.float32)
    for cells, weight in ((4, 0.4), (9, 0.25), (24, 0.14), (60, 0.08)):
        z = rng.standard_normal((cells, cells), np.float32)
        total += np.float32(weight) * cv2.resize(z, (w, h), interpolation=cv2.INTER_CUBIC)
    return total


def torn_mask(h: int, w: int, share: float, rng: Rng) -> F32:
    """One to three patches with irregular hard edges, ``share`` of the crop in all."""
    y, x = np.mgrid[:h, :w].astype(np.float32)
    distance = np.full((h, w), np.inf, np.float32)
    for _ in range(int(rng.integers(1, 4))):
        cx, cy = _inside(rng)
        angle, long, size = rng.uniform(0, np.pi), rng.uniform(1, 2.5), rng.uniform(0.4, 1.0)
        u = (x / w - cx) * np.cos(angle) + (y / h - cy) * np.sin(angle)
        v = (y / h - cy) * np.cos(angle) - (x / w - cx) * np.sin(angle)
        distance = np.minimum(distance, np.hypot(u / long, v).astype(np.float32) / np.float32(size))
    return _nearest(distance * (1 + 0.5 * _rough(h, w, rng)), share)


def crease_mask(h: int, w: int, share: float, rng: Rng) -> F32:
    """A line across the crop, bent and of uneven width, where a photograph was folded or is cracked."""
    y, x = np.mgrid[:h, :w].astype(np.float32)
    cx, cy = _inside(rng)
    angle = rng.uniform(0, np.pi)
    v = (y / h - cy) * np.cos(angle) - (x / w - cx) * np.sin(angle)
    rough = _rough(h, w, rng)
    return _nearest(np.abs(v + 0.03 * rough).astype(np.float32) / (1 + 0.4 * np.tanh(2 * _rough(h, w, rng))), share)


def dropout_runs(h: int, w: int, share: float, rng: Rng) -> list[tuple[int, int, int, int]]:
    """Runs (top, height, left, width) of one to three lines of a 480-line picture, until they cover ``share``."""
    line = max(1.0, h / 300)
    left, taken, runs = round(share * h * w), np.zeros((h, w), bool), []
    while left > 0:
        high = max(1, round(line * rng.integers(1, 4)))
        top = int(np.clip(rng.uniform(0.25, 0.95) * h, 0, h - high))
        long = min(int(w * rng.uniform(0.08, 0.7)), max(1, left // high))
        x = int(np.clip(rng.uniform(0.1, 0.9) * w - long / 2, 0, w - long))
        left -= int((~taken[top : top + high, x : x + long]).sum())
        taken[top : top + high, x : x + long] = True
        runs.append((top, high, x, long))
    return runs


def lost_mask(h: int, w: int, share: float, rng: Rng) -> tuple[F32, int]:
    """Runs of square blocks of one grid, until they cover ``share``; and a block's side in pixels.

    Sixteen pixels of a stream may be more on the crop when the film was scaled up.
    """
    side = int(np.clip(16 * np.exp(rng.uniform(-0.4, 0.9)) * h / 400, 6, np.sqrt(0.45 * share * h * w)))
    oy, ox = rng.integers(0, side, 2)
    mask = np.zeros((h, w), np.float32)
    while mask.mean() < share:
        x, y = _inside(rng)
        row, column = int(y * h) // side, int(x * w) // side
        for k in range(int(rng.integers(1, 9))):
            x0, y0 = (column + k) * side - int(ox), row * side - int(oy)
            mask[max(0, y0) : y0 + side, max(0, x0) : max(0, x0 + side)] = 1
            if mask.mean() >= share:
                break
    return mask, side


def _flat(shape: tuple[int, ...], rng: Rng, painted: float) -> U8:
    """Paper or backing, or with probability ``painted`` any colour; with a breath of texture at times."""
    light = rng.choice([rng.uniform(215, 250), rng.uniform(8, 50), rng.uniform(60, 200)])
    colour = np.clip(light + rng.normal(0, 50 if rng.random() < painted else 6, 3), 0, 255)
    texture = rng.standard_normal(shape[:2], np.float32) * np.float32(rng.choice([0.0, 2.0, 4.0]))
    return np.clip(colour + texture[..., None], 0, 255).astype(np.uint8)


def dropouts(image: U8, share: float, rng: Rng) -> tuple[U8, F32]:
    """Tape dropouts over ``share`` of the crop: bright or dark streaks, noise, or the line above over again."""
    out, mask = image.copy(), np.zeros(image.shape[:2], np.float32)
    how = str(rng.choice(["streak", "noise", "above", "above"]))
    h, w = image.shape[:2]
    for top, high, left, long in dropout_runs(h, w, share, rng):
        part = np.s_[top : top + high, left : left + long]
        if how == "above":
            out[part] = image[max(0, top - high - int(rng.integers(0, 3))), left : left + long][None]
        elif how == "noise":
            out[part] = np.clip(rng.normal(140, 60, (high, long, 1)), 0, 255).astype(np.uint8)
        else:
            out[part] = int(rng.choice([235, 220, 20]))
        mask[part] = 1
    return out, mask


def lost(image: U8, share: float, rng: Rng) -> tuple[U8, F32]:
    """Lost macroblocks over ``share`` of the crop: grey, green, or a copy of what is elsewhere."""
    h, w = image.shape[:2]
    mask, side = lost_mask(h, w, share, rng)
    how = str(rng.choice(["grey", "green", "copy", "copy", "smear"]))
    if how == "copy":
        dy, dx = (int(v) for v in rng.integers(side // 2, 3 * side, 2) * rng.choice([-1, 1], 2))
        fill = np.roll(image, (dy, dx), (0, 1))
    elif how == "smear":
        # Only the mean of each block came through.
        small = cv2.resize(image, (max(1, w // side), max(1, h // side)), interpolation=cv2.INTER_AREA)
        fill = np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_NEAREST), np.uint8)
    else:
        fill = np.broadcast_to(np.array((128, 128, 128) if how == "grey" else GREEN, np.uint8), image.shape)
    return np.where(mask[..., None] > 0, fill, image).astype(np.uint8), mask


def holes(image: U8, rng: Rng, kind: str | None = None) -> tuple[U8, F32]:
    """The picture with parts missing, and the mask of them; ``kind`` of ``KINDS``, or drawn."""
    kind = kind or str(rng.choice(KINDS))
    share = float(np.exp(rng.uniform(*np.log(SHARES[kind]))))
    if kind in ("dropouts", "lost"):
        return (dropouts if kind == "dropouts" else lost)(image, share, rng)
    h, w = image.shape[:2]
    mask = (torn_mask if kind == "torn" else crease_mask)(h, w, share, rng)
    fill = _flat(image.shape, rng, 0.3 if kind == "torn" else 0.0)
    return np.where(mask[..., None] > 0, fill, image).astype(np.uint8), mask
