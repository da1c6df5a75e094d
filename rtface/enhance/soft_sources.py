"""Weakens corrections that sharpen a face which was soft before it was coded."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import cv2
import numpy as np

from rtface.correct.mask import smooth_ramp
from rtface.enhance.identity_guard import IdentityGuard
from rtface.enhance.tasks import FaceTask, FrameTask
from rtface.persons.guard import Limits
from rtface.protocols import Correction, Device
from rtface.quality.governor import UNSEEN_STRENGTH

LIMITS: Limits = (0.005, 0.07)
"""Figure of `_sharpening` up to which all of a correction is kept, and from which on `persons.guard.MIN_KEPT_SHARE`."""
ENGINES = "rtface-s", "rtface-m"
"""Those it was measured with: neither a person's weights nor engines that make up detail."""
_LOOKS = {True: (0.0, 0.2), False: (1.0, 0.5)}
"""Seconds from one look at a track to the next, and its weight in the mean: on the CPU, and on a GPU, where reading a
correction is waited for."""


def shape(task: FrameTask, guard: IdentityGuard | None, by_analysis: Callable[[FaceTask], bool]) -> list[Correction]:
    """The corrections of a frame's faces (`Device.shape`, or the guard's), weakened as far as they sharpen what was
    soft. The first one of a track is looked at before it is shown.

    Args:
        by_analysis: whether the analysis decides about a face, not the user.
    """
    device, limits = task.device, list[Limits | None]()
    for face in task.faces:
        free = by_analysis(face)
        limits.append(LIMITS if free and face.engine.name in ENGINES else None)
        if face.frame.new or not free:
            face.track.soft.reset()
        face.set_strength(face.strength * face.track.soft.advance(face.time, limits[-1]))
    corrections = list(guard.shape(task) if guard is not None else device.shape(task.faces))
    for number, (face, known) in enumerate(zip(task.faces, limits, strict=True)):
        soft = face.track.soft
        if known and face.restored is not None and face.strength > UNSEEN_STRENGTH and soft.is_due(face.time):
            face.fine = fine_of(face, corrections[number], device)
            if soft.learn(face.time, _sharpening(face), LIMITS, *_LOOKS[device.name == "cpu"]) and soft.kept < 1.0:
                face.state.reset()  # as if this frame had not been shaped yet
                face.set_strength(face.strength * soft.kept)
                face.fine *= soft.kept
                (corrections[number],) = device.shape([face])
    return corrections


def fine_of(face: FaceTask, correction: Correction, device: Device) -> float:
    """By which share a correction amplifies the fine detail of its crop (`Doubt.fine`)."""
    (pixels, matrix), (crops,) = device.read(correction), device.to_host([face.crops])
    luma: Any = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    left, top = (crops.matrices[0] - matrix)[:, 2].round().astype(int)
    green, share = crops.pixels[0, 1, top : top + luma.shape[0], left : left + luma.shape[1]], 256 / crops.size
    if min(luma.shape) * share < 8:
        return 0.0
    # Of a crop of 256 samples a side, detail of about two samples: as fine as networks add it.
    seen, added = (cv2.resize(x, None, fx=share, fy=share, interpolation=cv2.INTER_AREA) for x in (green, luma))
    detail = np.where(added == 0, 0.0, cv2.subtract(seen, cv2.blur(seen, (5, 5))))
    return float(np.vdot(added, detail) / max(1e-6, np.vdot(detail, detail)))


def _sharpening(face: FaceTask) -> float:
    """How much a correction of strength 1 amplifies fine detail of a face that lacks it: the more of it the finer the
    quantiser is, which takes away detail of up to its step."""
    known, fine = face.track.analyzer.lately(face.time), (face.fine or 0.0) / face.strength
    step, soft = known.step or 20.0, smooth_ramp(known.low_resolution, 0.15, 0.4)  # else it lacks no detail
    return max(0.0, fine + 0.02) / sqrt(step) * soft
