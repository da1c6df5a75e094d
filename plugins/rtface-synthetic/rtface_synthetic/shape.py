"""Blends the wearer's face shape with the actor's. Pose and expression remain the wearer's."""

from __future__ import annotations

import numpy as np

from rtface.frame import Float
from rtface.geometry.alignment import RIGID
from rtface_synthetic.actor import Actor

_LEARN_S = 3.0  # seconds over which the wearer's mean shape is averaged


class Shape:
    """Learns one wearer's shape and changes it.

    Args:
        amount: 0 keeps the wearer's shape; 1 replaces it by the actor's.
    """

    def __init__(self, actor: Actor, amount: float) -> None:
        self._actor, self._amount = actor, amount
        self._mean: Float | None = None
        self._learnt_s = 0.0

    def __call__(self, mesh: Float, elapsed: float) -> Float:
        """Returns the mesh in its new shape, on the same crop. `elapsed`: seconds since the last call."""
        actor = self._actor
        rotation, scale, shift = _fit_similarity(mesh[RIGID], actor.mesh[RIGID])
        aligned = scale * mesh @ rotation.T + shift
        if self._mean is None:
            self._mean = aligned
        else:
            self._learnt_s = min(self._learnt_s + elapsed, _LEARN_S)
            self._mean = self._mean + min(1.0, elapsed / max(self._learnt_s, 1e-3)) * (aligned - self._mean)
        change = actor.mesh - self._mean
        for group in actor.groups:
            change[group] = change[group].mean(0)
        displacement = (self._amount * actor.weight)[:, None] * change
        return mesh + displacement @ rotation / scale


def _fit_similarity(source: Float, target: Float) -> tuple[Float, float, Float]:
    """Fits rotation, scale and shift between (N, 3) points. Uses least squares (Umeyama 1991)."""
    a, b = source.mean(0), target.mean(0)
    p, q = source - a, target - b
    u, s, v = np.linalg.svd(q.T @ p)
    flip = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ v))])
    rotation = (u * flip) @ v
    scale = float((s * flip).sum() / (p * p).sum())
    return rotation, scale, b - scale * rotation @ a
