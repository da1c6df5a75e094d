"""Shapes an engine's answer into the correction that is added to the frame, for one face."""

from __future__ import annotations

import numpy as np

from rtface.correct.controls import CorrectionState, decide
from rtface.correct.eyes import irises
from rtface.correct.face_region import face_region_of
from rtface.correct.openings import Opening
from rtface.correct.shape_cpu import CpuShaper
from rtface.frame import Box, Float, Float32
from rtface.protocols import ShapingOptions


def shape_part(
    r: Float32,
    c: Float32,
    mask: Float32,
    state: CorrectionState,
    shaping: ShapingOptions,
    *,
    time: float,
    seed: int = 0,
    scale: float = 1.0,
    occlusion: Float32 | None = None,
    eyes: Float | None = None,
    openings: tuple[Opening, ...] = (),
) -> tuple[Float32, Float32, Box] | None:
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

    Returns:
        Where it is not 0 the masked correction, float32 h×w×3, the mask that it was multiplied with, h×w, and x0, y0,
        x1, y1 of that part of the crop. None where there is none, as with strength 0.

    Raises:
        EngineError: `r` holds NaN or infinity; `state` is reset.
    """
    size = int(c.shape[1])
    area = face_region_of(mask, size, irises(size) if eyes is None else eyes, scale, openings)
    if shaping.average:
        r = state.average.update(r, c, time, scale, None if area is None else area.box)
    if area is None or shaping.strength <= 0.0:
        return None
    pixels = CpuShaper(r, c, area, still=shaping.still)
    controls = decide(pixels.measure(shaping), area, state, shaping, time=time, seed=seed)
    part = pixels.apply(controls, mask, occlusion)
    if not shaping.keep:
        return part
    own = whole(part, size)
    shown = state.key.key(c, own, shaping.strength, time, scale, shaping.share)
    return part if shown is own else (*shown, (0, 0, size, size))


def whole(part: tuple[Float32, Float32, Box] | None, size: int) -> tuple[Float32, Float32]:
    """The correction S×S×3 and the mask S×S of a `shape_part`: 0 where there is none."""
    pixels, mask = np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.float32)
    if part is not None:
        x0, y0, x1, y1 = part[2]
        pixels[y0:y1, x0:x1], mask[y0:y1, x0:x1] = part[:2]
    return pixels, mask


def carried(
    c: Float32, state: CorrectionState, shaping: ShapingOptions, *, time: float, scale: float = 1.0
) -> tuple[Float32, Float32]:
    """The correction of a crop that no engine has seen: that of the last keyframe (`ShapingOptions.keep`), moved to it
    (`rtface.correct.reproject`). Arguments as for `shape_part`, answer as of `whole`; 0 where there is no keyframe."""
    if shaping.strength > 0.0 and state.key.ready(time):
        return state.key.carry(c, shaping.strength, time, scale)
    return whole(None, int(c.shape[1]))
