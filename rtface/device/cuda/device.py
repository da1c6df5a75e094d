"""The CUDA device: cuts crops from native planes and composites corrections on a GPU.

A frame in GPU memory is read and written in place. For a frame in host memory, only the rows of its faces are uploaded,
and only rows that may have changed are downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from rtface.device.cpu.composite import neutral, neutral_rgb
from rtface.device.cpu.device import CpuDevice
from rtface.device.cpu.view import CpuView, native_image
from rtface.device.cuda.composite import PastePlan
from rtface.device.cuda.crop import CropPlan
from rtface.device.cuda.frame_slots import FaceSlot, FrameSlot, FrameSlots, GpuCorrection, GpuCrops, GpuFrame
from rtface.device.cuda.gpu import Stream
from rtface.device.cuda.kernels import LaunchList, uncurve_job
from rtface.device.cuda.shaper import GpuShaper
from rtface.device.cuda.staging import GpuSamples, StagedSamples
from rtface.device.cuda.stream_thread import StreamThread
from rtface.device.cuda.submission import Submission
from rtface.device.cuda.transfers import correction_to_host, crops_to_host
from rtface.device.cuda.view import GpuView, RegionReader
from rtface.errors import EngineError, log
from rtface.frame import Box, Crops, Float, Float32, Frame, Pixels
from rtface.geometry.planes import Layout, Role, Samples, layout, planes
from rtface.geometry.transforms import compose, field_parity, translation
from rtface.protocols import Correction, ShapeTask
from rtface.util import av_gpu

if TYPE_CHECKING:
    import av


class CudaDevice:
    """The CUDA device (`protocols.Device`).

    Args:
        streams: the GPU's stream thread.
        warn: function that receives warnings, as for `CpuDevice`.
    """

    name = "cuda"
    carries = False
    """Corrections stay on the GPU and are not carried to the next frame."""

    def __init__(self, streams: StreamThread, warn: Callable[[str, str], None] | None = None) -> None:
        self._streams = streams
        self._cpu = CpuDevice(warn=warn)
        self._submission = Submission(streams)
        self._shaper = GpuShaper(self._submission)
        self._regions = RegionReader(self._submission)
        self._closed = False

    def view(self, frame: Frame) -> CpuView | GpuView:
        """Returns a view of a frame (or field) in any memory. Valid until the frame is written to."""
        # Views of GPU memory are not cached: crops are cut without them, and in-place writes would invalidate them.
        return GpuView(self._regions, frame) if self._on_this_gpu(frame.image) else self._cpu.view(frame)

    def _on_this_gpu(self, image: av.VideoFrame) -> bool:
        """Returns whether an image is on this GPU, in a supported format."""
        return (
            av_gpu.on_gpu(image)
            and av_gpu.native_format(image) in av_gpu.FORMATS
            and av_gpu.surface_of(image).device == self._streams.gpu.ordinal
        )

    def cut(self, frame: Frame, places: Sequence[tuple[Float, int]]) -> list[GpuCrops]:
        """Enqueues one crop for each matrix and size. Does not wait for them."""
        if not places:
            return []
        slots = self._submission.pools.take([size for _, size in places])
        try:
            image = frame.image if self._on_this_gpu(frame.image) else native_image(frame.image)
            form = layout(av_gpu.native_format(image))
            assert form is not None
            self._cut(frame if image is frame.image else replace(frame, image=image), form, places, slots)
        except BaseException:
            self._submission.release(slots)
            raise
        return [
            GpuCrops(face, np.array(matrix, np.float64)[None], slots)
            for (matrix, _), face in zip(places, slots.faces, strict=True)
        ]

    def _cut(self, frame: Frame, form: Layout, places: Sequence[tuple[Float, int]], slots: FrameSlots) -> None:
        slot, work = slots.frame, self._submission
        plans: list[tuple[CropPlan, list[FaceSlot]]] = []
        for size in dict.fromkeys(size for _, size in places):
            numbers = [n for n, (_, s) in enumerate(places) if s == size]
            matrices = np.stack([places[n][0] for n in numbers])
            plans.append((CropPlan(frame, form, matrices, size), [slots.faces[n] for n in numbers]))
        upload: Callable[[Stream], None] | None = None
        if av_gpu.on_gpu(frame.image):
            samples = GpuSamples(frame, form)
            gpu_frame = GpuFrame(frame.image, form, samples, 0, samples.memory)
        else:
            gpu_frame, upload = self._load(frame, form, [part for plan, _ in plans for part in plan.parts], slot)
        tables, scratch = work.tables_of(frame.color), work.scratch(slot, sum(plan.scratch for plan, _ in plans))
        job, at = LaunchList(), scratch.address if scratch else 0
        for plan, faces in plans:
            native = [face.native for face in faces] if tables else None
            job.extend(
                plan.job(
                    gpu_frame.samples,
                    gpu_frame.base,
                    [face.crop for face in faces],
                    native=native,
                    tables=tables.address if tables else 0,
                    scratch=at,
                )
            )
            at += plan.scratch
        slots.gpu_frame = gpu_frame
        work.put_crops(
            slots,
            job,
            before=upload,
            reads=[*gpu_frame.memory, *([tables] if tables else [])],
            writes=[scratch] if scratch else [],
        )

    def _load(
        self, frame: Frame, form: Layout, parts: Sequence[Mapping[Role, Box]], slot: FrameSlot
    ) -> tuple[GpuFrame, Callable[[Stream], None]]:
        """Copies samples around the faces of a host frame to pinned memory. Also returns the step that uploads them."""
        surface = StagedSamples(form, parts)
        self._submission.pools.grow(slot.block, surface.nbytes)
        block = slot.block.on_gpu()
        surface.load(_views(frame, frame.image, form), slot.block.on_host().bytes())

        def upload(up: Stream) -> None:
            for at, nbytes in surface.spans(surface.parts):
                up.copy(block, slot.block.on_host(), nbytes, to_at=at, source_at=at)

        return GpuFrame(frame.image, form, surface, block.address, (block,)), upload

    def to_host(self, crops: Sequence[Crops[Pixels]]) -> list[Crops[Float32]]:
        """Downloads crops; see `Device.to_host`. Raises EngineError and DeviceLost."""
        if not crops:
            return []
        slots = _slots_of(crops[0])
        pixels = crops_to_host(self._submission, slots, [c.pixels for c in crops if isinstance(c.pixels, FaceSlot)])
        self._submission.check(slots.frame)
        return [Crops(p[None], c.matrices) for p, c in zip(pixels, crops, strict=True)]

    def cut_again(self, frame: Frame, crops: Sequence[Crops[Pixels]]) -> list[GpuCrops]:
        """Cuts crops at the same places again, as `cut` does."""
        return self.cut(frame, [(c.matrices[0], c.size) for c in crops])

    def shape(self, faces: Sequence[ShapeTask]) -> list[GpuCorrection]:
        """Shapes the correction of each face of one frame (`rtface.correct`)."""
        if not faces:
            return []
        slots = _slots_of(faces[0].crops)
        self._submission.check(slots.frame)
        return self._shaper.shape(slots, faces)

    def read(self, correction: Correction) -> tuple[Float32, Float]:
        """Downloads a correction after waiting for its kernels. Raises EngineError and DeviceLost."""
        assert isinstance(correction, GpuCorrection)
        size = correction.face.size
        if correction.box is None:
            return np.zeros((size, size, 3), np.float32), correction.matrix
        slots = correction.slots
        pixels = correction_to_host(self._submission, slots, correction.face)
        self._submission.check(slots.frame)
        x0, y0, x1, y1 = correction.box  # the kernels wrote no pixels outside this box
        return np.ascontiguousarray(pixels[y0:y1, x0:x1]), compose(translation(-x0, -y0), correction.matrix)

    def paste(self, frame: Frame, corrections: Sequence[Correction]) -> Frame:
        """Adds all corrections to the frame and releases its slots.

        Raises EngineError and DeviceLost. After an error, only frames in host memory are unchanged.
        """
        if not corrections:
            return frame
        on_gpu = [c for c in corrections if isinstance(c, GpuCorrection)]
        slots = on_gpu[0].slots
        try:
            self._submission.check(slots.frame)
            visible = [c for c in on_gpu if c.box is not None]
            if not visible:
                return frame
            assert slots.gpu_frame is not None
            return self._paste(frame, visible, slots, slots.gpu_frame)
        finally:
            self._submission.release(slots)

    def _paste(
        self, frame: Frame, corrections: Sequence[GpuCorrection], slots: FrameSlots, gpu_frame: GpuFrame
    ) -> Frame:
        slot, form, samples, streams = slots.frame, gpu_frame.form, gpu_frame.samples, self._streams
        faces = [c.face for c in corrections]
        native = frame if gpu_frame.image is frame.image else replace(frame, image=gpu_frame.image)
        staged = isinstance(samples, StagedSamples)
        gray = partial(_gray, _views(frame, gpu_frame.image, form), form) if staged else None
        plan = PastePlan(
            native,
            form,
            np.stack([c.matrix for c in corrections]),
            [face.size for face in faces],
            [c.box for c in corrections],
            gray,
            probe=isinstance(samples, GpuSamples),
        )
        if not plan.boxes:
            return frame
        tables, scratch = self._submission.tables_of(frame.color), self._submission.scratch(slot, plan.scratch)
        job = uncurve_job(
            frame.color,
            [(f.correction, f.native, f.correction, f.size) for f in faces],
            tables.address if tables else 0,
        )
        job.extend(
            plan.job(
                samples,
                gpu_frame.base,
                [f.correction for f in faces],
                [f.mask for f in faces],
                scratch=scratch.address if scratch else 0,
            )
        )
        memories = list({id(f.memory): f.memory for f in faces}.values())

        def download() -> None:
            """Downloads samples that may have changed, except for frames in GPU memory."""
            streams.finish.record(slot.computed)
            streams.down.wait(slot.computed)
            for at, nbytes in samples.spans(plan.parts) if isinstance(samples, StagedSamples) else []:
                streams.down.copy(slot.block.on_host(), slot.block.on_gpu(), nbytes, to_at=at, source_at=at)
            streams.down.record(slot.done)

        self._submission.put_job(
            slot,
            "paste",
            job,
            reads=[*memories, *([tables] if tables else [])],
            writes=[*gpu_frame.memory, *memories, *([scratch] if scratch else [])],
            after=download,
        ).result()
        slot.done.synchronize()
        slots.settled = True
        if isinstance(samples, GpuSamples):
            return replace(frame, touched=True)
        if gpu_frame.image is not frame.image:
            if not av_gpu.on_gpu(frame.image):
                self._cpu.warn_converted(frame)
            frame = native
        frame.make_writable()
        samples.store(_views(frame, frame.image, form), slot.block.on_host().bytes(), plan.parts)
        return replace(frame, touched=True)

    def drop(self, crops: Sequence[Crops[Pixels]]) -> None:
        """Releases the crops' slots when the GPU has finished with them."""
        for slots in {id(c.slots): c.slots for c in crops if isinstance(c, GpuCrops) and c.slots}.values():
            self._submission.release(slots)

    def close(self) -> None:
        """Frees all memory, including frames in progress. Safe to call twice. The stream thread keeps running."""
        if self._closed:
            return
        self._closed = True

        def free() -> None:
            self._submission.close()
            self._shaper.close()
            self._regions.close()

        try:
            self._streams.run(free).result()
        except EngineError as error:
            log.debug("the GPU's memory was not freed: %s", error)


def _slots_of(crops: Crops[Pixels]) -> FrameSlots:
    assert isinstance(crops, GpuCrops) and crops.slots is not None
    return crops.slots


def _views(frame: Frame, image: av.VideoFrame, form: Layout) -> dict[Role, Samples]:
    return planes(image, form, field_parity(frame.display, frame.field))


def _gray(views: dict[Role, Samples], form: Layout, box: Box) -> bool:
    if form.kind == "rgb":
        return neutral_rgb(views, box, form)
    return all(neutral(views[role], box, form) for role in ("u", "v"))
