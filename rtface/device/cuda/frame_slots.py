"""GPU buffers of a frame in progress: samples, faces (crop, answer and correction), and descriptors of each step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rtface.device.cuda.buffer_pool import GrowingBuffer, SlotPool
from rtface.device.cuda.gpu import Event, Gpu, Memory, aligned
from rtface.device.cuda.shaping import scratch_floats
from rtface.device.cuda.staging import GpuSamples, StagedSamples
from rtface.device.cuda.stream_thread import StreamThread
from rtface.frame import Box, Crops, Float
from rtface.geometry.planes import Layout

if TYPE_CHECKING:
    import av

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


class FrameSlot:
    """The buffers of one frame in progress, reused for later frames.

    Attributes:
        block: the frame's samples (`staging.StagedSamples`), on the GPU and in pinned memory.
        steps: descriptors, in separate buffers per step, because the previous step's upload may still be running.
        measures: figures that kernels measure.
        scratch: intermediate results of the frame's kernels.
        exchange: pinned memory for downloaded crops and corrections.
        outputs: pinned memory for answers to upload.
        small: reduced copies of the crops (`shaping.small_job`), in the order of the faces.
        uploaded, computed, done: events after the frame's latest upload, kernels and download.
        cropped: event after the crops and their reduced copies.
        fetched: event after an urgent download of crops or reduced copies.
        failure: the error of an earlier step, until `Submission.check` raises it.
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
        for buffer in (
            self.block,
            *self.steps.values(),
            self.measures,
            self.exchange,
            self.outputs,
            self.small,
            self.scratch,
        ):
            buffer.close()


@dataclass(slots=True)
class GpuCrops(Crops[FaceSlot]):
    """Crops on a GPU, in the memory of `slots`."""

    slots: FrameSlots | None = None


@dataclass(frozen=True, slots=True)
class GpuFrame:
    """A frame on the GPU: all samples, or only the samples around its faces.

    Attributes:
        image: the frame's image, referenced until the GPU no longer uses it.
        form: layout of the image.
        samples: positions of the frame's samples, relative to address `base`.
        memory: blocks of memory that contain the samples.
    """

    image: av.VideoFrame
    form: Layout
    samples: StagedSamples | GpuSamples
    base: int
    memory: tuple[Memory, ...]


@dataclass(slots=True, eq=False)
class FrameSlots:
    """The slots of one frame in progress and of its faces.

    Attributes:
        gpu_frame: the frame on the GPU; None until its crops are cut.
        settled: whether the host has waited for the last GPU work that uses these slots.
    """

    frame: FrameSlot
    faces: list[FaceSlot] = field(default_factory=list[FaceSlot])
    gpu_frame: GpuFrame | None = None
    settled: bool = False
    released: bool = False

    @property
    def inferred(self) -> list[Event]:
        """Events to wait for before using the faces' crops and answers."""
        return [self.frame.cropped, *(face.inferred for face in self.faces)]


@dataclass(frozen=True, slots=True)
class GpuCorrection:
    """A correction on the GPU (`protocols.Correction`).

    Attributes:
        slots: slots of the frame.
        face: the slot that contains the correction.
        box: bounding box of the mask; None if the mask is 0 everywhere.
        matrix: float64 2×3, display → crop pixels.
    """

    slots: FrameSlots
    face: FaceSlot
    box: Box | None
    matrix: Float


class SlotPools:
    """All slots of a GPU. Released slots keep their memory for later frames."""

    def __init__(self, streams: StreamThread) -> None:
        self._streams = streams
        self._frames = SlotPool(streams, lambda: FrameSlot(streams.gpu), FrameSlot.close)
        self._faces: dict[int, SlotPool[FaceSlot]] = {}

    def take(self, sizes: list[int]) -> FrameSlots:
        """Returns slots for one frame with crops of these sides (px). Raises OutOfDeviceMemory."""
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
        if size not in self._faces:  # if two threads create a pool, only one pool is used
            self._faces.setdefault(
                size, SlotPool(streams, lambda: FaceSlot.reserve(streams.gpu, size), lambda slot: slot.memory.close())
            )
        return self._faces[size]

    def give(self, slots: FrameSlots) -> None:
        """Returns a frame's slots. All GPU work that uses them must have ended."""
        faces, slots.faces = slots.faces, []
        for face in faces:
            self._faces[face.size].give(face)
        self._frames.give(slots.frame)

    def grow(self, buffer: GrowingBuffer, nbytes: int) -> None:
        """Grows a buffer to `nbytes` or more. No GPU work may use it. Raises OutOfDeviceMemory."""
        if nbytes > buffer.nbytes:
            self._streams.run(lambda: buffer.need(nbytes)).result()

    def close(self) -> None:
        """Frees all slots. Call it only on the stream thread."""
        for pool in (self._frames, *self._faces.values()):
            pool.close()
