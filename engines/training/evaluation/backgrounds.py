"""What can stand behind a head and must not be harmed by what is done to it: text, line art, foliage, a test chart."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import cv2
import numpy as np

from training.crop_space import U8, before_ground

HEAD = ((0.5, 0.5), (0.37, 0.46), (0.94, 1.06))
"""What stays of the picture: arguments of `before_ground`."""
GRAIN = 5.0
"""Standard deviation of film grain, code values."""


def _text(side: int, r: np.random.Generator) -> U8:
    page = np.full((side, side, 3), r.integers(225, 256, 3), np.uint8)
    y = 8
    while y < side + 16:
        size = float(r.uniform(0.35, 0.9))
        words = " ".join("".join(chr(int(c)) for c in r.integers(97, 123, int(r.integers(2, 9)))) for _ in range(20))
        cv2.putText(page, words, (-int(r.integers(0, 60)), y), int(r.choice([0, 2, 3, 4])), size,
                    tuple(int(v) for v in r.integers(0, 70, 3)), 1 + int(r.random() < 0.3), cv2.LINE_AA)  # fmt: skip
        y += int(14 + 26 * size)
    return page


def _line_art(side: int, r: np.random.Generator) -> U8:
    page = np.full((side, side, 3), 245, np.uint8)
    for _ in range(90):
        x, y, w, h = (int(v) for v in (*r.integers(0, side, 2), *r.integers(6, side // 3, 2)))
        angle, begin = int(r.integers(0, 180)), int(r.integers(0, 360))
        end, width = begin + int(r.integers(40, 300)), 1 + int(r.integers(2))
        cv2.ellipse(page, (x, y), (w, h), angle, begin, end, (20, 20, 25), width, cv2.LINE_AA)
    for _ in range(12):  # hatching
        x, y, n, gap = (int(v) for v in (*r.integers(0, side, 2), r.integers(8, 24), r.integers(3, 7)))
        for k in range(n):
            cv2.line(page, (x + k * gap, y), (x + k * gap + 20, y + 60), (30, 30, 30), 1, cv2.LINE_AA)
    return page


def _foliage(side: int, r: np.random.Generator) -> U8:
    page = np.full((side, side, 3), (18, 30, 14), np.uint8)
    for depth in range(6):
        for _ in range(420):
            x, y = (int(v) for v in r.integers(0, side, 2))
            long = int(r.uniform(4, 16 - depth))
            light = 0.35 + 0.13 * depth + 0.12 * r.standard_normal()
            colour = tuple(int(np.clip(v * light, 0, 255)) for v in (110 + 60 * r.random(), 190, 60 + 30 * r.random()))
            axes, angle = (long, max(1, long // 3)), int(r.integers(0, 180))
            cv2.ellipse(page, (x, y), axes, angle, 0, 360, colour, -1, cv2.LINE_AA)
    return page


def _chart(side: int, r: np.random.Generator) -> U8:
    """A zone plate with bars of growing frequency along two sides."""
    y, x = np.mgrid[:side, :side].astype(np.float64)
    phase = float(r.uniform(0, 6.28))
    plate = 127.5 + 110 * np.cos(np.pi * ((x - side / 2) ** 2 + (y - side / 2) ** 2) / (2.6 * side) + phase)
    bars = 127.5 + 110 * np.sign(np.sin(np.pi * x * x / (3.2 * side)))
    plate[: side // 8], plate[-side // 8 :] = bars[: side // 8], bars[-side // 8 :]
    return np.repeat(np.clip(plate, 0, 255).astype(np.uint8)[..., None], 3, 2)


def _grain(side: int, r: np.random.Generator) -> U8:
    ground = cv2.resize(r.uniform(60, 200, (3, 3, 3)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    noise = cv2.GaussianBlur(r.standard_normal((side, side, 3)).astype(np.float32), (0, 0), 1.2)
    return np.clip(ground + 4 * GRAIN * noise, 0, 255).astype(np.uint8)


BACKGROUNDS: dict[str, Callable[[int, np.random.Generator], U8]] = {
    "text": _text,
    "line art": _line_art,
    "foliage": _foliage,
    "chart": _chart,
    "grain": _grain,
}


def behind(picture: U8, name: str) -> U8:
    """A canonical picture (uint8 S×S×3) with a background of `BACKGROUNDS` round the head."""
    side = len(picture)
    seed = int(hashlib.sha256(picture.tobytes() + name.encode()).hexdigest()[:8], 16)
    ground = BACKGROUNDS[name](side, np.random.default_rng(seed))
    return before_ground(picture, ground, *HEAD)
