"""Decides the treatment of a face: whether and how strongly to correct it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rtface.analysis.measure import Analysis, ramp
from rtface.analysis.patch import SMALLEST_FACE
from rtface.analysis.verdict import UNCHANGED, faults_of

# Hysteresis: gain from which a face is treated, and below which treatment ends. A smaller gain is invisible.
_ON_DB, _OFF_DB = 0.06, 0.03
# Gain below which the first stage is not used, and from which it is fully used.
_FIRST_GAIN_DB = (0.04, 0.15)
_ROUNDING_ERROR = 0.1  # error of rounding to 8 bits, in squared code values
# Coefficients of `features`, fitted by engines/training/loop/fit_strength.py: _STRENGTH for the engine's strength,
# _FIRST for that of the first stage, _GAIN for the engine's gain (factors of its strength; the last one is of its
# square).
_STRENGTH = (0.1175, 0.4528, 0.3815, 0.0537, -0.1697, 0.2318, 0.5333, -0.2733, 0.4230, -0.3502, -0.0090)
_GAIN = (0.3405, -0.0315, 0.5406, -0.0390, -0.0961, -0.3687, 0.2841, 0.0041, -0.0721, 0.2516, -0.2093, 0.2126)
_FIRST = (0.5603, 0.0589, 0.3138, -0.0206, -0.1688, 0.0399, 0.2512, 0.3075, 0.2798, -0.0438, -0.3639)
# Expected squared errors in code values, and log2 of steps: up to the first, nothing is corrected; from the second on,
# everything.
_SURE_ERROR, _SURE_STEP = (20.0, 50.0), (1.6, 3.2)
_ENLARGED = (0.15, 0.4)  # low-resolution scores below which detail is complete, and from which it is all missing
# log2 of the codec's step, and expected squared error in code values: up to the first value, a face has its own detail;
# from the second on, it lacks all that a look may add. H.264 has steps of 7 to 13 and errors of 16 to 34 at crf 22, and
# steps of 15 to 25 and errors of 29 to 53 at crf 27.
_DETAIL_STEP, _DETAIL_ERROR = (3.75, 4.25), (32.0, 45.0)
_ENGINE_FACE_PX = 128.0  # width up to which an engine adds detail to an enlarged face
# Grain is preserved, and with it most of a noisy face's error. _NOISY are values of 1 minus the noise score: up to the
# first, only `_NOISY_GAIN_SHARE` of the expected gain is reached; from the second on, all of it.
_NOISY, _NOISY_GAIN_SHARE = (0.1, 0.42), 0.12
MAX_STRENGTH = 1.5
"""The largest predicted strength of an engine's correction."""
INSIDE = 0.5
"""Factor of the first stage's strength in a face: the engine gives better results if some artefacts are left."""
# The first stage corrects colour more strongly than luma by this factor, because coding leaves more error in colour.
_COLOUR_FACTOR = 1.6
# Factors of the first stage's strength at the first and the second log2 of steps. Fine steps have a lower factor,
# because they leave detail that the network mistakes for errors.
_STEP_FACTORS, _STEPS = (0.55, 1.25), (2.4, 4.9)


@dataclass(frozen=True, slots=True)
class Treatment:
    """Describes the treatment of one face.

    Attributes:
        on: False leaves the face bit-identical.
        strength: factor of the run's strength, for the engine's correction: 0…1, or up to `MAX_STRENGTH` if predicted.
        reasons: the reasons, each a short phrase.
        first, ring: strengths of the first stage (`rtface.enhance.coded_stage`) in the face and round it, 0…1.
        gain: expected gain of both corrections in the face, dB of PSNR; None if not predicted.
        detail: share of the look's detail, 0…1 (`rtface.correct.detail`): 0 for a face with its own detail.
        hidden: whether the face is left alone because it was hidden on purpose; then there is no fade.
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
        """Strengths: engine, first stage in the face, and round it; 0 when off."""
        return (self.strength, self.first, self.ring) if self.on else (0.0, 0.0, 0.0)


FORCED = {
    "always": Treatment(True, 1.0, ("always asked for",)),
    "never": Treatment(False, 0.0, ("never asked for",)),
}
"""The treatments of ``--correct always`` and ``never``."""
HIDDEN = Treatment(False, 0.0, ("hidden on purpose",), hidden=True)
"""The treatment of a face that was hidden on purpose by a blur or a mosaic."""


def choose_treatment(analysis: Analysis, face_width: float, *, on: bool = False) -> Treatment:
    """Decides whether and how strongly to correct a face, by expected gain.

    Args:
        analysis: the degradation of the face.
        face_width: display pixels.
        on: whether the face is treated already; treatment then ends only at a lower gain (hysteresis).
    """
    if face_width < SMALLEST_FACE:
        return Treatment(False, 0.0, (f"too small ({face_width:.0f} px)",))
    strength, gain = predicted(analysis, face_width)
    first, ring = first_strengths(analysis, face_width)
    if gain < (_OFF_DB if on else _ON_DB):
        return Treatment(False, 0.0, ("nothing to gain",), gain=round(gain, 2))
    reasons = tuple(f"{name} {score:.2f}" for name, score in faults_of(analysis.scores()) if name not in UNCHANGED)
    # A face lacks the look's detail if it was enlarged or is out of focus, if the codec's step is coarse, or if a large
    # error is expected. After coding with a fine step it has its own detail, and more would harm it.
    coarse = ramp(math.log2(analysis.step), *_DETAIL_STEP) if analysis.step > 0.0 else 0.0
    lacking = _lacking(analysis, _enlargement(analysis, face_width))
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
    """Returns the inputs for predicting strength and gain, each about −2…2."""
    has_step = float(analysis.step > 0.0)
    step = has_step * (math.log2(max(analysis.step, 0.1)) - 3.0) / 2
    return (
        1.0,
        math.log(analysis.remaining + _ROUNDING_ERROR) / 2 - 1.0,
        gain_of(analysis.error, analysis.remaining),
        has_step - 0.5,
        step,
        math.log(face_width / 100.0),
        analysis.low_resolution,
        analysis.noise,
        analysis.compression,
        analysis.motion_blur,
        math.log(max(analysis.detail, 5.0) / face_width),
    )


def predicted(analysis: Analysis, face_width: float) -> tuple[float, float]:
    """Predicts the engine's best strength, and the gain in dB. The gain includes that of the first stage."""
    if analysis.error <= 0.0:
        return 0.0, 0.0
    inputs = features(analysis, face_width)
    strength = _certainty(analysis) * min(MAX_STRENGTH, max(0.0, _dot(_STRENGTH, inputs)))
    lacking = _lacking(analysis, _enlargement(analysis, face_width))
    strength += max(share * (1.0 - strength) for share in (lacking, _lacking(analysis)))
    gain = strength * (_dot(_GAIN[:-1], inputs) + strength * _GAIN[-1])
    first, _ = first_strengths(analysis, face_width)
    error_after = analysis.error + (first * first - 2 * first) * (analysis.error - analysis.remaining)
    reached_share = (
        max(_certainty(analysis), lacking)
        * (1.0 - analysis.unreached)
        * max(_NOISY_GAIN_SHARE, ramp(1.0 - analysis.noise, *_NOISY))
    )
    return strength, reached_share * (max(0.0, gain) + gain_of(analysis.error, error_after))


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def of_colours(strength: float, maximum: float) -> float:
    """Returns the first stage's strength for colour, from that for luma. Exceeds the latter only up to `maximum`."""
    return max(strength, min(_COLOUR_FACTOR * strength, maximum))


def gain_of(before: float, after: float) -> float:
    """Returns the gain in PSNR (dB) between two expected squared errors. Adds the rounding error to both."""
    return 10 * math.log10((before + _ROUNDING_ERROR) / (after + _ROUNDING_ERROR))


def expected_share(before: float, after: float) -> float:
    """Returns the factor for the first stage, 0…1. `before` and `after` are expected squared errors."""
    return ramp(gain_of(before, after), *_FIRST_GAIN_DB)


def first_strengths(analysis: Analysis, face_width: float) -> tuple[float, float]:
    """Returns the first stage's best strengths in the face and round it."""
    around = replace(analysis, error=analysis.ring_error, remaining=analysis.ring_remaining)
    inside, outside = (_first_stage(part, face_width) for part in (analysis, around))
    return INSIDE * inside * (1.0 - _lacking(analysis)), outside


def _first_stage(analysis: Analysis, face_width: float) -> float:
    """Returns the first stage's best strength, 0…1. It is 0 if almost no gain is expected."""
    expected = expected_share(analysis.error, analysis.remaining)
    if not expected:
        return 0.0
    strength = expected * _certainty(analysis) * min(1.0, max(0.0, _dot(_FIRST, features(analysis, face_width))))
    if analysis.step > 0.0:
        fine, coarse = _STEP_FACTORS
        strength *= fine + (coarse - fine) * ramp(math.log2(analysis.step), *_STEPS)
    return min(1.0, strength)


def _enlargement(analysis: Analysis, face_width: float) -> float:
    """Returns how far a face is enlarged, while an engine adds detail."""
    return min(analysis.shown, max(1.0, _ENGINE_FACE_PX / face_width))


def _lacking(analysis: Analysis, larger: float = 1.0) -> float:
    """Returns how far an enlarged face lacks detail, 0…1. The last coding does not matter, because the face may
    have been coded at a smaller size before. The engine gives better results on such a face without the first stage."""
    unblurred = 1.0 - analysis.motion_blur
    return ramp(unblurred - (unblurred - analysis.low_resolution) / larger, *_ENLARGED)


def _certainty(analysis: Analysis) -> float:
    """Returns how certain it is that there are errors, 0…1. It depends on the codec's step, or on the expected
    error if the step is unknown."""
    return ramp(math.log2(analysis.step), *_SURE_STEP) if analysis.step > 0.0 else ramp(analysis.error, *_SURE_ERROR)
