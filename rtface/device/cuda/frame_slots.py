"""Buffers of a frame in progress on a GPU: its samples, its faces, and each step's descriptors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rtface.device.cuda.buffer_pool import GrowingBuffer, SlotPool
from rtface.device.cuda.face_slots import FaceSlot
from rtface.device.cuda.gpu import Gpu, Memory
from rtface.device.cuda.staging import GpuSamples, StagedSamples
from rtface.device.cuda.stream_thread import StreamThread
from rtface.frame import Box, Crops, Float
from rtface.geometry.planes import Layout

if TYPE_CHECKING:
    import av


class FrameSlot:
    """The buffers of one frame in progress, reused for later frames.

    Attributes:
        block: its samples (`surface.StagedSamples`), on the GPU and pinned.
        steps: descriptors by step. Each step has its own, because the one before may still be on its way up.
        scratch: what its kernels have in between.
        exchange: pinned memory for crops that the host cuts or looks at, or corrections that it pastes; `answers`: for
            what it makes of them.
        small: small pictures of its crops (`shaping.small_job`), in the order of its faces.
        uploaded, computed, done: events of its own; `cropped`: its crops and small pictures are there,
            `looked`: the small pictures are on the host.
        failure: what a step met on its way, until someone asks.
    """

    def __init__(self, gpu: Gpu) -> None:
        self.block = GrowingBuffer(gpu, pinned=True)
        self.steps = {name: GrowingBuffer(gpu, pinned=True)
                      for name in ("crop", "average", "measure", "apply", "paste")}
        self.measures = GrowingBuffer(gpu, pinned=True)
        self.exchange, self.answers = (GrowingBuffer(gpu, pinned=True, device=False) for _ in range(2))
        self.small = GrowingBuffer(gpu, pinned=True)
        self.scratch = GrowingBuffer(gpu)
        self.uploaded, self.cropped, self.looked, self.computed, self.done = (gpu.event() for _ in range(5))
        self.failure: BaseException | None = None

    def close(self) -> None:
        for piece in (self.block, *self.steps.values(), self.measures, self.exchange, self.answers,
                      self.small, self.scratch):
            piece.close()


@dataclass(slots=True)
class GpuCrops(Crops[FaceSlot]):
    """Crops on a GPU; `frame` holds their slots."""

    frame: HeldSlots | None = None


@dataclass(frozen=True, slots=True)
class GpuFrame:
    """A frame whose samples, or those around its faces, are on the GPU.

    Attributes:
        image: the picture; kept until the GPU has done with it.
        form: how it is laid out.
        lies: where its samples are, counted from address `base`.
        memory: that they are in.
    """

    image: av.VideoFrame
    form: Layout
    lies: StagedSamples | GpuSamples
    base: int
    memory: tuple[Memory, ...]


@dataclass(slots=True, eq=False)
class HeldSlots:
    """The slots of one frame in progress, and of its faces, until they are released.

    Attributes:
        canvas: None where the host cuts and pastes.
        settled: whether the host has waited for the last work with them.
    """

    slot: FrameSlot
    faces: list[FaceSlot] = field(default_factory=list[FaceSlot])
    canvas: GpuFrame | None = None
    settled: bool = False
    given: bool = False


@dataclass(frozen=True, slots=True)
class GpuCorrection:
    """A correction on the GPU (`protocols.Correction`).

    Attributes:
        held, face: the slots that it lies in.
        box: of its mask; None where that is 0 all over.
        matrix: float64 2×3, display → crop pixels.
    """

    held: HeldSlots
    face: FaceSlot
    box: Box | None
    matrix: Float


class SlotPools:
    """All slots of a GPU: what a run has seen most of stays reserved, so that its loop reserves nothing."""

    def __init__(self, owner: StreamThread) -> None:
        self._owner = owner
        self._frames = SlotPool(owner, lambda: FrameSlot(owner.gpu), FrameSlot.close)
        self._faces: dict[int, SlotPool[FaceSlot]] = {}

    def take(self, sizes: list[int]) -> HeldSlots:
        """Slots for one frame with faces of these sides. Raises OutOfDeviceMemory."""
        held = HeldSlots(self._frames.take())
        try:
            for size in sizes:
                held.faces.append(self._of(size).take())
        except BaseException:
            self.give(held)
            raise
        return held

    def _of(self, size: int) -> SlotPool[FaceSlot]:
        owner = self._owner
        if size not in self._faces:  # of two threads that come at once, one pool stays
            self._faces.setdefault(size, SlotPool(owner, lambda: FaceSlot.reserve(owner.gpu, size),
                                              lambda slot: slot.memory.close()))
        return self._faces[size]

    def give(self, held: HeldSlots) -> None:
        """Gives a frame's slots back; everything on the GPU that uses them must have ended."""
        faces, held.faces = held.faces, []
        for face in faces:
            self._faces[face.size].give(face)
        self._frames.give(held.slot)

    def grow(self, piece: GrowingBuffer, nbytes: int) -> None:
        """Makes a piece at least so large; nothing on the GPU may use it. Raises OutOfDeviceMemory."""
        if nbytes > piece.nbytes:
            self._owner.reserve(lambda: piece.need(nbytes))

    def close(self) -> None:
        """Frees all. The owner's thread only."""
        for pool in (self._frames, *self._faces.values()):
            pool.close()
