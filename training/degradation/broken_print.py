"""Damage of old prints and film frames, each with its mask: scratches, cracks, dust, creases, stains, missing parts,
smears.

Images are uint8 H×W×3 RGB, about a face's crop; sizes are given for a crop of 256 px. `opaque` maps are float32 H×W,
0..1: the share of each pixel that the damage replaced. Torn parts come from ``missing_regions``.
"""

from __future__ import annotations

import cv2
import numpy as np

from training.crop_space import F32, U8
from training.degradation.missing_regions import crease_mask, torn_mask
from training.degradation.single_image import rounded

Rng = np.random.Generator
KINDS = ("scratches", "cracks", "dust", "crease", "stain", "torn", "smear")
SHIFT = 4
"""Fractional bits of the coordinates of drawn lines."""


def _walk(rng: Rng, start: tuple[float, float], angle: float, steps: int, step: float, bend: float) -> F32:
    """A random walk of ``steps`` points from ``start`` (x, y), ``bend`` radians a step."""
    angles = angle + np.cumsum(rng.normal(0, bend, steps))
    moves = step * np.stack([np.cos(angles), np.sin(angles)], 1)
    return (np.asarray(start) + np.cumsum(moves, 0)).astype(np.float32)


def _line(opaque: U8, points: F32, width: int, value: int = 255) -> None:
    fixed = np.rint(points * (1 << SHIFT)).astype(np.int32)
    cv2.polylines(opaque, [fixed], False, value, width, cv2.LINE_AA, SHIFT)


def _noise(h: int, w: int, cells: int, rng: Rng) -> F32:
    z = rng.standard_normal((cells, cells), np.float32)
    return np.asarray(cv2.resize(z, (w, h), interpolation=cv2.INTER_CUBIC), np.float32)


def _softened(mask: U8, rng: Rng, low: float, high: float) -> F32:
    sigma = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma), np.float32) / 255


def _ink(rng: Rng, light: float) -> F32:
    """The colour of bare paper or of scratched emulsion with probability ``light``, else that of dirt; float32 (3,)."""
    level = rng.uniform(185, 255) if rng.random() < light else rng.uniform(0, 60)
    tint = rng.uniform(0, 1) * np.array([4.0, 0.0, -18.0]) + rng.normal(0, 3, 3)
    return np.clip(level + tint, 0, 255).astype(np.float32)


def _laid(image: U8, opaque: F32, ink: F32) -> U8:
    return rounded(image + (ink - image.astype(np.float32)) * opaque[..., None])


def scratches(image: U8, rng: Rng) -> tuple[U8, F32]:
    """One to eight thin lines, straight or slightly bent, of uneven depth."""
    h, w = image.shape[:2]
    out, total = image, np.zeros((h, w), np.float32)
    upright = rng.random() < 0.4  # a film's, along its direction of travel
    for _ in range(int(rng.integers(1, 9))):
        mask = np.zeros((h, w), np.uint8)
        angle = np.pi / 2 + rng.normal(0, 0.03) if upright else rng.uniform(0, 2 * np.pi)
        steps = int(rng.integers(6, 40))
        start = rng.uniform(0.1, 0.9) * w, rng.uniform(-0.1, 0.4) * h if upright else rng.uniform(0.1, 0.9) * h
        _line(
            mask,
            _walk(rng, start, angle, steps, w / 26, 0.0 if upright else rng.choice([0.0, 0.02, 0.08])),
            int(rng.choice([1, 1, 1, 2, 3])),
        )
        depth = np.clip(rng.uniform(0.45, 1.2) + 0.35 * _noise(h, w, 9, rng), 0.1, 1)
        opaque = _softened(mask, rng, 0.4, 1.1) * depth
        out, total = _laid(out, opaque, _ink(rng, 0.75)), np.maximum(total, opaque)
    return out, total


def cracks(image: U8, rng: Rng) -> tuple[U8, F32]:
    """A branching crack of the emulsion, light, at times with a dark rim on one side."""
    h, w = image.shape[:2]
    mask = np.zeros((h, w), np.uint8)
    todo = [(rng.uniform(0.1, 0.9) * w, rng.uniform(0.1, 0.9) * h, rng.uniform(0, 2 * np.pi), int(rng.integers(15, 60)))
            for _ in range(int(rng.integers(1, 4)))]  # fmt: skip
    drawn = 0
    while todo and drawn < 12:
        x, y, angle, steps = todo.pop()
        points = _walk(rng, (x, y), angle, steps, w / 50, 0.28)
        _line(mask, points, int(rng.choice([1, 1, 2, 2, 3, 4])))
        drawn += 1
        for _ in range(int(rng.integers(0, 4))):
            if steps > 9:
                px, py = points[int(rng.integers(steps))]
                side = angle + rng.choice([-1, 1]) * rng.uniform(0.5, 1.6)
                todo.append((px, py, side, int(steps * rng.uniform(0.3, 0.8))))
    opaque = _softened(mask, rng, 0.4, 1.3) * np.clip(rng.uniform(0.6, 1.3) + 0.4 * _noise(h, w, 12, rng), 0.1, 1)
    out, total = _laid(image, opaque, _ink(rng, 0.85)), opaque
    if rng.random() < 0.4:
        m = np.array([[1, 0, rng.uniform(1, 2.5)], [0, 1, rng.uniform(1, 2.5)]])
        rim = np.asarray(cv2.warpAffine(opaque, m, (w, h)), np.float32) * (1 - opaque)
        rim = rim * np.float32(rng.uniform(0.2, 0.6))
        out, total = _laid(out, rim, _ink(rng, 0.0)), np.maximum(total, rim)
    return out, total


def dust(image: U8, rng: Rng) -> tuple[U8, F32]:
    """Specks with hard edges, and a few hairs; light or dark ones prevail."""
    h, w = image.shape[:2]
    light = float(rng.choice([0.1, 0.5, 0.95, 0.95]))
    masks = np.zeros((h, w), np.uint8), np.zeros((h, w), np.uint8)
    k = w / 256
    for _ in range(int(np.exp(rng.uniform(np.log(3), np.log(50))))):
        mask = masks[int(rng.random() < light)]
        x, y = rng.uniform(0.05, 0.95) * w, rng.uniform(0.05, 0.95) * h
        if rng.random() < 0.1:
            _line(mask, _walk(rng, (x, y), rng.uniform(0, 6.3), 14, 1.8 * k, 0.35), 1)
            continue
        size = k * float(np.exp(rng.uniform(np.log(0.7), np.log(4.5))))
        turn = np.sort(rng.uniform(0, 2 * np.pi, 8))
        r = size * rng.uniform(0.55, 1.3, 8)
        speck = np.stack([x + r * np.cos(turn) * rng.uniform(0.7, 1.5), y + r * np.sin(turn)], 1)
        cv2.fillPoly(mask, [np.rint(speck * (1 << SHIFT)).astype(np.int32)], 255, cv2.LINE_AA, SHIFT)
    out, total = image, np.zeros((h, w), np.float32)
    for mask, bright in zip(masks, (0.0, 1.0), strict=True):
        opaque = _softened(mask, rng, 0.4, 0.8) * np.float32(rng.uniform(0.65, 1))
        out, total = _laid(out, opaque, _ink(rng, bright)), np.maximum(total, opaque)
    return out, total


def crease(image: U8, rng: Rng) -> tuple[U8, F32]:
    """A fold across the print: a worn light line with a shaded side."""
    h, w = image.shape[:2]
    line = crease_mask(h, w, float(np.exp(rng.uniform(np.log(0.005), np.log(0.03)))), rng)
    opaque = np.asarray(cv2.GaussianBlur(line, (0, 0), rng.uniform(0.5, 1.2)), np.float32)
    opaque *= np.clip(rng.uniform(0.7, 1.3) + 0.4 * _noise(h, w, 16, rng), 0.15, 1)
    out = _laid(image, opaque, _ink(rng, 0.9))
    if rng.random() < 0.5:
        shade = np.asarray(cv2.GaussianBlur(line, (0, 0), w / 256 * rng.uniform(3, 8)), np.float32)
        out = rounded(out * (1 + np.float32(rng.uniform(-0.3, 0.25)) * shade * (1 - opaque))[..., None])
    return out, opaque


def stain(image: U8, rng: Rng) -> tuple[U8, F32]:
    """A translucent blot, brown, dark or bleached, at times with a darker rim."""
    h, w = image.shape[:2]
    spot = torn_mask(h, w, float(np.exp(rng.uniform(np.log(0.006), np.log(0.09)))), rng)
    soft = np.asarray(cv2.GaussianBlur(spot, (0, 0), w / 256 * rng.uniform(0.6, 3)), np.float32)
    deep = float(rng.uniform(0.3, 0.85))
    ink = _ink(rng, 0.35)
    if rng.random() < 0.5:
        ink = rng.uniform([60, 40, 10], [130, 90, 60]).astype(np.float32)
    out, total = _laid(image, soft * np.float32(deep), ink), soft
    if rng.random() < 0.4:
        rim = np.asarray(cv2.GaussianBlur(spot, (0, 0), w / 256 * 2), np.float32)
        rim = np.clip(4 * rim * (1 - rim) - 0.3, 0, 1)
        out = _laid(out, rim * np.float32(0.5 * deep), ink * np.float32(0.6))
    return out, total


def torn(image: U8, rng: Rng) -> tuple[U8, F32]:
    """Missing parts down to the paper or its backing, hard edges, some texture."""
    h, w = image.shape[:2]
    mask = torn_mask(h, w, float(np.exp(rng.uniform(np.log(0.004), np.log(0.1)))), rng)
    opaque = np.asarray(cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.4, 0.9)), np.float32)
    paper = _ink(rng, 0.8) + rng.choice([0.0, 3.0, 7.0]) * _noise(h, w, 90, rng)[..., None]
    return rounded(image + (paper - image) * opaque[..., None]), opaque


def smear(image: U8, rng: Rng) -> tuple[U8, F32]:
    """An area rubbed along one direction while wet, or scraped."""
    h, w = image.shape[:2]
    mask = torn_mask(h, w, float(np.exp(rng.uniform(np.log(0.01), np.log(0.08)))), rng)
    opaque = np.asarray(cv2.GaussianBlur(mask, (0, 0), w / 256 * rng.uniform(1, 3)), np.float32)
    length = int(w / 256 * rng.uniform(12, 40)) | 1
    kernel = np.zeros((length, length), np.float32)
    angle = rng.uniform(0, np.pi)
    along = np.linspace(-1, 1, 2 * length)
    rows, columns = np.rint((length - 1) / 2 * (1 + np.stack([np.sin(angle) * along, np.cos(angle) * along])))
    kernel[rows.astype(int), columns.astype(int)] = 1
    rubbed = np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101), np.float32)
    # Streaks along the direction, and part of the colour rubbed off.
    streaks = np.asarray(cv2.filter2D(_noise(h, w, w // 2, rng), -1, kernel / kernel.sum()), np.float32)
    rubbed = rubbed + np.float32(rng.uniform(0, 40)) * streaks[..., None] + np.float32(rng.normal(0, 14))
    return rounded(image + (rubbed - image) * opaque[..., None]), opaque


_MAKERS = {"scratches": scratches, "cracks": cracks, "dust": dust, "crease": crease, "stain": stain, "torn": torn,
           "smear": smear}  # fmt: skip


def damaged(image: U8, rng: Rng, kind: str) -> tuple[U8, F32]:
    """The image with damage of one of ``KINDS``, and how opaque it is: float32 H×W, 0..1."""
    return _MAKERS[kind](image, rng)
