"""Crops through a plan: one by one, and with what is remembered of a face."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from rtface.engine.memory import Carrier, FaceMemory, Region, small_of
from rtface.engine.recipe import Recipe
from rtface.errors import EngineError
from rtface.frame import Float32

if TYPE_CHECKING:
    from rtface.engine.plan import Plan


def restore(recipe: Recipe, plan: Plan, crops: Float32) -> Float32:
    """Runs `crops` (float32 N×3×S×S, 0…1) one by one through `plan`; a new array, clipped to 0…1.

    Raises EngineError when the answer holds NaN or infinity.
    """
    result = np.empty(crops.shape, np.float32)
    low, high = recipe.input.range
    if (low, high) != (0.0, 1.0):
        crops = crops * np.float32(high - low) + np.float32(low)
    # One crop at a time: a larger batch gains nothing on a CPU (measured), and each size would be one more plan.
    for i in range(len(crops)):
        plan.run({recipe.input.name: np.require(crops[i:i + 1], requirements=["C", "W"])},
                 {recipe.output.name: result[i:i + 1]})
    low, high = recipe.output.range
    if (low, high) != (0.0, 1.0):
        result -= np.float32(low)
        result *= np.float32(1 / (high - low))
    return _checked(recipe, result)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a recurrent engine makes of one crop: float32 3×S×S, 0…1; what it remembers; and of an engine with heads
    `occlusion` (0…1) and `log_scale`, float32 S×S."""

    pixels: Float32
    memory: FaceMemory
    occlusion: Float32 | None = None
    log_scale: Float32 | None = None


def restore_next(recipe: Recipe, plan: Plan, crop: Float32, memory: FaceMemory | None, carrier: Carrier) -> Answer:
    """Runs a recurrent engine on one crop (float32 3×S×S, 0…1) of a face of which `memory` is known (None: nothing).

    Raises EngineError as `restore`.
    """
    ports = recipe.memory
    assert ports is not None
    small = small_of(crop)
    # What is not known may be anything: the crop is at hand, and finite.
    still, moved, known = crop, crop, np.zeros((2, *ports.maps), np.float32)
    if memory is not None:
        carried = carrier.carry(memory, small, ports.region, ports.maps)
        still, moved, known = memory.restored, carried.moved, carried.known
    restored = np.empty((1, *crop.shape), np.float32)
    inputs: dict[str, Float32] = {recipe.input.name: crop[None], ports.still: still[None], ports.moved: moved[None],
                                  ports.known: known[None]}
    outputs: dict[str, Float32] = {recipe.output.name: restored}
    if ports.shape:
        state = None if memory is None else memory.state
        inputs[ports.state] = np.zeros((1, *ports.shape), np.float32) if state is None else state[None]
        outputs[ports.next] = np.empty((1, *ports.shape), np.float32)
    heads = (ports.occlusion, ports.log_scale) if ports.heads else ()
    outputs |= {name: np.empty((1, 1, *ports.maps), np.float32) for name in heads}
    plan.run({name: np.require(value, requirements=["C", "W"]) for name, value in inputs.items()}, outputs)
    for name in outputs.keys() - {recipe.output.name}:
        _checked(recipe, outputs[name], clip=False)
    picture = _checked(recipe, restored)[0]
    # The caller may write into what it is given.
    kept = FaceMemory(picture.copy(), small, outputs[ports.next][0] if ports.shape else None)
    return Answer(picture, kept, *(spread(outputs[name][0, 0], recipe.input.size, ports.region) for name in heads))


def spread(values: Float32, size: int, region: Region | None) -> Float32:
    """A head's map over the whole crop, S×S; 0 outside the region."""
    x, y, w, h = region or (0, 0, size, size)
    out = np.zeros((size, size), np.float32)
    cv2.resize(values, (w, h), dst=out[y:y + h, x:x + w], interpolation=cv2.INTER_LINEAR)
    return out


def _checked(recipe: Recipe, result: Float32, *, clip: bool = True) -> Float32:
    if not math.isfinite(float(result.sum())):
        raise EngineError(f"engine {recipe.name}: the answer holds values that are not numbers")
    return np.clip(result, 0.0, 1.0, out=result) if clip else result
