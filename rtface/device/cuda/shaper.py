"""Shapes corrections (`rtface.correct`) on a GPU. The host only computes the decisions from measures.

For each face, about 250 kB of measures are downloaded and 45 kB of controls uploaded; the images stay on the GPU.
Answers computed on the host (`rtface.enhance.keyframes.scheduler`) and answers for stills are uploaded first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from rtface.correct import FaceRegion, decide, face_region_of, irises, openings_of, state_of
from rtface.correct.flecks import hold_spots
from rtface.correct.grain import SHEET, sheet
from rtface.correct.mask import small_mask
from rtface.device.cpu.device import host_array
from rtface.device.cuda import shaping
from rtface.device.cuda.averaging import GpuAverager
from rtface.device.cuda.frame_slots import FaceSlot, FrameSlots, GpuCorrection
from rtface.device.cuda.gpu import Memory, Stream
from rtface.device.cuda.kernels import KernelCall
from rtface.device.cuda.shape_structs import CONTROL, FACE
from rtface.device.cuda.submission import Submission
from rtface.device.cuda.transfers import outputs_to_gpu, outputs_to_host
from rtface.frame import Bytes, Float32
from rtface.protocols import HeadMap, ShapeTask


class GpuShaper:
    """Shapes the corrections of a frame's faces.

    Args:
        submission: the device's object that submits work to the GPU.
    """

    def __init__(self, submission: Submission) -> None:
        self._submission, self._averager = submission, GpuAverager(submission)

    def shape(self, slots: FrameSlots, faces: Sequence[ShapeTask]) -> list[GpuCorrection]:
        """Shapes the corrections of one frame's faces. Raises EngineError if an answer has NaN or infinity."""
        face_slots = [slot_of(face) for face in faces]
        areas = [_area(face) for face in faces]
        averaged = [
            (face, face_slot, area.box if area else (0, 0, face_slot.size, face_slot.size))
            for face, face_slot, area in zip(faces, face_slots, areas, strict=True)
            if face.shaping.average
        ]
        if averaged:
            self._averager.average(slots, averaged)
        active = [
            (face, face_slot, area)
            for face, face_slot, area in zip(faces, face_slots, areas, strict=True)
            if area is not None and face.shaping.strength > 0.0 and face.restored is not None
        ]
        if active:
            self._shape(slots, active)
        shaped = {id(face) for face, *_ in active}
        return [
            GpuCorrection(slots, face_slot, area.box if area and id(face) in shaped else None, face.crops.matrices[0])
            for face, face_slot, area in zip(faces, face_slots, areas, strict=True)
        ]

    def _shape(self, slots: FrameSlots, active: Sequence[tuple[ShapeTask, FaceSlot, FaceRegion]]) -> None:
        slot, memories = slots.frame, list({id(s.memory): s.memory for _, s, _ in active}.values())
        largest, count = max(face_slot.size for _, face_slot, _ in active), len(active)
        match = any(face.shaping.grain != "none" for face, *_ in active)
        detail = any(face.shaping.detail for face, *_ in active)
        measure_bytes = [4 * shaping.measure_floats(face_slot.size) for _, face_slot, _ in active]
        self._submission.pools.grow(slot.measures, sum(measure_bytes))
        measure_memory = slot.measures.on_gpu()
        masks, data, offset = self._masks(active), list[bytes](), count * FACE.itemsize
        answers = [
            face.restored if face.restored and not isinstance(face.restored.pixels, FaceSlot) else None
            for face, *_ in active
        ]  # only answers on the host need an upload
        occlusions = [a.occlusion if a and isinstance(a.occlusion, np.ndarray) else None for a in answers]
        self._submission.pools.grow(
            slot.steps["measure"], offset + sum(m.nbytes for m in (*masks, *occlusions) if m is not None)
        )
        base = slot.steps["measure"].on_gpu().address
        rows, constants = list[bytes](), list[Memory]()
        for n, (face, face_slot, area) in enumerate(active):
            mask = masks[n]
            if mask is None:  # without a mesh: the template's mask, a constant on the GPU
                size, region = face_slot.size, face.shaping.region
                constant = self._submission.constants.of(
                    (f"{region} mask", size), partial(small_mask, size, None, region)
                )
                constants.append(constant)
                mask_at, mask_side = constant.address, face_slot.size
            else:
                mask_at, mask_side = base + offset, len(mask)
                data.append(mask.tobytes())
                offset += mask.nbytes
            addresses = shaping.FaceAddresses(
                face_slot.restored,
                face_slot.crop,
                face_slot.correction,
                face_slot.mask,
                mask_at,
                mask_side,
                measure_memory.address + sum(measure_bytes[:n]),
                face_slot.scratch,
            )
            if answers[n] is not None:
                if (occlusion := occlusions[n]) is not None:
                    addresses = replace(
                        addresses,
                        occlusion=base + offset,
                        maps=occlusion.shape[1:],
                        region=(0, 0, face_slot.size, face_slot.size),
                    )
                    data.append(np.asarray(occlusion, np.float32).tobytes())
                    offset += occlusion.nbytes
            elif face.restored is not None and isinstance(head := face.restored.occlusion, HeadMap):
                addresses = replace(addresses, occlusion=face_slot.occlusion, maps=head.shape, region=head.region)
            rows.append(shaping.face_of(area, face.shaping, addresses))
        uploads = [
            (face_slot, host_array(answer.pixels)[0])
            for (_, face_slot, _), answer in zip(active, answers, strict=True)
            if answer
        ]
        uploads += self._limit_spots(slots, [(slot, area) for face, slot, area in active if face.shaping.still])
        self._measure(
            slots,
            np.frombuffer(b"".join([*rows, *data]), np.uint8),
            shaping.measure_launches(largest, count, base, match=match, detail=detail),
            memories,
            constants,
            sum(measure_bytes),
            outputs_to_gpu(self._submission, slot, uploads) if uploads else None,
        )
        values = slot.measures.on_host().bytes()
        controls: list[bytes] = []
        for n, (face, _, area) in enumerate(active):
            measures: Float32 = values[sum(measure_bytes[:n]) : sum(measure_bytes[: n + 1])].view(np.float32)
            decision = decide(
                shaping.unpack(measures, area, face.shaping),
                area,
                state_of(face),
                face.shaping,
                time=face.time,
                seed=face.seed,
            )
            grain, sheet_at = decision.grain, 0
            if grain and grain.synthetic:
                name = "grain", grain.coarseness
                constants.append(self._submission.constants.of(name, lambda k=name[1]: sheet(k)[:SHEET, :SHEET]))
                sheet_at = constants[-1].address
            controls.append(shaping.control_of(decision, sheet_at))
        self._submission.pools.grow(slot.steps["apply"], count * CONTROL.itemsize)
        launches = shaping.apply_launches(largest, count, base, slot.steps["apply"].on_gpu().address)
        self._submission.put(
            slot,
            "apply",
            np.frombuffer(b"".join(controls), np.uint8),
            launches,
            reads=[slot.steps["measure"].on_gpu(), *constants],
            writes=memories,
        )

    def _limit_spots(
        self, slots: FrameSlots, faces: Sequence[tuple[FaceSlot, FaceRegion]]
    ) -> list[tuple[FaceSlot, Float32]]:
        """Returns the answers for stills after limiting their spots on the host."""
        images = outputs_to_host(self._submission, slots, [slot for slot, _ in faces]) if faces else []
        limited: list[tuple[FaceSlot, Float32]] = []
        for (face_slot, area), (crop, output) in zip(faces, images, strict=True):
            output -= crop
            hold_spots(output, crop, area)
            limited.append((face_slot, output + crop))
        return limited

    def _measure(
        self,
        slots: FrameSlots,
        data: Bytes,
        launches: Sequence[KernelCall],
        memories: Sequence[Memory],
        constants: Sequence[Memory],
        nbytes: int,
        before: Callable[[Stream], None] | None,
    ) -> None:
        """Runs the measuring kernels and waits for their results. `before` runs before the upload, on its stream."""
        streams, slot = self._submission.streams, slots.frame
        measure_memory = slot.measures.on_gpu()

        def download() -> None:
            streams.finish.record(slot.computed)
            streams.down.wait(slot.computed)
            streams.down.copy(slot.measures.on_host(), measure_memory, nbytes)
            streams.down.record(slot.done)

        done = self._submission.put(
            slot,
            "measure",
            data,
            launches,
            before=before,
            reads=constants,
            writes=[measure_memory, *memories],
            after=download,
            waits=slots.inferred,
        )
        done.result()
        slot.done.synchronize()

    def close(self) -> None:
        """Frees the averages of the faces. The GPU must be idle. Call it only on the stream thread."""
        self._averager.close()

    @staticmethod
    def _masks(active: Sequence[tuple[ShapeTask, FaceSlot, FaceRegion]]) -> list[Float32 | None]:
        """Draws the small masks of faces that have a mesh."""
        return [
            None if face.mesh is None else np.ascontiguousarray(small_mask(slot.size, face.mesh, face.shaping.region))
            for face, slot, _ in active
        ]


def slot_of(face: ShapeTask) -> FaceSlot:
    """Returns the slot that contains a face's crop."""
    pixels = face.crops.pixels
    assert isinstance(pixels, FaceSlot)
    return pixels


def _area(face: ShapeTask) -> FaceRegion | None:
    size = face.crops.size
    return face_region_of(
        small_mask(size, face.mesh, face.shaping.region),
        size,
        irises(size, face.mesh),
        face.scale,
        openings_of(face.mesh, size),
    )
