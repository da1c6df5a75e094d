"""Everything between an engine's answer and the correction that is added to the frame, for one face."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import cv2
import numpy as np

from rtface.correct.colour import CELLS, ExposureCurve, cells_of, chroma_limit, lock_colour, low_frequencies
from rtface.correct.eyes import irises, keep_eye_colour
from rtface.correct.grain import GrainMatcher
from rtface.correct.mask import residual_gate, support_box
from rtface.correct.temporal import TemporalAverage
from rtface.frame import Float, Float32


@dataclass(frozen=True, slots=True)
class Shaping:
    """What the user asked for.

    Attributes:
        strength: 0…1 scales the correction; 0 is the identity.
        colour: "lock" keeps the picture's own low frequencies, give or take what nobody sees; "restore" lets one smooth
            curve a track in.
        grain: "match" brings the texture of the skin beside the face back; "none" leaves the engine's.
        average: take the gated average over time (for engines without a memory of their own).
        gate: fade out where engine and picture disagree about what is there.
    """

    strength: float = 1.0
    colour: Literal["lock", "restore"] = "lock"
    grain: Literal["match", "none"] = "match"
    average: bool = False
    gate: bool = True


@dataclass(slots=True)
class TrackState:
    """What is remembered of one track from frame to frame."""

    average: TemporalAverage = field(default_factory=TemporalAverage)
    curve: ExposureCurve = field(default_factory=ExposureCurve)
    grain: GrainMatcher = field(default_factory=GrainMatcher)
    gate: Float32 | None = None
    time: float = 0.0

    def reset(self) -> None:
        """Forgets everything: after a cut, a seek, a long gap."""
        self.average.reset()
        self.curve.reset()
        self.grain.reset()
        self.gate = None


_RELEASE = 0.25  # seconds in which a closed gate opens again; it closes at once


def shape(r: Float32, c: Float32, mask: Float32, state: TrackState, options: Shaping, *, time: float, seed: int = 0,
          scale: float = 1.0, occlusion: Float32 | None = None, eyes: Float | None = None,
          out: Float32 | None = None) -> tuple[Float32, Float32]:
    """Shapes one restored crop into the correction for `Device.composite`.

    Args:
        r: float32 3×S×S, what the engine made; not changed.
        c: float32 3×S×S, the crop it was made from; not changed.
        mask: float32 S×S, `face_mask(…)`.
        state: of the face's track, changed.
        options: what the user asked for.
        time: seconds, rising within a track.
        seed: any number that belongs to this track and frame (synthetic grain).
        scale: crop pixels per picture pixel, `sqrt(|det W|)`.
        occlusion: float32 S×S, 1 = something lies in front, from an engine that has such a head.
        eyes: `irises(…)`, whose colour is kept from turning; None for those of the alignment template.
        out: float32 S×S×3 to write the correction into; a new array without.

    Returns:
        The masked correction, float32 S×S×3 (0 where the mask is), and the mask that it was multiplied with, S×S.
        With strength 0 both are 0.
    """
    size = int(r.shape[1])
    if out is None:
        out = np.zeros((size, size, 3), np.float32)
    else:
        out[...] = 0.0
    box = support_box(mask)
    if options.average:
        r = state.average.update(r, c, time, scale, box)
    if box is None or options.strength <= 0.0:
        return out, np.zeros((size, size), np.float32)
    d: Any = cv2.subtract(r, c)
    cells = cells_of(d)
    weight: Any = cv2.resize(mask, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    gate = _gate(cells, weight, state, time) if options.gate else None
    low = low_frequencies(cells)
    if options.colour == "restore":
        low_c = low_frequencies(c)
        small: Any = cv2.resize(weight, (low.shape[2], low.shape[1]), interpolation=cv2.INTER_AREA)
        gain, offset = state.curve.update(low_c, low + low_c, small, time)
        lock_colour(d, low, box, luma=0.0, chroma=0.0)
        _apply_curve(d, c, gain, offset, box)
    else:
        lock_colour(d, low, box, chroma=chroma_limit(c))
    keep_eye_colour(d, c, irises(size) if eyes is None else eyes)
    if options.grain == "match":
        state.grain.add(d, c, mask, box, time=time, seed=seed, scale=scale)
    state.time = time

    x0, y0, x1, y1 = box
    final = mask.copy()
    inner = final[y0:y1, x0:x1]
    if gate is not None:
        full: Any = cv2.resize(gate, (size, size), interpolation=cv2.INTER_LINEAR)
        inner *= full[y0:y1, x0:x1]
    if occlusion is not None:
        inner *= np.float32(1.0) - np.clip(occlusion[y0:y1, x0:x1], 0.0, 1.0)
    planes = [cv2.multiply(plane[y0:y1, x0:x1], inner, scale=options.strength) for plane in d]
    out[y0:y1, x0:x1] = cv2.merge(planes)
    return out, final


def _gate(cells: Float32, weight: Float32, state: TrackState, time: float) -> Float32 | None:
    """The residual gate, closing at once and opening slowly; None where it is open everywhere."""
    gate = residual_gate(cells, weight)
    before = state.gate
    if before is not None:
        step = np.float32(max(time - state.time, 0.0) / _RELEASE)
        np.minimum(gate, before + step, out=gate)
    state.gate = gate
    return None if float(gate.min()) >= 1.0 else gate


def _apply_curve(d: Float32, c: Float32, gain: Any, offset: Any, box: tuple[int, int, int, int]) -> None:
    """d += gain·c + offset − c in the box."""
    x0, y0, x1, y1 = box
    for k in range(3):
        target = d[k, y0:y1, x0:x1]
        target += c[k, y0:y1, x0:x1] * np.float32(gain[k] - 1.0) + np.float32(offset[k])
