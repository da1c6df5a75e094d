"""Weakens corrections that change the person (`--guard`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import cv2
import numpy as np

from rtface.enhance.tasks import FaceTask, FrameTask
from rtface.frame import Bytes, Float, Float32
from rtface.geometry.transforms import compose, invert
from rtface.persons.chip import SIDE, chip_matrix, clear, fitness
from rtface.persons.gallery import distance
from rtface.persons.guard import BLUR, GuardedTrack, Limits
from rtface.protocols import Correction
from rtface.stats import Stats

FILM_S, LIVE_S = 1.0, 2.5
"""Seconds between comparisons of a track. A comparison computes two embeddings, which takes 10 to 15 ms."""
_RETRY_S = 0.3
"""Seconds from the first comparison to the second, and from an unclear face to the next attempt."""


class IdentityGuard:
    """Compares corrected faces with the input, and weakens corrections as needed.

    Every `period`, a network that recognises persons measures the distance between the face in the input and the fully
    corrected face, both blurred. `rtface.persons.guard.GuardedTrack` decides from the distance. The first frame of a
    track is compared before the frame is shown.

    Not for use from several threads.

    Args:
        embed: function that maps a chip (uint8 150×150×3 RGB) to an embedding of length 1.
        limits_of: function that returns the limits for an engine's name; None if the engine is not guarded.
        period: seconds between comparisons.
        stats: gets the seconds of the work, and the number of comparisons.

    Attributes:
        weakened: number of faces on the last frame whose correction was weakened.
    """

    def __init__(
        self,
        embed: Callable[[Bytes], Float32],
        limits_of: Callable[[str], Limits | None],
        stats: Stats,
        *,
        period: float = FILM_S,
    ) -> None:
        self._embed, self._limits_of, self._stats, self._period = embed, limits_of, stats, period
        self.weakened = 0

    def shape(self, task: FrameTask) -> list[Correction]:
        """Returns a frame's corrections (`Device.shape`), weakened as needed. Also reduces the tasks' strengths."""
        for face in task.faces:
            if face.frame.new:  # another still may use the same track id for another person
                face.track.guard = GuardedTrack()
            face.track.guard.advance(face.time, self._limits_of(face.engine.name))
            self._weaken(face)
        corrections = list(task.device.shape(task.faces))
        for number, face in enumerate(task.faces):
            limits = self._limits_of(face.engine.name) if face.strength.seen else None
            if not limits or not face.track.guard.is_due(face.time):
                continue
            if self._compare(task, face, corrections[number], limits) and face.track.guard.kept < 1.0:
                face.state.reset()  # undoes the shaping of this frame
                self._weaken(face)
                (corrections[number],) = task.device.shape([face])
        self.weakened = 0
        for face in task.faces:
            face.track.note_guard(face.time)
            if face.track.guard.kept < 0.99 and face.strength.seen:
                self.weakened += 1
                if not face.frame.lead_in:
                    face.track.figures.note(face.time).guarded = True
        return corrections

    @staticmethod
    def _weaken(face: FaceTask) -> None:
        face.strength = face.strength.with_(guard=face.track.guard.kept)
        face.shaping = replace(face.shaping, strength=face.strength.applied)

    def _compare(self, task: FrameTask, face: FaceTask, correction: Correction, limits: Limits) -> bool:
        """Compares a face's input and output if the face is clear. Returns whether this was the first comparison."""
        guard = face.track.guard
        with self._stats.time("guard"):
            view = task.device.view(task.frame)
            matrix = chip_matrix(face.face)
            chip = view.crop(matrix, (SIDE, SIDE)) if fitness(face.face, view.width, view.height) > 0.0 else None
            if chip is None or not clear(chip):
                guard.due = face.time + _RETRY_S
                return False
            pixels, place = task.device.read(correction)
            changed = with_correction(chip, pixels, compose(matrix, invert(place)), guard.kept)
            original, corrected = self._embed(_blur(chip)), self._embed(_blur(changed))
            self._stats.count("guard_looks")
            return guard.learn(
                face.time, distance(original, corrected), limits, _RETRY_S if guard.drift is None else self._period
            )


def _blur(chip: Bytes) -> Bytes:
    return cast(Bytes, cv2.GaussianBlur(chip, (0, 0), BLUR))


def with_correction(chip: Bytes, pixels: Float32, matrix: Float, kept: float) -> Bytes:
    """Returns a chip with the full correction added, uint8 h×w×3.

    Args:
        chip: the input.
        pixels: the weakened correction, float32 h×w×3, 1 = white.
        matrix: pixels of the correction → pixels of the chip, 2×3; pixel corners are at integers.
        kept: ratio of `pixels` to the full correction, above 0.
    """
    correction: Any = pixels
    centred = matrix.copy()
    centred[:, 2] += (matrix[:, 0] + matrix[:, 1]) / 2 - 0.5
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 0.95:
        correction = cv2.GaussianBlur(correction, (0, 0), 0.42 * float(np.sqrt(1.0 / scale**2 - 1.0)))
    height, width = chip.shape[:2]
    change = cv2.warpAffine(correction, centred, (width, height), flags=cv2.INTER_LINEAR)
    return np.clip(np.rint(chip + change * np.float32(255.0 / kept)), 0, 255).astype(np.uint8)
