"""Views of frames in GPU memory for trackers and analysers: only small RGB crops are downloaded.

These crops equal an engine's crops, rounded to 8 bits. Trackers run in another thread, so views have separate slots and
use the urgent stream. They neither wait for the networks nor delay them.
"""

from __future__ import annotations

import numpy as np

from rtface.device.cuda.buffer_pool import SlotPool
from rtface.device.cuda.crop import CropPlan
from rtface.device.cuda.frame_slots import FrameSlot
from rtface.device.cuda.gpu import Memory, aligned
from rtface.device.cuda.kernels import LaunchList
from rtface.device.cuda.staging import GpuSamples
from rtface.device.cuda.structs import SEEN_JOB
from rtface.device.cuda.submission import Submission
from rtface.device.view import FrameView
from rtface.frame import Bytes, Float, Frame
from rtface.geometry.planes import layout
from rtface.geometry.transforms import compose, display_size, invert, translation
from rtface.util import av_gpu


class RegionReader:
    """Renders regions of frames in GPU memory as small RGB images. Thread-safe.

    Args:
        submission: the device's object that submits work to the GPU.
    """

    def __init__(self, submission: Submission) -> None:
        streams = self._streams = submission.streams
        self._submission = submission
        self._slots = SlotPool(streams, lambda: FrameSlot(streams.gpu), FrameSlot.close)

    def read(self, frame: Frame, matrix: Float, size: tuple[int, int]) -> Bytes:
        """Downloads the region that `matrix` (display → region) maps to `size` (w, h).

        Returns RGB uint8 h×w×3. Raises EngineError and DeviceLost.
        """
        form = layout(av_gpu.native_format(frame.image))
        assert form is not None
        w, h = size
        side = max(size)
        if side % 2 == 0 and (w % 2 or h % 2):  # as on the CPU, an odd side prevents half-size chroma
            side += 1
        plan = CropPlan(frame, form, matrix[None], side)
        samples, tables = GpuSamples(frame, form), self._submission.tables_of(frame.color)
        slot = self._slots.take()
        try:
            job = self._job(slot, frame, plan, samples, tables, matrix, side, size)
        except BaseException:
            self._slots.give(slot)
            raise
        streams, nbytes = self._streams, 3 * w * h
        step, out = slot.steps["crop"].on_gpu(), slot.block
        descriptors = slot.steps["crop"].on_host()
        descriptors.bytes()[: job.nbytes] = job.descriptors
        reads = [step, *samples.memory, *([tables] if tables else [])]
        writes = [slot.scratch.on_gpu(), out.on_gpu()]

        def put() -> None:
            urgent = streams.urgent
            urgent.copy(step, descriptors, job.nbytes)
            for k in job.steps(step.address):
                urgent.launch(k.kernel, k.grid, k.block, *k.args, reads=reads, writes=writes)
            urgent.copy(out.on_host(), out.on_gpu(), nbytes)
            urgent.record(slot.done)

        # After a failure the slot stays in use until `close`, because the GPU may still access it.
        streams.run(put).result()
        slot.done.synchronize()
        pixels = out.on_host().bytes()[:nbytes].reshape(h, w, 3).copy()
        self._slots.give(slot)
        return pixels

    def _job(
        self,
        slot: FrameSlot,
        frame: Frame,
        plan: CropPlan,
        samples: GpuSamples,
        tables: Memory | None,
        matrix: Float,
        side: int,
        size: tuple[int, int],
    ) -> LaunchList:
        grow, crop_bytes = self._submission.pools.grow, aligned(12 * side * side)
        grow(slot.block, 3 * size[0] * size[1])
        grow(slot.scratch, crop_bytes + plan.scratch)  # contains the crop, then intermediate results
        pixels = slot.scratch.on_gpu().address
        job = plan.job(samples, 0, [pixels], tables=tables.address if tables else 0, scratch=pixels + crop_bytes)
        head = np.zeros(1, SEEN_JOB)
        head["count"], head["size"], head["pixels"], head["to"] = 1, side, pixels, slot.block.on_gpu().address
        head["width"], head["height"] = size
        # A pixel is visible if it covers any part of the frame.
        back, (w, h) = invert(matrix), display_size(frame.image.width, frame.image.height, frame.display)
        reach = 0.5 * np.abs(back[:, :2]).sum(1)
        head["m"] = compose(back, translation(0.5, 0.5)).reshape(6)
        head["low"], head["high"] = -reach, (w, h) + reach
        job.add("seen", size, 1, head)
        grow(slot.steps["crop"], job.nbytes)
        return job

    def close(self) -> None:
        """Frees all memory; the GPU must be idle. Call it only on the stream thread."""
        self._slots.close()


class GpuView(FrameView):
    """A view of a frame in GPU memory."""

    def __init__(self, regions: RegionReader, frame: Frame) -> None:
        super().__init__(frame)
        self._frame, self._regions = frame, regions

    def crop(self, matrix: Float, size: tuple[int, int]) -> Bytes:
        """Downloads a crop, like `FrameView.crop`."""
        return self._regions.read(self._frame, matrix, size)
