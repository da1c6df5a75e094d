"""Runs crops through a plan, with the state of recurrent engines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np

from rtface.engine.plan import Plan
from rtface.engine.recipe import Recipe
from rtface.engine.recipe_tables import CropRegion
from rtface.errors import EngineError
from rtface.frame import Float32
from rtface.protocols import Restored


@dataclass(frozen=True, slots=True)
class FaceMemory:
    """The state of a recurrent engine for one face after a frame.

    Attributes:
        kept: the engine's answer for its input region, reduced to the memory's grid: float32 3×h×w, 0…1.
        state: the network's internal state, float32 C×h'×w'; None if the network has none.
    """

    kept: Float32
    state: Float32 | None = None


class CropRunner:
    """Runs crops through a plan. Not thread-safe."""

    def __init__(self, recipe: Recipe, plan: Plan) -> None:
        self.recipe, self.plan = recipe, plan
        # New buffers for every crop would cost up to a tenth of the network's time.
        *_, w, h = recipe.region
        self._input, self._output = np.empty((2, 1, 3, h, w), np.float32)
        self._constants = {name: np.full((1, 1), value, np.float32) for name, value in recipe.constants.items()}

    def restore(self, crops: Float32, before: Restored[Float32] | None = None) -> Restored[Float32]:
        """Restores crops one by one.

        Args:
            crops: the crops, float32 N×3×S×S, 0…1.
            before: the answer for the same faces' previous crops, for a recurrent engine; None for new faces.

        Returns:
            New arrays, clipped to 0…1; `state` is one `FaceMemory` per crop, or None for a stateless engine.

        Raises:
            EngineError: an answer contains NaN or infinity.
        """
        # One crop at a time: larger batches are no faster on a CPU (measured), and each size would need another plan.
        if not self.recipe.recurrent:
            return Restored(_stack([self._infer(crop, {}, {}) for crop in crops]))
        memories = cast("list[FaceMemory]", before.state) if before is not None and before.state else []
        if len(memories) != len(crops):
            return self._join([self._restore_next(crop, None) for crop in crops])
        return self._join([self._restore_next(crop, memory) for crop, memory in zip(crops, memories, strict=True)])

    @staticmethod
    def _join(results: list[tuple[Float32, FaceMemory, Float32 | None, Float32 | None]]) -> Restored[Float32]:
        pixels, memories, *heads = zip(*results, strict=True)
        maps = [[m for m in head if m is not None] for head in heads]
        return Restored(_stack(pixels), [*memories], *(_stack(head) if head else None for head in maps))

    def _infer(self, crop: Float32, inputs: Mapping[str, Float32], outputs: Mapping[str, Float32]) -> Float32:
        """Restores one crop (float32 3×S×S, 0…1) to a new array. `inputs` and `outputs` are additional tensors."""
        recipe, input_, output = self.recipe, self._input, self._output
        x, y, w, h = recipe.region
        part = crop[None, :, y : y + h, x : x + w]
        low, high = recipe.input.range
        np.copyto(input_, part)
        if (low, high) != (0.0, 1.0):
            input_ *= np.float32(high - low)
            input_ += np.float32(low)
        arrays = {name: np.require(value, requirements=["C", "W"]) for name, value in inputs.items()} | self._constants
        self.plan.run({recipe.input.name: input_, **arrays}, {recipe.output.name: output, **outputs})
        with np.errstate(invalid="ignore", over="ignore"):  # the check below raises EngineError instead
            total = sum(float(np.add.reduce(values, None)) for values in (output, *outputs.values()))
        if not math.isfinite(total):
            raise EngineError(
                "engine {name}: the answer contains values that are not numbers",
                code="answer_not_finite",
                name=recipe.name,
            )
        low, high = recipe.output.range
        if (low, high) != (0.0, 1.0):
            output -= np.float32(low)
            output *= np.float32(1 / (high - low))
        if recipe.output.residual:
            output += part
        image = crop.copy() if recipe.input.region else np.empty_like(crop)
        np.clip(output[0], 0.0, 1.0, out=image[:, y : y + h, x : x + w])
        return image

    def _restore_next(
        self, crop: Float32, memory: FaceMemory | None
    ) -> tuple[Float32, FaceMemory, Float32 | None, Float32 | None]:
        """Restores one crop (float32 3×S×S) with a recurrent engine. `memory` is None for a new face.

        Returns:
            The restored crop and the memory for the next one. For an engine with heads, also the occlusion (S×S, 0…1)
            and the log of the error's scale (rows×columns over the engine's region).
        """
        recipe, ports = self.recipe, self.recipe.memory
        assert ports is not None
        k = recipe.shrink
        x, y, w, h = (v // k for v in recipe.region)
        # For a new face, the network ignores the values of `past`, which must nevertheless be finite.
        past = np.zeros((1, 3, h, w), np.float32) if memory is None else memory.kept[None]
        has_past = np.full((1, 1, 1, 1), memory is not None, np.float32)
        inputs: dict[str, Float32] = {ports.past: past, ports.known: has_past}
        heads = (ports.occlusion, ports.log_scale) if ports.heads else ()
        outputs: dict[str, Float32] = {name: np.empty((1, 1, *ports.maps), np.float32) for name in heads}
        if ports.shape:
            state = None if memory is None else memory.state
            inputs[ports.state] = np.zeros((1, *ports.shape), np.float32) if state is None else state[None]
            outputs[ports.next] = np.empty((1, *ports.shape), np.float32)
        if k > 1:
            inputs[ports.shrunk] = shrunk(crop, recipe.region, k)[None]
            outputs[ports.kept] = np.empty((1, 3, h, w), np.float32)
        image = self._infer(crop, inputs, outputs)
        if k > 1:
            kept = outputs[ports.kept][0]
            if recipe.output.residual:
                kept += inputs[ports.shrunk][0]
            np.clip(kept, 0.0, 1.0, out=kept)
        else:  # copies the answer, because the caller may write into the image
            kept = image[:, y : y + h, x : x + w].copy()
        next_memory = FaceMemory(kept, outputs[ports.next][0] if ports.shape else None)
        if not ports.heads:
            return image, next_memory, None, None
        occlusion = spread(outputs[ports.occlusion][0, 0], recipe.input.size, recipe.region)
        return image, next_memory, occlusion, outputs[ports.log_scale][0, 0]


def _stack(parts: Sequence[Float32]) -> Float32:
    """Stacks arrays like np.stack, but does not copy a single array."""
    return np.stack(parts) if len(parts) > 1 else parts[0][None]


def shrunk(crop: Float32, region: CropRegion, factor: int) -> Float32:
    """Shrinks `region` of a crop (float32 3×S×S) to float32 3×h/factor×w/factor."""
    x, y, w, h = region
    out = np.empty((3, h // factor, w // factor), np.float32)
    for plane, target in zip(crop, out, strict=True):
        cv2.resize(plane[y : y + h, x : x + w], target.shape[::-1], dst=target, interpolation=cv2.INTER_AREA)
    return out


def spread(values: Float32, size: int, region: CropRegion) -> Float32:
    """Enlarges a head's map to the whole crop, S×S. Outside the region, values are 0."""
    x, y, w, h = region
    out = np.zeros((size, size), np.float32)
    cv2.resize(values, (w, h), dst=out[y : y + h, x : x + w], interpolation=cv2.INTER_LINEAR)
    return out
