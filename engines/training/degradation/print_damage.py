"""Draws damage of old prints: masks of cracks, folds, scratches, dust, stains and torn parts."""

from __future__ import annotations

import itertools

import cv2
import numpy as np

from training.crop_space import F32, U8

Dice = np.random.Generator


def _line(mask: U8, points: F32, width: float) -> None:
    cv2.polylines(mask, [np.asarray(np.rint(points * 8), np.int32)], False, 255, max(1, round(width)), cv2.LINE_AA, 3)


def crack(mask: U8, r: Dice) -> None:
    """Draws a crack: a random walk whose width changes, sometimes with branches."""
    height, width = mask.shape
    stride, turn = r.uniform(2, 14), r.uniform(0.03, 0.8)
    point, angle = r.uniform(0, 1, 2) * (width, height), r.uniform(0, 2 * np.pi)
    thick = float(np.exp(r.random() * np.log(12)))
    for _ in range(int(r.integers(1, 7))):
        angles = angle + np.cumsum(r.normal(0, turn, r.integers(8, 70)))
        walk = np.concatenate([[point], point + np.cumsum(stride * np.stack([np.cos(angles), np.sin(angles)], 1), 0)])
        parts = np.array_split(np.arange(len(walk)), int(r.integers(1, 5)))
        for part in parts:
            _line(mask, walk[part[0] : part[-1] + 2].astype(np.float32), thick * r.uniform(0.6, 1.3))
        fork = int(r.integers(len(walk)))
        point, angle, thick = (
            walk[fork],
            angles[min(fork, len(angles) - 1)] + r.choice([-1, 1]) * r.uniform(0.4, 1.4),
            thick * 0.7,
        )


def fold(mask: U8, r: Dice) -> None:
    """Draws a fold or scratch: an almost straight line across the picture, with ragged edges."""
    height, width = mask.shape
    angle, size = r.uniform(0, np.pi), float(height + width)
    centre, along = r.uniform(0.1, 0.9, 2) * (width, height), np.array([np.cos(angle), np.sin(angle)])
    first, last = np.sort(r.uniform(-size, size, 2)) if r.random() < 0.5 else (-size, size)
    places = np.linspace(first, last, int(r.integers(8, 60)))
    wobble = np.cumsum(r.normal(0, r.uniform(0, 1.5), len(places)))
    points = centre + places[:, None] * along + wobble[:, None] * along[::-1] * (-1, 1)
    thick = float(np.exp(r.uniform(0, np.log(18))))
    for a, b in itertools.pairwise(points):
        _line(mask, np.stack([a, b]).astype(np.float32), thick * r.uniform(0.5, 1.2))


def net(mask: U8, r: Dice) -> None:
    """Draws a net of fine cracks: some of the borders of irregular cells, of varying width."""
    height, width = mask.shape
    cell = float(np.exp(r.uniform(np.log(16), np.log(140))))
    seeds = np.ones((height, width), np.uint8)
    count = max(4, round(height * width / cell**2))
    seeds[r.integers(height, size=count), r.integers(width, size=count)] = 0
    cells = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1].astype(np.float32)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for grain, most in ((cell / 2, cell / 4), (6, 1.6)):
        x = x + wave(r, height, width, grain) * np.float32(most * r.random())
        y = y + wave(r, height, width, grain) * np.float32(most * r.random())
    cells = cv2.remap(cells, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101).astype(np.int64)
    kept = r.random(1009) < r.uniform(0.3, 0.95)
    lines = np.zeros((height, width), np.uint8)
    for other, part in ((cells[1:, :-1], lines[:-1, :-1]), (cells[:-1, 1:], lines[:-1, :-1])):
        here = cells[:-1, :-1]
        part[(here != other) & kept[here * other % 1009]] = 255
    lines[wave(r, height, width, cell) > r.uniform(0.5, 2.5)] = 0
    wide = wave(r, height, width, float(r.uniform(6, 40))) + r.normal(0, 0.8)
    soft = cv2.GaussianBlur(lines, (3, 3), float(r.uniform(0.3, 0.7)))
    for least, size in ((0.3, 2), (1.2, 3), (2.2, 5)):
        soft = np.where(wide > least, cv2.dilate(lines, np.ones((size, size), np.uint8)), soft)
    np.maximum(mask, soft, out=mask)


def wave(r: Dice, height: int, width: int, grain: float) -> F32:
    """Draws smooth noise, height×width, whose structure has ``grain`` pixels."""
    small = max(3, round(height / grain)), max(3, round(width / grain))
    noise = r.normal(0, 1, small).astype(np.float32)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def border(mask: U8, r: Dice) -> None:
    """Draws a side or corner of the picture whose emulsion is torn off, with a ragged edge and spots along it."""
    height, width = mask.shape
    depth = r.uniform(-4, 0.12 * height) + np.cumsum(r.normal(0, r.uniform(0.3, 1.5), width))
    depth = depth + r.uniform(0, 3) * wave(r, 1, width, 3)[0] + r.uniform(0, 12) * wave(r, 1, width, 25)[0]
    if r.random() < 0.5:
        depth = depth - np.arange(width) * r.uniform(0.3, 2) + r.uniform(0, 0.4) * width
    ragged = depth[None] + r.uniform(0, 4) * wave(r, height, width, 4)
    part = ((np.arange(height)[:, None] < ragged) * 255).astype(np.uint8)
    np.maximum(mask, np.rot90(part, int(r.integers(4))) if height == width else part, out=mask)


def dust(mask: U8, r: Dice) -> None:
    """Draws specks of dust and short fibres."""
    height, width = mask.shape
    for _ in range(int(r.integers(5, 60))):
        if r.random() < 0.1:
            start, angles = r.uniform(0, 1, 2) * (width, height), r.uniform(0, 6.3) + np.cumsum(r.normal(0, 0.25, 12))
            steps = np.cumsum(r.uniform(0.5, 4) * np.stack([np.cos(angles), np.sin(angles)], 1), 0)
            _line(mask, (start + steps).astype(np.float32), 1)
            continue
        centre = (int(r.integers(width)), int(r.integers(height)))
        axes = (int(6 * r.random() ** 2), int(3 * r.random() ** 2))
        cv2.ellipse(mask, centre, axes, float(r.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA)


def stain(mask: U8, r: Dice) -> None:
    """Draws an ellipse or a blob with a ragged edge."""
    height, width = mask.shape
    centre, axes = r.uniform(0, 1, 2) * (width, height), np.exp(r.uniform(np.log(4), np.log(34), 2))
    if r.random() < 0.5:
        (x, y), (a, b) = centre.astype(int).tolist(), axes.astype(int).tolist()
        cv2.ellipse(mask, (x, y), (a, b), float(r.uniform(0, 180)), 0, 360, 255, -1)
        return
    polygon(mask, r, centre.astype(np.float32), float(axes.mean()))


def polygon(mask: U8, r: Dice, centre: F32, radius: float) -> None:
    """Draws a star-shaped polygon with a ragged edge."""
    count = int(r.integers(10, 40))
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    waves = sum(r.normal(0, 0.3 / k) * np.cos(k * angles + r.uniform(0, 6.3)) for k in (1, 2, 3, 5, 8))
    radii = radius * np.clip(1 + waves + r.normal(0, 0.06, count), 0.2, 2)
    points = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles) * r.uniform(0.6, 1.4)], 1)
    cv2.fillPoly(mask, [np.asarray(np.rint(points), np.int32)], 255, cv2.LINE_AA)


def torn(mask: U8, r: Dice) -> None:
    """Draws a large hole: a part as large as an eye, a mouth or half a face, or a torn-off side."""
    height, width = mask.shape
    if r.random() < 0.65:
        polygon(
            mask,
            r,
            (r.uniform(0.15, 0.85, 2) * (width, height)).astype(np.float32),
            float(np.exp(r.uniform(np.log(24), np.log(90)))),
        )
        return
    angle, offset = r.uniform(0, 2 * np.pi), r.uniform(-0.1, 0.7) * min(height, width) / 2
    along, out = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    places = np.linspace(-width, width, 120)
    edge = (
        (width / 2, height / 2) + places[:, None] * along + (offset + np.cumsum(r.normal(0, 2.0, 120)))[:, None] * out
    )
    far = np.stack([edge[-1] + 2 * width * out, edge[0] + 2 * width * out])
    cv2.fillPoly(mask, [np.asarray(np.rint(np.concatenate([edge, far])), np.int32)], 255)


KINDS = (
    (net,),
    (net, crack),
    (crack,),
    (crack, stain),
    (crack, fold),
    (fold,),
    (dust,),
    (border,),
    (border, crack),
    (stain,),
)
"""Kinds of damage that occur together in a photograph."""


def holes(r: Dice, height: int, width: int, *, sparse: bool = False) -> U8:
    """Draws a mask 0…255 of damage of several kinds, uint8 height×width, until a random share of pixels is damaged."""
    mask = np.zeros((height, width), np.uint8)
    kind, most = r.random(), 0.3
    if kind < (0.04 if sparse else 0.15):
        torn(mask, r)
        most = 0.6
    kinds = (crack, stain) if kind < 0.55 else (crack, fold, dust, stain)
    if sparse:
        kinds = KINDS[int(r.integers(len(KINDS)))]
    target = np.exp(r.uniform(np.log(0.002), np.log(0.1))) if sparse else r.uniform(0.05, 0.22)
    for _ in range(40):
        part = np.zeros_like(mask)
        kinds[int(r.integers(len(kinds)))](part, r)
        if sparse and r.random() < 0.2 and part.any() and kinds[0] is not dust:
            rows, columns = np.nonzero(part)
            for k in r.integers(len(rows), size=3):
                polygon(part, r, np.array([columns[k], rows[k]], np.float32), float(r.uniform(1.5, 7)))
        both = np.maximum(mask, part)
        if (both > 0).mean() < most:
            mask = both
        if (mask > 0).mean() > target:
            break
    return mask
