"""Draws damage of old prints: masks of cracks, nets of cracks, folds, scratches, dust, stains and torn parts."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from training.crop_space import F32, U8

Dice = np.random.Generator


def wave(r: Dice, height: int, width: int, grain: tuple[float, float]) -> F32:
    """Draws smooth noise, height×width, whose structure has between two numbers of pixels."""
    size = r.uniform(*grain)
    noise = r.normal(0, 1, (max(3, round(height / size)), max(3, round(width / size)))).astype(np.float32)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def crack(mask: U8, r: Dice, turn: float | None = None) -> None:
    """Draws a random walk whose width changes, with branches. The less it turns, the longer it is."""
    turn = r.uniform(0.03, 0.8) if turn is None else turn
    stride, count = r.uniform(2, 14), r.integers(8, 70) if turn > 0.02 else 200
    point, angle = r.uniform(0, 1, 2) * mask.shape[::-1], r.uniform(0, 2 * np.pi)
    thick = float(np.exp(r.uniform(0, np.log(12))))
    for _ in range(int(r.integers(1, 7)) if turn > 0.02 else 1):
        angles = angle + np.cumsum(r.normal(0, turn, count))
        walk = np.concatenate([[point], point + np.cumsum(stride * np.stack([np.cos(angles), np.sin(angles)], 1), 0)])
        for part in np.array_split(np.arange(len(walk)), int(r.integers(1, 5)) if turn > 0.02 else 40):
            points, width = np.rint(walk[part[0] : part[-1] + 2] * 8), max(1, round(thick * r.uniform(0.5, 1.3)))
            cv2.polylines(mask, [points.astype(np.int32)], False, 255, width, cv2.LINE_AA, 3)
        fork, thick = int(r.integers(count)), 0.7 * thick
        point, angle = walk[fork], angles[fork] + r.choice([-1, 1]) * r.uniform(0.4, 1.4)


def net(mask: U8, r: Dice) -> None:
    """Draws a net of fine cracks: some of the borders of irregular cells, of varying width."""
    height, width = mask.shape
    cell = float(np.exp(r.uniform(np.log(16), np.log(140))))
    seeds, count = np.ones((height, width), np.uint8), max(4, round(height * width / cell**2))
    seeds[r.integers(height, size=count), r.integers(width, size=count)] = 0
    cells = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1]
    places = np.mgrid[:height, :width].astype(np.float32)
    for grain, most in (((cell / 2,) * 2, cell / 4), ((6, 6), 1.6)):
        places += np.float32(most * r.random()) * np.stack([wave(r, height, width, grain) for _ in range(2)])
    here = cv2.remap(
        cells.astype(np.float32), places[1], places[0], cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101
    )
    here, kept, lines = here.astype(np.int64), r.random(1009) < r.uniform(0.3, 0.95), np.zeros_like(mask)
    for other in (np.roll(here, 1, axis) for axis in (0, 1)):
        lines[(here != other) & kept[here * other % 1009]] = 255
    lines[wave(r, height, width, (cell, cell)) > r.uniform(0.5, 2.5)] = lines[0] = lines[:, 0] = 0
    wide = wave(r, height, width, (6, 40)) + r.normal(0, 0.8)
    soft = cv2.GaussianBlur(lines, (3, 3), float(r.uniform(0.3, 0.7)))
    for least, size in ((0.3, 2), (1.2, 3), (2.2, 5)):
        soft = np.where(wide > least, cv2.dilate(lines, np.ones((size, size), np.uint8)), soft)
    np.maximum(mask, soft, out=mask)


def border(mask: U8, r: Dice, most: float = 0.12) -> None:
    """Draws a torn-off side or corner with a ragged edge."""
    side = max(mask.shape)
    depth = r.random() ** 2 * most * side + np.cumsum(r.normal(0, r.uniform(0.3, 1.5), side)) - r.integers(2) * (
        np.arange(side) * r.uniform(0.3, 2) - r.uniform(0, 3 * most) * side)  # fmt: skip
    depth += r.uniform(0, 3) * wave(r, 1, side, (3, 3))[0] + r.uniform(0, 12) * wave(r, 1, side, (25, 25))[0]
    part = np.rot90(np.arange(side)[:, None] < depth + r.uniform(0, 4) * wave(r, side, side, (4, 4)), r.integers(4))
    mask[part[: mask.shape[0], -mask.shape[1] :]] = 255


def dust(mask: U8, r: Dice) -> None:
    """Draws specks of dust."""
    for _ in range(int(r.integers(5, 60))):
        centre, axes = r.integers(0, mask.shape[::-1]).tolist(), ((7, 3) * r.random(2) ** 2).astype(int).tolist()
        cv2.ellipse(mask, centre, axes, float(r.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA)


def stain(mask: U8, r: Dice, least: float = 4, most: float = 34) -> None:
    """Draws a blob: an ellipse, or with a ragged edge."""
    count, radius = int(r.integers(10, 40)), float(np.exp(r.uniform(np.log(least), np.log(most))))
    angles, ragged = np.linspace(0, 2 * np.pi, count, endpoint=False), r.integers(2)
    waves = sum(r.normal(0, 0.3 / k) * np.cos(k * angles + r.uniform(0, 6.3)) for k in (1, 2, 3, 5, 8))
    radii = radius * np.clip(1 + ragged * (waves + r.normal(0, 0.06, count)), 0.2, 2)
    points = np.stack([np.cos(angles), np.sin(angles) * r.uniform(0.4, 1.4)], 1) * radii[:, None]
    points += r.uniform(0, 1, 2) * mask.shape[::-1]
    cv2.fillPoly(mask, [np.asarray(np.rint(points), np.int32)], 255, cv2.LINE_AA)


fold = functools.partial(crack, turn=0.01)
# kinds of damage that occur together in a photograph; a fold or scratch is an almost straight crack
KINDS = (
    (net,),
    (net, crack),
    (fold, stain),
    (fold, crack),
    (dust,),
    *2 * ((border,),),
    (border, crack),
    *3 * ((crack,), (crack, stain)),
)


def holes(r: Dice, height: int, width: int, *, sparse: bool = False) -> U8:
    """Draws damage of a random share of pixels: a mask 0…255."""
    mask, kind = np.zeros((height, width), np.uint8), r.random()
    if torn := kind < (0.04 if sparse else 0.15):
        stain(mask, r, 24, 90) if r.random() < 0.65 else border(mask, r, 0.4)
    kinds = (
        KINDS[int(r.integers(len(KINDS)))] if sparse else (crack, stain) if kind < 0.55 else (crack, fold, dust, stain)
    )
    target = np.exp(r.uniform(np.log(0.002), np.log(0.1))) if sparse else r.uniform(0.05, 0.22)
    for _ in range(40):
        part = mask.copy()
        kinds[int(r.integers(len(kinds)))](part, r)
        if (part > 0).mean() < (0.6 if torn else 0.3):
            mask = part
        if (mask > 0).mean() > target:
            break
    return mask
