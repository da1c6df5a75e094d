"""Buffers of a frame in progress on a GPU: its samples, its faces, and each step's descriptors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rtface.device.cuda.buffer_pool import GrowingBuffer, SlotPool
from rtface.device.cuda.face_slots import FaceSlot
from rtface.device.cuda.gpu import Event, Gpu, Memory
from rtface.device.cuda.staging import GpuSamples, StagedSamples
from rtface.device.cuda.stream_thread import StreamThread
from rtface.frame import Box, Crops, Float
from rtface.geometry.planes import Layout

if TYPE_CHECKING:
    import av


class FrameSlot:
    """The buffers of one frame in progress, reused for later frames.

    Attributes:
        block: its samples (`staging.StagedSamples`), on the GPU and pinned.
        steps: descriptors by step. Each step has its own, because the one before may still be on its way up.
        scratch: what its kernels have in between.
        exchange: pinned memory for crops that the host cuts or looks at, or corrections that it pastes; `outputs`: for
            what it makes of them.
        small: reduced copies of its crops (`shaping.small_job`), in the order of its faces.
        uploaded, computed, done: events of its streams; `cropped`: its crops and their reduced copies are there,
            `fetched`: the reduced copies are on the host.
        failure: what a step met on its way, until someone asks.
    """

    def __init__(self, gpu: Gpu) -> None:
        self.block = GrowingBuffer(gpu, pinned=True)
        self.steps = {
            name: GrowingBuffer(gpu, pinned=True) for name in ("crop", "average", "measure", "apply", "paste")
        }
        self.measures = GrowingBuffer(gpu, pinned=True)
        self.exchange, self.outputs = (GrowingBuffer(gpu, pinned=True, device=False) for _ in range(2))
        self.small = GrowingBuffer(gpu, pinned=True)
        self.scratch = GrowingBuffer(gpu)
        self.uploaded, self.cropped, self.fetched, self.computed, self.done = (gpu.event() for _ in range(5))
        self.failure: BaseException | None = None

    def close(self) -> None:
        for piece in (
            self.block,
            *self.steps.values(),
            self.measures,
            self.exchange,
            self.outputs,
            self.small,
            self.scratch,
        ):
            piece.close()


@dataclass(slots=True)
class GpuCrops(Crops[FaceSlot]):
    """Crops on a GPU; `slots` holds them."""

    slots: FrameSlots | None = None


@dataclass(frozen=True, slots=True)
class GpuFrame:
    """A frame whose samples, or those around its faces, are on the GPU.

    Attributes:
        image: the frame's image; kept until the GPU no longer uses it.
        form: how it is laid out.
        samples: where its samples are, counted from address `base`.
        memory: that they are in.
    """

    image: av.VideoFrame
    form: Layout
    samples: StagedSamples | GpuSamples
    base: int
    memory: tuple[Memory, ...]


@dataclass(slots=True, eq=False)
class FrameSlots:
    """The slots of one frame in progress, and of its faces, until they are released.

    Attributes:
        gpu_frame: None until its crops are cut.
        settled: whether the host has waited for the last work with them.
    """

    frame: FrameSlot
    faces: list[FaceSlot] = field(default_factory=list[FaceSlot])
    gpu_frame: GpuFrame | None = None
    settled: bool = False
    released: bool = False

    @property
    def inferred(self) -> list[Event]:
        """What work with its faces' crops and answers waits for on the GPU."""
        return [self.frame.cropped, *(face.inferred for face in self.faces)]


@dataclass(frozen=True, slots=True)
class GpuCorrection:
    """A correction on the GPU (`protocols.Correction`).

    Attributes:
        slots, face: that hold it.
        box: of its mask; None where that is 0 all over.
        matrix: float64 2×3, display → crop pixels.
    """

    slots: FrameSlots
    face: FaceSlot
    box: Box | None
    matrix: Float


class SlotPools:
    """All slots of a GPU: what a run has seen most of stays reserved, so that its loop reserves nothing."""

    def __init__(self, streams: StreamThread) -> None:
        self._streams = streams
        self._frames = SlotPool(streams, lambda: FrameSlot(streams.gpu), FrameSlot.close)
        self._faces: dict[int, SlotPool[FaceSlot]] = {}

    def take(self, sizes: list[int]) -> FrameSlots:
        """Slots for one frame with faces of these sides. Raises OutOfDeviceMemory."""
        slots = FrameSlots(self._frames.take())
        try:
            for size in sizes:
                slots.faces.append(self._of(size).take())
        except BaseException:
            self.give(slots)
            raise
        return slots

    def _of(self, size: int) -> SlotPool[FaceSlot]:
        streams = self._streams
        if size not in self._faces:  # of two threads that come at once, one pool stays
            self._faces.setdefault(
                size, SlotPool(streams, lambda: FaceSlot.reserve(streams.gpu, size), lambda slot: slot.memory.close())
            )
        return self._faces[size]

    def give(self, slots: FrameSlots) -> None:
        """Gives a frame's slots back; everything on the GPU that uses them must have ended."""
        faces, slots.faces = slots.faces, []
        for face in faces:
            self._faces[face.size].give(face)
        self._frames.give(slots.frame)

    def grow(self, piece: GrowingBuffer, nbytes: int) -> None:
        """Makes a piece at least so large; nothing on the GPU may use it. Raises OutOfDeviceMemory."""
        if nbytes > piece.nbytes:
            self._streams.run(lambda: piece.need(nbytes)).result()

    def close(self) -> None:
        """Frees all. The stream thread only."""
        for pool in (self._frames, *self._faces.values()):
            pool.close()
