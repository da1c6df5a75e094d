"""The treatment of a face: whether and how strongly it is corrected."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rtface.analysis.measure import Analysis, ramp
from rtface.analysis.patch import SMALLEST_FACE
from rtface.analysis.verdict import UNCHANGED, faults_of

# Gain in dB from which on a face is treated, and below which a treated one is let go. Less cannot be seen.
_ON, _OFF = 0.06, 0.03
# Of the first stage: gain in dB below which there is none of it, and from which on there is all.
_WORTH = (0.04, 0.15)
_FLOOR = 0.1  # squared code values: what rounding to 8 bits costs
_STRENGTH = (0.1175, 0.4528, 0.3815, 0.0537, -0.1697, 0.2318, 0.5333, -0.2733, 0.4230, -0.3502, -0.0090)
_GAIN = (0.3405, -0.0315, 0.5406, -0.0390, -0.0961, -0.3687, 0.2841, 0.0041, -0.0721, 0.2516, -0.2093, 0.2126)
_FIRST = (0.5603, 0.0589, 0.3138, -0.0206, -0.1688, 0.0399, 0.2512, 0.3075, 0.2798, -0.0438, -0.3639)
# Coefficients of `features`, fitted by engines/training/loop/fit_strength.py: of the engine's strength; of its gain,
# times the strength, and the last one of the strength's square; of the strength of the first stage.
# Expected squared errors in code values, and log2 of steps, below which nothing and from which on all is done.
_DOUBT, _FINE = (20.0, 50.0), (1.6, 3.2)
_ENLARGED = (0.15, 0.4)  # scores of low resolution below which this changes nothing, and from which on it asks for all
_DETAIL_STEP, _DETAIL_ERROR = (3.75, 4.25), (32.0, 45.0)
# log2 of the codec's step, and expected squared error in code values, up to which a face has its detail, and from which
# on it lacks all that a look may add. H.264: at crf 22 steps of 7 to 13 and errors of 16 to 34, at crf 27 15 to 25 and
# 29 to 53.
_ENGINE_FACE = 128.0  # width in pixels up to which an engine adds detail to a face that is made larger
_NOISY, _NOISY_GAIN_SHARE = (0.1, 0.42), 0.12
# Grain is kept, and so is most of a noisy face's error: 1 less the score of noise up to which next to nothing of the
# expected gain is reached (`_NOISY_GAIN_SHARE`), and from which on all.
MAX_STRENGTH = 1.5
"""The largest predicted strength of an engine's correction."""
INSIDE = 0.5
"""Share of the first stage's strength in a face: the engine does better with the rest still there."""
_COLOURS = 1.6
# How many times as strongly as the luma the first stage corrects what is not luma: coding leaves more error there.
_LUMA, _COARSE = (0.55, 1.25), (2.4, 4.9)
# Of the first stage: what its strength is multiplied with up to the first log2 of steps, and from the second one on.
# Where a fine step leaves detail, the network takes some of it for an error.


@dataclass(frozen=True, slots=True)
class Treatment:
    """The treatment of one face.

    Attributes:
        on: False leaves the face as it is, bit for bit.
        strength: of the engine's correction, multiplies the run's own; 0…1; where predicted, up to `MAX_STRENGTH`.
        reasons: why, one short phrase each.
        first, ring: strength of the first stage (`rtface.enhance.coded_stage`) in the face and round it, 0…1; both
            multiply the run's own.
        gain: what is expected of both in the face, dB of PSNR; None where that was not predicted.
        detail: share of the look's detail, 0…1 (`rtface.correct.detail`): none on a face that has its own.
        hidden: whether it is off because somebody hid the face; it then is at once, without a fade.
    """

    on: bool
    strength: float = 1.0
    reasons: tuple[str, ...] = ()
    first: float = 0.0
    ring: float = 0.0
    gain: float | None = None
    detail: float = 1.0
    hidden: bool = False

    @property
    def applied(self) -> tuple[float, float, float]:
        """The strengths of the engine's correction and of the first stage in the face and round it; 0 when off."""
        return (self.strength, self.first, self.ring) if self.on else (0.0, 0.0, 0.0)


FORCED = {
    "always": Treatment(True, 1.0, ("always asked for",)),
    "never": Treatment(False, 0.0, ("never asked for",)),
}
"""The treatments of ``--correct always`` and ``never``."""
HIDDEN = Treatment(False, 0.0, ("hidden on purpose",), hidden=True)
"""The treatment of a face that somebody has hidden by a blur or a mosaic."""


def choose_treatment(analysis: Analysis, face_width: float, *, on: bool = False) -> Treatment:
    """Decides whether a face is corrected, and how much, by what the correction is expected to gain.

    Args:
        analysis: what is wrong with it.
        face_width: display pixels.
        on: whether it is being treated already: it is then let go at a lower gain (hysteresis).
    """
    if face_width < SMALLEST_FACE:
        return Treatment(False, 0.0, (f"too small ({face_width:.0f} px)",))
    strength, gain = predicted(analysis, face_width)
    first, ring = first_strengths(analysis, face_width)
    if gain < (_OFF if on else _ON):
        return Treatment(False, 0.0, ("nothing to gain",), gain=round(gain, 2))
    reasons = tuple(f"{name} {score:.2f}" for name, score in faults_of(analysis.scores()) if name not in UNCHANGED)
    # A face lacks the look's detail where it was enlarged or is out of focus, by the codec's step where that is known,
    # and by the expected error. A fine step's picture has its detail, and would lose by more.
    coarse = ramp(math.log2(analysis.step), *_DETAIL_STEP) if analysis.step > 0.0 else 0.0
    lacking = _lacking(analysis, _made_larger(analysis, face_width))
    return Treatment(
        True,
        round(strength, 3),
        reasons,
        first=round(first, 3),
        ring=round(ring, 3),
        gain=round(gain, 2),
        detail=round(max(_lacking(analysis), lacking, coarse, ramp(analysis.error, *_DETAIL_ERROR)), 3),
    )


def features(analysis: Analysis, face_width: float) -> tuple[float, ...]:
    """What strength and gain are predicted from, each about −2…2."""
    known = float(analysis.step > 0.0)
    step = known * (math.log2(max(analysis.step, 0.1)) - 3.0) / 2
    return (
        1.0,
        math.log(analysis.remaining + _FLOOR) / 2 - 1.0,
        gain_of(analysis.error, analysis.remaining),
        known - 0.5,
        step,
        math.log(face_width / 100.0),
        analysis.low_resolution,
        analysis.noise,
        analysis.compression,
        analysis.motion_blur,
        math.log(max(analysis.detail, 5.0) / face_width),
    )


def predicted(analysis: Analysis, face_width: float) -> tuple[float, float]:
    """The strength of the engine's correction that helps most, and the gain in dB of that and the first stage."""
    if analysis.error <= 0.0:
        return 0.0, 0.0
    known = features(analysis, face_width)
    strength = _certainty(analysis) * min(MAX_STRENGTH, max(0.0, _dot(_STRENGTH, known)))
    lacking = _lacking(analysis, _made_larger(analysis, face_width))
    strength += max(share * (1.0 - strength) for share in (lacking, _lacking(analysis)))
    gain = strength * (_dot(_GAIN[:-1], known) + strength * _GAIN[-1])
    first, _ = first_strengths(analysis, face_width)
    left = analysis.error + (first * first - 2 * first) * (analysis.error - analysis.remaining)
    reached = (
        max(_certainty(analysis), lacking)
        * (1.0 - analysis.unreached)
        * max(_NOISY_GAIN_SHARE, ramp(1.0 - analysis.noise, *_NOISY))
    )
    return strength, reached * (max(0.0, gain) + gain_of(analysis.error, left))


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def of_colours(strength: float, most: float) -> float:
    """The strength of the first stage for what is not luma, by that for the luma; `most` unless that is larger."""
    return max(strength, min(_COLOURS * strength, most))


def gain_of(before: float, after: float) -> float:
    """dB of PSNR between two expected squared errors, which a rounding to code values is added to."""
    return 10 * math.log10((before + _FLOOR) / (after + _FLOOR))


def expected_share(before: float, after: float) -> float:
    """Share of the first stage that is done, 0…1, by the squared errors that are expected before and after it."""
    return ramp(gain_of(before, after), *_WORTH)


def first_strengths(analysis: Analysis, face_width: float) -> tuple[float, float]:
    """The strengths of the first stage that help most in the face and round it, 0…1."""
    around = replace(analysis, error=analysis.ring_error, remaining=analysis.ring_remaining)
    inside, outside = (_first_stage(part, face_width) for part in (analysis, around))
    return INSIDE * inside * (1.0 - _lacking(analysis)), outside


def _first_stage(analysis: Analysis, face_width: float) -> float:
    """The strength of the first stage that helps most, 0…1; 0 where next to nothing is expected of it."""
    expected = expected_share(analysis.error, analysis.remaining)
    if not expected:
        return 0.0
    strength = expected * _certainty(analysis) * min(1.0, max(0.0, _dot(_FIRST, features(analysis, face_width))))
    if analysis.step > 0.0:
        fine, coarse = _LUMA
        strength *= fine + (coarse - fine) * ramp(math.log2(analysis.step), *_COARSE)
    return min(1.0, strength)


def _made_larger(analysis: Analysis, face_width: float) -> float:
    """How many times larger a face is made, as far as an engine adds detail to it."""
    return min(analysis.shown, max(1.0, _ENGINE_FACE / face_width))


def _lacking(analysis: Analysis, larger: float = 1.0) -> float:
    """How far a face lacks detail that is made so much larger, 0…1, whatever the last coding says: it may have been
    coded at a smaller size before. The engine alone does better then than after the first stage."""
    there = 1.0 - analysis.motion_blur
    return ramp(there - (there - analysis.low_resolution) / larger, *_ENLARGED)


def _certainty(analysis: Analysis) -> float:
    """Share of a strength that a picture with little error gets, which may be one without any: by the codec's step, or
    where that is unknown by the expected error."""
    return ramp(math.log2(analysis.step), *_FINE) if analysis.step > 0.0 else ramp(analysis.error, *_DOUBT)
