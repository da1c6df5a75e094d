"""Warps a still: turns of the head, nods, and cheeks that move in speech.

Displacement fields are in canonical space (512 px). Like real motion, they are applied before the coding. For parts
that slide over others (lids, irises, lips), see ``eyes_and_mouth``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from training.crop_space import F32, TEMPLATE_512

SIDE = 65
"""Number of rows and columns of the displacement field of a crop."""

TURN = 0.08
"""Standard deviation of the turn of a face with the strongest motion, radians."""


class Transient(NamedTuple):
    """An event in a film: its first frame, and the durations of its rise, hold and fall in frames."""

    start: float
    rise: float
    hold: float
    fall: float

    def share(self, t: float) -> float:
        """Returns the event's strength at frame ``t``, 0..1."""
        since_hold = t - self.start - self.rise - self.hold
        return max(0.0, min(1.0, (t - self.start) / self.rise, 1 - since_hold / self.fall))


def draw_transient(frames: int, r: np.random.Generator) -> Transient:
    """Draws an event that starts within ``frames``. A quarter of all events never end."""
    rise, hold, fall = (int(r.integers(1, limit)) for limit in (5, 4, 6))
    return Transient(int(r.integers(0, frames - 1)), rise, 10.0**6 if r.random() < 0.25 else hold, fall)


def relief() -> F32:
    """Returns the depth of a face, SIDE×SIDE, pixels of 512. The face is half an ellipsoid with a nose. Depth is
    relative to the mean of the alignment points."""
    y, x = np.mgrid[:SIDE, :SIDE] * (512 / SIDE)

    def height(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        ball = 120 * np.sqrt(np.clip(1 - ((x - 256) / 180) ** 2 - ((y - 290) / 230) ** 2, 0, 1))
        return ball + 30 * np.exp(-(((x - 256) / 28) ** 2) - ((y - 305) / 36) ** 2)

    return (height(x, y) - height(*TEMPLATE_512.T).mean()).astype(np.float32)


def cheeks() -> F32:
    """Returns the vertical displacement around a moving mouth, SIDE×SIDE, pixels of 512. It is proportional to the
    vertical distance from the mouth's centre, and falls to 0 at the edge of an ellipse."""
    y, x = np.mgrid[:SIDE, :SIDE] * (512 / SIDE)
    radius = np.hypot((x - 257) / 78, (y - 371) / 80)
    return ((y - 371) * np.clip(1.1 - radius, 0, 1)).astype(np.float32)


MOUTH = cheeks()
RELIEF = relief()


class Expressions:
    """Random motion of a face: turns, nods and speech. ``amount``: strength of the motion, 0..1."""

    def __init__(self, r: np.random.Generator, amount: float) -> None:
        self.turn = r.normal(0, TURN * amount, (2, 2))
        self.turn_pace, self.turn_phase = r.uniform(0.05, 0.35, (2, 2)), r.uniform(0, 6.28, (2, 2))
        self.nods = [(draw_transient(24, r), r.normal(0, TURN * amount, 2)) for _ in range(int(r.integers(0, 3)))]
        speech_amount = amount if r.random() < 0.6 else 0.0
        self.speech = r.normal(0, 0.2 * speech_amount, 2)
        self.pace, self.phase = r.uniform(0.2, 1.2, 2), r.uniform(0, 6.28, 2)

    def field(self, t: float) -> F32:
        """Returns displacements from the face at frame ``t`` to the still: 65×65×2 (x, y)."""
        turn = (self.turn * np.sin(self.turn_pace * t + self.turn_phase)).sum(0)
        for nod, angles in self.nods:
            turn = turn + nod.share(t) * angles
        speech = float((self.speech * np.sin(self.pace * t + self.phase)).sum())
        across = RELIEF * np.float32(turn[0])
        down = RELIEF * np.float32(turn[1]) + MOUTH * np.float32(np.expm1(speech))
        return np.stack([across, down], -1)
