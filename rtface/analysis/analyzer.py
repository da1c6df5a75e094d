"""What is wrong with a face, and what to do about it, track by track and over time."""

from __future__ import annotations

import cmath
import math
from collections import deque
from dataclasses import fields, replace
from typing import Any, cast

import numpy as np

from rtface.analysis.measure import SCORES, Analysis, measure
from rtface.analysis.patch import patch_of_crop, patch_of_view
from rtface.analysis.treatment import Treatment, choose_treatment, read_treatments, treatments_table, write_treatments
from rtface.frame import Bytes, Face, Float32
from rtface.protocols import View

__all__ = ["SCORES", "Analysis", "Analyzer", "Treatment", "analyze_crop", "analyze_face", "choose_treatment",
           "read_treatments", "treatments_table", "write_treatments"]

_FIELDS = tuple(f.name for f in fields(cast(Any, Analysis)))


def analyze_crop(crop: Float32 | Bytes, face_width: float) -> Analysis:
    """Analyses an aligned crop.

    Args:
        crop: RGB on the FFHQ template, float32 3×S×S 0…1 or uint8 S×S×3.
        face_width: of the face in the picture that the crop was cut from, pixels.

    A face too small to say anything about reads as clean. Compression and pixelation need the picture's own grid and
    read too low here unless the crop was cut upright at scale 1: use `analyze_face` where the picture is at hand.
    """
    patch = patch_of_crop(crop, face_width)
    return measure(*patch) if patch else Analysis()


def analyze_face(view: View, face: Face) -> Analysis:
    """Analyses a face in its picture, on the picture's own grid. Too small a face reads as clean."""
    patch = patch_of_view(view, face)
    return measure(*patch) if patch else Analysis()


class Analyzer:
    """One track's analysis over time and the treatment that follows; it never changes from one frame to the next.

    A measurement is made on the first pictures and then on every `every`-th; the treatment follows the median of the
    last five, with hysteresis, and what is applied (`amount`) moves to it over `ramp_s` seconds. Only the first
    picture of a track decides at once, because nothing was shown before it.

    Attributes:
        treatment: what is decided now.
        amount: strength to apply to the picture just seen, 0…1; 0 means that the face stays bit for bit.
    """

    def __init__(self, *, every: int = 12, ramp_s: float = 0.5, exposure: bool = False,
                 forced: Treatment | None = None) -> None:
        """`exposure`: see `choose_treatment`; `forced`: a person's decision, analysed but not overruled."""
        self._every, self._ramp_s, self._exposure, self._forced = every, ramp_s, exposure, forced
        self._recent: deque[tuple[float, ...]] = deque(maxlen=5)
        self._sums = np.zeros(len(_FIELDS))
        self._axis = 0j
        self._measured = 0
        self._seen = 0
        self._time = 0.0
        self.treatment = forced or Treatment(False)
        self.amount = 0.0

    @property
    def analysis(self) -> Analysis:
        """Mean over the whole track; the motion's angle is the mean axis, weighted by its blur."""
        mean = Analysis(*(self._sums / max(1, self._measured)).tolist())
        return replace(mean, motion_angle=math.degrees(cmath.phase(self._axis)) / 2 % 180.0)

    def update(self, crop: Float32 | Bytes | None, face: Face, time: float, *, view: View | None = None) -> float:
        """Takes one picture of the track; returns `amount`.

        Args:
            crop: as `analyze_crop` takes it; None where `view` is given.
            face: the face on this picture.
            time: seconds, rising.
            view: the picture; more exact than the crop (see `analyze_crop`).
        """
        if self._seen < 3 or self._seen % self._every == 0:
            if view is not None:
                self._learn(analyze_face(view, face), face.width)
            elif crop is not None:
                self._learn(analyze_crop(crop, face.width), face.width)
        target = self.treatment.amount
        if self._seen == 0:
            self.amount = target
        else:
            step = max(0.0, time - self._time) / self._ramp_s
            self.amount = min(target, self.amount + step) if target > self.amount else max(target, self.amount - step)
        self._time = time
        self._seen += 1
        return self.amount

    def go_on(self, later: Analyzer) -> None:
        """Adds what was measured of the same track in the next piece of the film; the later treatment holds."""
        self._sums += later._sums
        self._axis += later._axis
        self._measured += later._measured
        self.treatment, self.amount = later.treatment, later.amount

    def _learn(self, found: Analysis, width: float) -> None:
        values = tuple(getattr(found, name) for name in _FIELDS)
        self._recent.append(values)
        self._sums += values
        self._axis += found.motion_blur * cmath.exp(2j * math.radians(found.motion_angle))
        self._measured += 1
        if self._forced is None:
            now = Analysis(*np.median(np.array(self._recent), axis=0).tolist())
            # Without hysteresis while little is known: the first picture of a film is often its worst.
            settled = len(self._recent) == self._recent.maxlen
            self.treatment = choose_treatment(now, width, on=settled and self.treatment.on, exposure=self._exposure)
