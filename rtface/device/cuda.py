"""The frame path on a card: crops out of native planes, corrections into them, without a frame ever being converted.

Of a frame in the host's memory only the region around its faces goes up, and only samples that may have changed come
down. What the kernels cannot do (big-endian samples) is done by the CPU device, with the same result.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rtface.device.card import Memory, Stream
from rtface.device.card_shaping import CardShaper
from rtface.device.composite import neutral
from rtface.device.constants import Constants
from rtface.device.cpu import CpuDevice, CpuView, native_image
from rtface.device.cropping import CropPlan
from rtface.device.faces import FaceSlot
from rtface.device.frame_slots import Canvas, CardCrops, FrameSlot, Held, Slots
from rtface.device.host_shaping import bring_corrections, shape_on_host
from rtface.device.kernels import Job, Step, curve_tables, uncurve_job
from rtface.device.owner import Owner
from rtface.device.pasting import PastePlan
from rtface.device.planes import Layout, Role, Samples, layout, planes
from rtface.device.slots import Growing
from rtface.device.surface import Box, Surface, drawable
from rtface.device.transfer import curve_of
from rtface.errors import EngineError
from rtface.frame import Bytes, Color, Crops, Float, Frame
from rtface.geometry import field_parity
from rtface.protocols import Correction, Retouch

if TYPE_CHECKING:
    import av

log = logging.getLogger("rtface")


class CudaDevice:
    """See the module (`protocols.Device`).

    Args:
        owner: of the card.
        warn: as for `CpuDevice`.
    """

    def __init__(self, owner: Owner, warn: Callable[[str, str], None] | None = None) -> None:
        self._owner = owner
        self._cpu = CpuDevice(warn=warn)
        self._slots = Slots(owner)
        self._constants = Constants(owner)
        self._shaper = CardShaper(owner, self._slots, self._constants, self._put)
        self._scratch = owner.run(lambda: Growing(owner.card)).result()
        self._closed = False

    @property
    def name(self) -> str:
        """"cuda"."""
        return "cuda"

    def view(self, frame: Frame) -> CpuView:
        """The frame (or field) for a tracker, from the host's memory."""
        return self._cpu.view(frame)

    def cut(self, frame: Frame, places: Sequence[tuple[Float, int]]) -> list[Crops]:
        """One crop for each matrix and size; put on its way, not waited for."""
        if not places:
            return []
        held = self._slots.take([size for _, size in places])
        try:
            image = native_image(frame.image)
            form = layout(image.format.name)
            assert form is not None
            if drawable(form):
                self._cut(replace(frame, image=image), form, places, held)
            else:
                self._cut_on_host(frame, places, held)
        except BaseException:
            self._release(held)
            raise
        return [CardCrops(face, np.array(matrix, np.float64)[None], [(0, n)], held)
                for n, ((matrix, _), face) in enumerate(zip(places, held.faces, strict=True))]

    def _cut(self, frame: Frame, form: Layout, places: Sequence[tuple[Float, int]], held: Held) -> None:
        slot = held.slot
        plans: list[tuple[CropPlan, list[FaceSlot]]] = []
        for size in dict.fromkeys(size for _, size in places):
            same = [n for n, (_, s) in enumerate(places) if s == size]
            matrices = np.stack([places[n][0] for n in same])
            plans.append((CropPlan(frame, form, matrices, size), [held.faces[n] for n in same]))
        boxes: dict[Role, Box] = {}
        for plan, _ in plans:
            for role, box in plan.boxes.items():
                boxes[role] = _around(boxes[role], box) if role in boxes else box
        surface = Surface(form, boxes)
        self._slots.grow(slot.block, surface.nbytes)
        scratch = self._need_scratch(sum(plan.scratch for plan, _ in plans))
        block, tables = slot.block.on_card(), self._tables_of(frame.color)
        job, at = Job(), scratch.address if scratch else 0
        for plan, faces in plans:
            native = [face.native for face in faces] if tables else None
            job.extend(plan.job(surface, block.address, [face.crop for face in faces], native=native,
                                tables=tables.address if tables else 0, scratch=at))
            at += plan.scratch
        surface.load(_views(frame, frame.image, form), slot.block.on_host().bytes())
        held.canvas = Canvas(frame.image, form, surface)

        def samples(up: Stream) -> None:
            up.copy(block, slot.block.on_host(), surface.nbytes)

        self._put_job(slot, "crop", job, before=samples, reads=[block, *([tables] if tables else [])],
                  writes=[*({face.memory for face in held.faces}), *([scratch] if scratch else [])])

    def _put_job(self, slot: FrameSlot, step: str, job: Job, **more: Any) -> Future[None]:
        self._slots.grow(slot.steps[step], max(job.nbytes, 1))
        return self._put(slot, step, job.descriptors, job.steps(slot.steps[step].on_card().address), **more)

    def _put(self, slot: FrameSlot, step: str, data: Bytes, kernels: Sequence[Step], *, reads: Sequence[Memory],
             writes: Sequence[Memory], before: Callable[[Stream], None] | None = None,
             after: Callable[[], None] | None = None) -> Future[None]:
        """Has a step's data copied up and its kernels run after that; `before` goes up with them, `after` follows."""
        owner, stage = self._owner, slot.steps[step]
        memory = stage.on_card()
        if len(data):
            stage.on_host().bytes()[:len(data)] = data

        def put() -> None:
            up, compute = owner.up, owner.compute
            if before is not None:
                before(up)
            if len(data):
                up.copy(memory, stage.on_host(), len(data))
            up.record(slot.uploaded)
            compute.wait(slot.uploaded)
            for k in kernels:
                compute.launch(k.kernel, k.grid, k.block, *k.args, reads=[memory, *reads], writes=writes)
            if after is not None:
                after()

        promise = owner.run(put)
        promise.add_done_callback(lambda done: _note(slot, done.exception()))
        return promise

    def _check(self, slot: FrameSlot) -> None:
        """Raises what a step before this one met."""
        failure, slot.failure = slot.failure, None
        if failure is not None:
            raise failure

    def shape(self, faces: Sequence[Retouch]) -> list[Correction]:
        """`rtface.correct` of each face of one frame."""
        if not faces:
            return []
        held = _held(faces[0].crops)
        self._check(held.slot)
        if any(face.how.average for face in faces):  # the average over time is the host's
            return shape_on_host(self._owner, self._slots, held, faces)
        return self._shaper.shape(held, faces)

    def paste(self, frame: Frame, corrections: Sequence[Correction]) -> Frame:
        """Adds all corrections to the frame, and gives its slots back.

        Raises EngineError and DeviceLost; nothing was written then.
        """
        if not corrections:
            return frame
        held: Held = corrections[0].pixels.held
        try:
            self._check(held.slot)
            seen = [c for c in corrections if c.mask is not None]
            if not seen:
                return frame
            if held.canvas is None:
                return self._paste_on_host(frame, seen, held)
            return self._paste(frame, seen, held, held.canvas)
        finally:
            self._release(held)

    def _paste(self, frame: Frame, corrections: Sequence[Correction], held: Held, canvas: Canvas) -> Frame:
        slot, form, surface = held.slot, canvas.form, canvas.surface
        faces: list[FaceSlot] = [c.pixels.face for c in corrections]
        native, views = replace(frame, image=canvas.image), _views(frame, canvas.image, form)

        def gray(box: Box) -> bool:
            return all(neutral(views[role], box, form) for role in ("u", "v"))

        plan = PastePlan(native, form, np.stack([c.matrix for c in corrections]), [face.size for face in faces],
                         [c.mask for c in corrections], gray)
        if not plan.boxes:
            return frame
        block, tables, scratch = slot.block.on_card(), self._tables_of(frame.color), self._need_scratch(plan.scratch)
        job = uncurve_job(frame.color, [(f.correction, f.native, f.correction, f.size) for f in faces],
                          tables.address if tables else 0)
        job.extend(plan.job(surface, block.address, [f.correction for f in faces], [f.mask for f in faces],
                            scratch=scratch.address if scratch else 0))
        owner, memories = self._owner, list({id(f.memory): f.memory for f in faces}.values())

        def bring_down() -> None:
            owner.compute.record(slot.computed)
            owner.down.wait(slot.computed)
            for at, nbytes in surface.spans(plan.boxes):
                owner.down.copy(slot.block.on_host(), block, nbytes, to_at=at, source_at=at)
            owner.down.record(slot.done)

        self._put_job(slot, "paste", job, reads=[*memories, *([tables] if tables else [])],
                  writes=[block, *memories, *([scratch] if scratch else [])], after=bring_down).result()
        slot.done.synchronize()
        held.settled = True
        if canvas.image is not frame.image:
            self._cpu.say_converted(frame)
            frame = native
        frame.image.make_writable()
        surface.store(_views(frame, frame.image, form), slot.block.on_host().bytes(), plan.boxes)
        return replace(frame, touched=True)

    def _cut_on_host(self, frame: Frame, places: Sequence[tuple[Float, int]], held: Held) -> None:
        """Crops by the CPU, put on the card for engines that want them there."""
        crops = self._cpu.cut(frame, places)
        slot, owner = held.slot, self._owner
        self._slots.grow(slot.exchange, sum(12 * size * size for _, size in places))
        copies: list[tuple[FaceSlot, int, int]] = []
        at, pinned = 0, slot.exchange.on_host()
        view = pinned.bytes()
        for face, crop in zip(held.faces, crops, strict=True):
            nbytes = crop.pixels.nbytes
            view[at:at + nbytes] = crop.pixels.reshape(-1).view(np.uint8)
            copies.append((face, at, nbytes))
            at += nbytes

        def put() -> None:
            for face, start, nbytes in copies:
                owner.up.copy(face.memory, pinned, nbytes, to_at=face.crop - face.memory.address, source_at=start)
            owner.up.record(slot.uploaded)
            owner.compute.wait(slot.uploaded)

        owner.run(put).result()

    def _paste_on_host(self, frame: Frame, corrections: Sequence[Correction], held: Held) -> Frame:
        parts = bring_corrections(self._owner, self._slots, held, [c.pixels.face for c in corrections])
        return self._cpu.paste(frame, [Correction(pixels, mask, c.matrix)
                                       for (pixels, mask), c in zip(parts, corrections, strict=True)])

    def drop(self, crops: Sequence[Crops]) -> None:
        """Gives their slots back when the card has done with them."""
        for held in {id(c.frame): c.frame for c in crops if isinstance(c, CardCrops) and c.frame}.values():
            self._release(held)

    def _release(self, held: Held) -> None:
        if held.given:
            return
        held.given = True
        owner, slot = self._owner, held.slot

        def settle() -> None:
            for stream, event in ((owner.up, slot.uploaded), (owner.compute, slot.computed), (owner.down, slot.done)):
                stream.record(event)

        try:
            if not held.settled:
                owner.run(settle).result()
                for event in (slot.uploaded, slot.computed, slot.done):
                    event.synchronize()
        except EngineError:  # a lost card: its slots are lost with it
            return
        slot.failure = None
        self._slots.give(held)

    def _need_scratch(self, nbytes: int) -> Memory | None:
        """Memory that only the compute stream uses, so that one piece serves all frames."""
        if not nbytes:
            return None
        if nbytes > self._scratch.nbytes:
            def grow() -> None:
                done = self._owner.card.event()
                self._owner.compute.record(done)
                done.synchronize()
                self._scratch.need(nbytes)

            self._owner.run(grow).result()
        return self._scratch.on_card()

    def _tables_of(self, color: Color) -> Memory | None:
        """The curve of a frame's colour, on the card; None for plain SDR."""
        if curve_of(color) is None:
            return None
        return self._constants.of((color.transfer, color.primaries == 9), lambda: curve_tables(color))

    def close(self) -> None:
        """Frees what it holds, frames in hand too; safe to call twice. The owner stays."""
        if self._closed:
            return
        self._closed = True

        def free() -> None:
            for stream in (self._owner.up, self._owner.compute, self._owner.down):
                done = self._owner.card.event()
                stream.record(done)
                done.synchronize()
            self._slots.close()
            self._scratch.close()
            self._constants.close()

        try:
            self._owner.run(free).result()
        except EngineError as error:
            log.debug("the card's memory was not freed: %s", error)


def _note(slot: FrameSlot, error: BaseException | None) -> None:
    if error is not None and slot.failure is None:
        slot.failure = error


def _held(crops: Crops) -> Held:
    assert isinstance(crops, CardCrops) and crops.frame is not None
    return crops.frame


def _views(frame: Frame, image: av.VideoFrame, form: Layout) -> dict[Role, Samples]:
    return planes(image, form, field_parity(frame.display, frame.field))


def _around(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])
