"""GPU memory of one face in progress: crop, answer and correction."""

from __future__ import annotations

from dataclasses import dataclass

from rtface.device.cuda.gpu import Event, Gpu, Memory, aligned
from rtface.device.cuda.shaping import scratch_floats

MAP_VALUES = 128 * 128
"""The maximum number of values in the map of an engine's head."""


@dataclass(frozen=True, slots=True)
class FaceSlot:
    """The arrays of one face in one block of GPU memory. The int attributes are addresses of float32 arrays.

    Attributes:
        size: S, the side of the crop in pixels.
        inferred: event after the last network that processed the crop.
        crop, native, restored, correction: images of 3×S×S; `native` is the crop in coded HDR values.
        mask: the mask, S×S.
        occlusion, log_scale: maps of an engine's heads, `MAP_VALUES` at most.
        scratch: intermediate results that shaping needs between measuring and applying (`shaping.scratch_floats`).
    """

    memory: Memory
    size: int
    inferred: Event
    crop: int
    native: int
    restored: int
    correction: int
    mask: int
    occlusion: int
    log_scale: int
    scratch: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape as a batch of one: (1, 3, S, S)."""
        return (1, 3, self.size, self.size)

    @staticmethod
    def bytes_of(size: int) -> int:
        """Returns the bytes of a slot for a crop of side `size`."""
        return sum(_parts(size))

    @classmethod
    def reserve(cls, gpu: Gpu, size: int) -> FaceSlot:
        """Allocates a slot on the GPU. Raises OutOfDeviceMemory."""
        parts = _parts(size)
        memory = gpu.allocate(sum(parts))
        return cls(memory, size, gpu.event(), *(memory.address + sum(parts[:n]) for n in range(len(parts))))


def _parts(size: int) -> list[int]:
    """Returns the bytes of each array of a slot, in order."""
    image, plane, head = (aligned(4 * n) for n in (3 * size * size, size * size, MAP_VALUES))
    return [image] * 4 + [plane] + [head] * 2 + [aligned(4 * scratch_floats(size))]
