"""Shapes an engine's answer into the correction that is added to the frame, for one face."""

from __future__ import annotations

import numpy as np

from rtface.correct.controls import CorrectionState, decide
from rtface.correct.eyes import irises
from rtface.correct.face_region import face_region_of
from rtface.correct.openings import Opening
from rtface.correct.shape_cpu import CpuShaper
from rtface.frame import Float, Float32
from rtface.protocols import ShapingOptions


def shape(r: Float32, c: Float32, mask: Float32, state: CorrectionState, shaping: ShapingOptions, *, time: float,
          seed: int = 0, scale: float = 1.0, occlusion: Float32 | None = None, eyes: Float | None = None,
          openings: tuple[Opening, ...] = (), out: Float32 | None = None) -> tuple[Float32, Float32]:
    """Shapes one restored crop into the correction for `Device.paste`: measures, decides and applies on the CPU.

    Args:
        r: float32 3×S×S, what the engine made; not changed.
        c: float32 3×S×S, the crop it was made from; not changed, and with `ShapingOptions.keep` kept.
        mask: float32 S×S, `face_mask(…)`.
        state: of the face's track, changed.
        shaping: what the user asked for, strength included.
        time: seconds, rising within a track.
        seed: any number that belongs to this track and frame (synthetic grain).
        scale: crop pixels per image pixel, `sqrt(|det W|)`.
        occlusion: float32 S×S, 1 = something lies in front, from an engine that has such a head.
        eyes: `irises(…)`, whose colour is kept from turning; None for those of the alignment template.
        openings: `openings_of(…)`, eyes and mouth, which limit the correction; empty for no such limit.
        out: float32 S×S×3 to write the correction into; a new array without.

    Returns:
        The masked correction, float32 S×S×3 (0 where the mask is), and the mask that it was multiplied with, S×S.
        With strength 0 both are 0.

    Raises:
        EngineError: `r` holds NaN or infinity; `state` is reset.
    """
    size = int(c.shape[1])
    if out is None:
        out = np.zeros((size, size, 3), np.float32)
    else:
        out[...] = 0.0
    area = face_region_of(mask, size, irises(size) if eyes is None else eyes, scale, openings)
    if shaping.average:
        r = state.average.update(r, c, time, scale, None if area is None else area.box)
    if area is None or shaping.strength <= 0.0:
        return out, np.zeros((size, size), np.float32)
    pixels = CpuShaper(r, c, area)
    controls = decide(pixels.measure(shaping), area, state, shaping, time=time, seed=seed)
    shaped = pixels.apply(controls, mask, occlusion, out)
    if shaping.keep:
        shaped = state.key.key(c, shaped, shaping.strength, time, scale, shaping.share)
    return shaped


def carried(c: Float32, state: CorrectionState, shaping: ShapingOptions, *, time: float,
            scale: float = 1.0) -> tuple[Float32, Float32]:
    """The correction of a crop that no engine has seen: that of the last keyframe (`ShapingOptions.keep`), moved to it
    (`rtface.correct.reproject`). Arguments and answer as for `shape`; 0 where there is no keyframe."""
    if shaping.strength > 0.0 and state.key.ready(time):
        return state.key.carry(c, shaping.strength, time, scale)
    size = int(c.shape[1])
    return np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.float32)
