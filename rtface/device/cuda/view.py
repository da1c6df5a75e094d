"""Views of frames in GPU memory for trackers and analysers: only small RGB crops are downloaded.

The same crops as an engine's, in 8 bits. A tracker's network on the same GPU reads its crop there. Trackers run in
another thread, so there are separate slots for them, and the urgent stream: they neither wait for the networks nor
delay them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rtface.device.cuda.buffer_pool import GrowingBuffer, SlotPool
from rtface.device.cuda.crop import CropPlan
from rtface.device.cuda.gpu import Gpu, Memory
from rtface.device.cuda.kernels import SEEN_JOB, LaunchList, affine
from rtface.device.cuda.staging import GpuSamples
from rtface.device.cuda.stream_thread import StreamThread
from rtface.device.view import FrameView
from rtface.frame import Bytes, Color, Float, Frame
from rtface.geometry.planes import layout
from rtface.geometry.transforms import compose, display_size, invert, translation
from rtface.util import av_gpu


class _Slot:
    """The buffers of one crop for a view, reused for later crops."""

    def __init__(self, gpu: Gpu) -> None:
        self.step, self.bytes = GrowingBuffer(gpu, pinned=True), GrowingBuffer(gpu, pinned=True)
        self.pixels, self.scratch = GrowingBuffer(gpu), GrowingBuffer(gpu)
        self.done = gpu.event()

    def need(self, **wanted: int) -> bool:
        """True if all pieces are as large as that."""
        return all(getattr(self, name).nbytes >= nbytes for name, nbytes in wanted.items())

    def grow(self, **wanted: int) -> None:
        """Makes them so. The stream thread only."""
        for name, nbytes in wanted.items():
            getattr(self, name).need(nbytes)

    def close(self) -> None:
        for piece in (self.step, self.bytes, self.pixels, self.scratch):
            piece.close()


@dataclass(frozen=True, slots=True)
class NetworkInput:
    """Where a network on the GPU takes an image.

    Attributes:
        memory: float32 samples of the image, RGB or BGR.
        planar: whether they are 3×h×w; else h×w×3.
        bgr: their order.
        divisor: what 0…255 is divided by.
        enqueue: puts the network, and the downloads of its answers, on the urgent stream. The stream thread only.
    """

    memory: Memory
    planar: bool
    bgr: bool
    divisor: float
    enqueue: Callable[[], None]


class RegionReader:
    """Renders regions of frames in GPU memory as small RGB images; for any thread.

    Args:
        streams: of the GPU.
        tables: gives the curve of a frame's colour (`Submission.tables_of`).

    Attributes:
        streams: as given.
    """

    def __init__(self, streams: StreamThread, tables: Callable[[Color], Memory | None]) -> None:
        self.streams, self._tables = streams, tables
        self._slots = SlotPool(streams, lambda: _Slot(streams.gpu), _Slot.close)

    def read(self, frame: Frame, matrix: Float, size: tuple[int, int], network: NetworkInput | None = None) -> Bytes:
        """RGB uint8 h×w×3 of the region that `matrix` (display → region) maps to `size` (w, h); waits for it.

        It is also written to the input of a `network` that takes such an image; the answers are there with it.
        Raises EngineError and DeviceLost.
        """
        form = layout(av_gpu.native_format(frame.image))
        assert form is not None
        w, h = size
        side = max(size)
        if side % 2 == 0 and (w % 2 or h % 2):  # an odd one's chroma is sampled at full size
            side += 1
        plan = CropPlan(frame, form, matrix[None], side)
        samples, tables = GpuSamples(frame, form), self._tables(frame.color)
        slot = self._slots.take()
        try:
            job = self._job(slot, frame, plan, samples, tables, matrix, side, size, network)
        except BaseException:
            self._slots.give(slot)
            raise
        streams, nbytes = self.streams, 3 * w * h
        step, pixels, out = slot.step.on_gpu(), slot.pixels.on_gpu(), slot.bytes
        slot.step.on_host().bytes()[: job.nbytes] = job.descriptors
        reads = [step, *samples.memory, *([tables] if tables else [])]
        writes = [
            pixels,
            out.on_gpu(),
            *([slot.scratch.on_gpu()] if plan.scratch else []),
            *([network.memory] if network else []),
        ]

        def put() -> None:
            urgent = streams.urgent
            urgent.copy(step, slot.step.on_host(), job.nbytes)
            for k in job.steps(step.address):
                urgent.launch(k.kernel, k.grid, k.block, *k.args, reads=reads, writes=writes)
            if network:
                network.enqueue()
            urgent.copy(out.on_host(), out.on_gpu(), nbytes)
            urgent.record(slot.done)

        # What fails here leaves its slot to `close`: the GPU may still use it.
        streams.run(put).result()
        slot.done.synchronize()
        seen = out.on_host().bytes()[:nbytes].reshape(h, w, 3).copy()
        self._slots.give(slot)
        return seen

    def _job(
        self,
        slot: _Slot,
        frame: Frame,
        plan: CropPlan,
        samples: GpuSamples,
        tables: Memory | None,
        matrix: Float,
        side: int,
        size: tuple[int, int],
        network: NetworkInput | None,
    ) -> LaunchList:
        wanted = {"step": 4096, "bytes": 3 * size[0] * size[1], "pixels": 12 * side * side, "scratch": plan.scratch}
        if not slot.need(**wanted):
            self.streams.reserve(lambda: slot.grow(**wanted))
        scratch = slot.scratch.on_gpu().address if plan.scratch else 0
        pixels = slot.pixels.on_gpu().address
        job = plan.job(samples, 0, [pixels], tables=tables.address if tables else 0, scratch=scratch)
        head = np.zeros(1, SEEN_JOB)
        head["count"], head["size"], head["pixels"], head["to"] = 1, side, pixels, slot.bytes.on_gpu().address
        head["width"], head["height"] = size
        # Every pixel that covers any part of the frame shows.
        back, (w, h) = invert(matrix), display_size(frame.image.width, frame.image.height, frame.display)
        reach = 0.5 * np.abs(back[:, :2]).sum(1)
        head["m"], head["low"], head["high"] = affine(compose(back, translation(0.5, 0.5))), -reach, (w, h) + reach
        if network:
            head["input"], head["planar"], head["bgr"] = network.memory.address, network.planar, network.bgr
            head["divisor"] = network.divisor
        job.add("seen", size, 1, head)
        assert job.nbytes <= 4096
        return job

    def close(self) -> None:
        """Frees all; the GPU must be idle. The stream thread only."""
        self._slots.close()


class GpuView(FrameView):
    """A frame whose samples are on the GPU."""

    def __init__(self, regions: RegionReader, frame: Frame) -> None:
        super().__init__(frame)
        self._frame, self._regions = frame, regions

    @property
    def streams(self) -> StreamThread:
        """The thread of its GPU's streams."""
        return self._regions.streams

    def crop(self, matrix: Float, size: tuple[int, int], network: NetworkInput | None = None) -> Bytes:
        """The crop as of `FrameView.crop`; and `RegionReader.read` for a network on the same GPU."""
        return self._regions.read(self._frame, matrix, size, network)
