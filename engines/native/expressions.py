"""What a living face does that a still does not: it turns, blinks and speaks. Bent into a still by fields of
displacements, in canonical space (512 px), so that codecs meet it as they meet the real thing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .space import F32, TEMPLATE_512

SIDE = 65
"""Side of a field over the whole crop."""

TURN = 0.08
"""How far a lively face turns (standard deviation, radians)."""


class Passing(NamedTuple):
    """Something that comes and goes again: frames at which it begins, and that it takes to come, stays and goes."""

    begin: float
    come: float
    stay: float
    go: float

    def share(self, t: float) -> float:
        """How far it has come at frame ``t``, 0..1."""
        over = t - self.begin - self.come - self.stay
        return max(0.0, min(1.0, (t - self.begin) / self.come, 1 - over / self.go))


def passing(frames: int, r: np.random.Generator) -> Passing:
    """Something that begins within ``frames``, at frame 0 at the earliest; a quarter of it stays."""
    come, stay, go = (int(r.integers(1, most)) for most in (5, 4, 6))
    return Passing(int(r.integers(0, frames - 1)), come, 10.0**6 if r.random() < 0.25 else stay, go)


def relief() -> F32:
    """How far forward each place of a face is, SIDE×SIDE, in pixels of 512, relative to the points that align it: half
    an ellipsoid with a nose."""
    y, x = np.mgrid[:SIDE, :SIDE] * (512 / SIDE)

    def height(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        ball = 120 * np.sqrt(np.clip(1 - ((x - 256) / 180) ** 2 - ((y - 290) / 230) ** 2, 0, 1))
        return ball + 30 * np.exp(-(((x - 256) / 28) ** 2) - ((y - 305) / 36) ** 2)

    return (height(x, y) - height(*TEMPLATE_512.T).mean()).astype(np.float32)


def squeezing(
    x: np.ndarray, y: np.ndarray, centre: tuple[float, float], axes: tuple[float, float]
) -> np.ndarray:
    """By how much places in an ellipse are above or below its middle, falling to 0 at its edge."""
    radius = np.hypot((x - centre[0]) / axes[0], (y - centre[1]) / axes[1])
    return (y - centre[1]) * np.clip(1.1 - radius, 0, 1)


def feature(*ellipses: tuple[tuple[float, float], tuple[float, float]]) -> F32:
    """What is squeezed where eyes shut or a mouth moves, SIDE×SIDE: ``ellipses`` of centre and half axes, 512 px."""
    y, x = np.mgrid[:SIDE, :SIDE] * (512 / SIDE)
    return sum((squeezing(x, y, *e) for e in ellipses), np.zeros((SIDE, SIDE))).astype(np.float32)


EYES = feature(((193, 240), (46, 34)), ((319, 240), (46, 34)))
MOUTH = feature(((257, 371), (78, 80)))
RELIEF = relief()


class Expressions:
    """The expressions of one face; ``amount`` 0..1 is how lively it is."""

    def __init__(self, r: np.random.Generator, amount: float) -> None:
        self.turn = r.normal(0, TURN * amount, (2, 2))
        self.turn_pace, self.turn_phase = r.uniform(0.05, 0.35, (2, 2)), r.uniform(0, 6.28, (2, 2))
        self.nods = [(passing(24, r), r.normal(0, TURN * amount, 2)) for _ in range(int(r.integers(0, 3)))]
        self.blinks = [(passing(24, r), r.uniform(0.5, 1.2)) for _ in range(int(r.integers(0, 3)))]
        speaks = amount if r.random() < 0.6 else 0.0
        self.speech = r.normal(0, 0.3 * speaks, 2)
        self.pace, self.phase = r.uniform(0.2, 1.2, 2), r.uniform(0, 6.28, 2)

    def field(self, t: float) -> F32:
        """Displacements at frame ``t``: 65×65×2 (x, y), from places on the face to places on its still."""
        turn = (self.turn * np.sin(self.turn_pace * t + self.turn_phase)).sum(0)
        for nod, far in self.nods:
            turn = turn + nod.share(t) * far
        shut = sum(blink.share(t) * far for blink, far in self.blinks)
        spoken = float((self.speech * np.sin(self.pace * t + self.phase)).sum())
        across = RELIEF * np.float32(turn[0])
        down = RELIEF * np.float32(turn[1]) + EYES * np.float32(np.expm1(min(shut, 1.0)))
        return np.stack([across, down + MOUTH * np.float32(np.expm1(spoken))], -1)
