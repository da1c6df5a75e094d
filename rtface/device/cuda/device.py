"""The frame path on a GPU: crops out of native planes, corrections into them, without a frame ever being converted.

A picture that lies on the GPU already is read and written where it is. Of one in the host's memory only the region
around its faces goes up, and only samples that may have changed come down. What the kernels cannot do (big-endian
samples) is done by the CPU device, with the same result.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from rtface.device.cpu.composite import neutral
from rtface.device.cpu.device import CpuDevice, CpuView, native_image
from rtface.device.cuda.composite import PastePlan
from rtface.device.cuda.crop import CropPlan
from rtface.device.cuda.face_slots import FaceSlot
from rtface.device.cuda.frame_slots import FrameSlot, GpuCorrection, GpuCrops, GpuFrame, HeldSlots
from rtface.device.cuda.gpu import Stream
from rtface.device.cuda.host_fallback import cut_on_host, paste_on_host
from rtface.device.cuda.kernels import LaunchList, uncurve_job
from rtface.device.cuda.shaper import GpuShaper
from rtface.device.cuda.staging import GpuSamples, StagedSamples, drawable
from rtface.device.cuda.stream_thread import StreamThread
from rtface.device.cuda.submission import Submission
from rtface.device.cuda.transfers import crops_to_host
from rtface.device.cuda.view import GpuView, RegionReader
from rtface.errors import EngineError
from rtface.frame import Box, Crops, Float, Float32, Frame, Pixels
from rtface.geometry.planes import Layout, Role, Samples, layout, planes
from rtface.geometry.transforms import field_parity
from rtface.protocols import Correction, ShapeTask
from rtface.util import av_gpu

if TYPE_CHECKING:
    import av

log = logging.getLogger("rtface")


class CudaDevice:
    """See the module (`protocols.Device`).

    Args:
        owner: of the GPU.
        warn: as for `CpuDevice`.
    """

    def __init__(self, owner: StreamThread, warn: Callable[[str, str], None] | None = None) -> None:
        self._owner = owner
        self._cpu = CpuDevice(warn=warn)
        self._steps = Submission(owner)
        self._shaper = GpuShaper(owner, self._steps.slots, self._steps.constants, self._steps.put)
        self._looks = RegionReader(owner, self._steps.tables_of)
        self._closed = False

    @property
    def name(self) -> str:
        """"cuda"."""
        return "cuda"

    @property
    def carries(self) -> bool:
        """False: a correction stays where it was made, and is not moved to the next frame."""
        return False

    def view(self, frame: Frame) -> CpuView | GpuView:
        """The frame (or field) for a tracker, from wherever it lies; valid until the frame is written to."""
        return GpuView(self._looks, frame) if self._here(frame.image) else self._cpu.view(frame)

    def _here(self, image: av.VideoFrame) -> bool:
        """Whether a picture lies on this GPU, in a form that the kernels know."""
        return (av_gpu.on_gpu(image) and av_gpu.native_format(image) in av_gpu.FORMATS
                and av_gpu.surface_of(image).device == self._owner.gpu.ordinal)

    def cut(self, frame: Frame, places: Sequence[tuple[Float, int]]) -> list[GpuCrops]:
        """One crop for each matrix and size; put on its way, not waited for."""
        if not places:
            return []
        held = self._steps.slots.take([size for _, size in places])
        try:
            image = frame.image if self._here(frame.image) else native_image(frame.image)
            form = layout(av_gpu.native_format(image))
            assert form is not None
            if drawable(form):
                self._cut(replace(frame, image=image), form, places, held)
            else:
                cut_on_host(self._cpu, self._steps, frame, places, held)
        except BaseException:
            self._steps.release(held)
            raise
        return [GpuCrops(face, np.array(matrix, np.float64)[None], held)
                for (matrix, _), face in zip(places, held.faces, strict=True)]

    def _cut(self, frame: Frame, form: Layout, places: Sequence[tuple[Float, int]], held: HeldSlots) -> None:
        slot, steps = held.slot, self._steps
        plans: list[tuple[CropPlan, list[FaceSlot]]] = []
        for size in dict.fromkeys(size for _, size in places):
            same = [n for n, (_, s) in enumerate(places) if s == size]
            matrices = np.stack([places[n][0] for n in same])
            plans.append((CropPlan(frame, form, matrices, size), [held.faces[n] for n in same]))
        upload: Callable[[Stream], None] | None = None
        if av_gpu.on_gpu(frame.image):
            lies = GpuSamples(frame, form)
            canvas = GpuFrame(frame.image, form, lies, 0, lies.memory)
        else:
            canvas, upload = self._load(frame, form, [plan.boxes for plan, _ in plans], slot)
        tables, scratch = steps.tables_of(frame.color), steps.scratch(slot, sum(plan.scratch for plan, _ in plans))
        job, at = LaunchList(), scratch.address if scratch else 0
        for plan, faces in plans:
            native = [face.native for face in faces] if tables else None
            job.extend(plan.job(canvas.lies, canvas.base, [face.crop for face in faces], native=native,
                                tables=tables.address if tables else 0, scratch=at))
            at += plan.scratch
        held.canvas = canvas
        steps.put_crops(held, job, before=upload, reads=[*canvas.memory, *([tables] if tables else [])],
                        writes=[scratch] if scratch else [])

    def _load(self, frame: Frame, form: Layout, reached: Sequence[dict[Role, Box]],
              slot: FrameSlot) -> tuple[GpuFrame, Callable[[Stream], None]]:
        """The samples around the faces of a picture of the host in pinned memory, and the step that brings them up."""
        boxes: dict[Role, Box] = {}
        for some in reached:
            for role, box in some.items():
                boxes[role] = _around(boxes[role], box) if role in boxes else box
        surface = StagedSamples(form, boxes)
        self._steps.slots.grow(slot.block, surface.nbytes)
        block = slot.block.on_gpu()
        surface.load(_views(frame, frame.image, form), slot.block.on_host().bytes())

        def upload(up: Stream) -> None:
            up.copy(block, slot.block.on_host(), surface.nbytes)

        return GpuFrame(frame.image, form, surface, block.address, (block,)), upload

    def to_host(self, crops: Sequence[Crops[Pixels]]) -> list[Crops[Float32]]:
        """Copies; see `Device.to_host`. Raises EngineError and DeviceLost."""
        if not crops:
            return []
        held = _held(crops[0])
        pixels = crops_to_host(self._steps, held, [c.pixels for c in crops if isinstance(c.pixels, FaceSlot)])
        self._steps.check(held.slot)
        return [Crops(p[None], c.matrices) for p, c in zip(pixels, crops, strict=True)]

    def cut_again(self, frame: Frame, crops: Sequence[Crops[Pixels]]) -> list[GpuCrops]:
        """`cut`, at the same places."""
        return self.cut(frame, [(c.matrices[0], c.size) for c in crops])

    def shape(self, faces: Sequence[ShapeTask]) -> list[GpuCorrection]:
        """`rtface.correct` of each face of one frame."""
        if not faces:
            return []
        held = _held(faces[0].crops)
        self._steps.check(held.slot)
        return self._shaper.shape(held, faces)

    def paste(self, frame: Frame, corrections: Sequence[Correction]) -> Frame:
        """Adds all corrections to the frame, and gives its slots back.

        Raises EngineError and DeviceLost; nothing was written then, except that a picture on the GPU may have been.
        """
        if not corrections:
            return frame
        here = [c for c in corrections if isinstance(c, GpuCorrection)]
        held = here[0].held
        try:
            self._steps.check(held.slot)
            seen = [c for c in here if c.box is not None]
            if not seen:
                return frame
            if held.canvas is None:
                return paste_on_host(self._cpu, self._steps, frame, seen, held)
            return self._paste(frame, seen, held, held.canvas)
        finally:
            self._steps.release(held)

    def _paste(self, frame: Frame, corrections: Sequence[GpuCorrection], held: HeldSlots, canvas: GpuFrame) -> Frame:
        slot, form, lies, owner = held.slot, canvas.form, canvas.lies, self._owner
        faces = [c.face for c in corrections]
        native = replace(frame, image=canvas.image)
        gray = partial(_gray, _views(frame, canvas.image, form), form) if isinstance(lies, StagedSamples) else None
        plan = PastePlan(native, form, np.stack([c.matrix for c in corrections]), [face.size for face in faces],
                         [c.box for c in corrections], gray, ask=isinstance(lies, GpuSamples))
        if not plan.boxes:
            return frame
        tables, scratch = self._steps.tables_of(frame.color), self._steps.scratch(slot, plan.scratch)
        job = uncurve_job(frame.color, [(f.correction, f.native, f.correction, f.size) for f in faces],
                          tables.address if tables else 0)
        job.extend(plan.job(lies, canvas.base, [f.correction for f in faces], [f.mask for f in faces],
                            scratch=scratch.address if scratch else 0))
        memories = list({id(f.memory): f.memory for f in faces}.values())

        def end() -> None:
            """Brings down what may have changed; there is nothing to bring of a picture on the GPU."""
            owner.compute.record(slot.computed)
            owner.down.wait(slot.computed)
            for at, nbytes in lies.spans(plan.boxes) if isinstance(lies, StagedSamples) else []:
                owner.down.copy(slot.block.on_host(), slot.block.on_gpu(), nbytes, to_at=at, source_at=at)
            owner.down.record(slot.done)

        self._steps.put_job(slot, "paste", job, reads=[*memories, *([tables] if tables else [])],
                            writes=[*canvas.memory, *memories, *([scratch] if scratch else [])], after=end).result()
        slot.done.synchronize()
        held.settled = True
        if isinstance(lies, GpuSamples):
            return replace(frame, touched=True)
        if canvas.image is not frame.image:
            if not av_gpu.on_gpu(frame.image):
                self._cpu.say_converted(frame)
            frame = native
        frame.image.make_writable()
        lies.store(_views(frame, frame.image, form), slot.block.on_host().bytes(), plan.boxes)
        return replace(frame, touched=True)

    def drop(self, crops: Sequence[Crops[Pixels]]) -> None:
        """Gives their slots back when the GPU has done with them."""
        for held in {id(c.frame): c.frame for c in crops if isinstance(c, GpuCrops) and c.frame}.values():
            self._steps.release(held)

    def close(self) -> None:
        """Frees what it holds, frames in hand too; safe to call twice. The owner stays."""
        if self._closed:
            return
        self._closed = True

        def free() -> None:
            self._steps.close()
            self._shaper.close()
            self._looks.close()

        try:
            self._owner.run(free).result()
        except EngineError as error:
            log.debug("the GPU's memory was not freed: %s", error)


def _held(crops: Crops[Pixels]) -> HeldSlots:
    assert isinstance(crops, GpuCrops) and crops.frame is not None
    return crops.frame


def _views(frame: Frame, image: av.VideoFrame, form: Layout) -> dict[Role, Samples]:
    return planes(image, form, field_parity(frame.display, frame.field))


def _gray(views: dict[Role, Samples], form: Layout, box: Box) -> bool:
    return all(neutral(views[role], box, form) for role in ("u", "v"))


def _around(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])
