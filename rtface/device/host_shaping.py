"""Faces that are shaped by the host although they lie on a card: crops and answers come down, corrections go up.

For engines whose correction needs more than the card's kernels do (the average over time of engines without memory).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rtface.correct import face_mask, irises, shape, support_box
from rtface.device.faces import MAP_VALUES, FaceSlot
from rtface.device.frame_slots import Held, OnCard, Slots
from rtface.device.owner import Owner
from rtface.frame import Float32
from rtface.protocols import Correction, Retouch


def shape_on_host(owner: Owner, slots: Slots, held: Held, faces: Sequence[Retouch]) -> list[Correction]:
    """`rtface.correct.shape` of each face. Raises EngineError where an answer holds NaN or infinity."""
    places: list[FaceSlot] = [face.crops.pixels for face in faces]
    parts = _bring(owner, slots, held, [(p, (p.crop, 3 * p.size**2), (p.restored, 3 * p.size**2),
                                         (p.occlusion, MAP_VALUES)) for p in places])
    shaped: list[tuple[Float32, Float32]] = []
    out: list[Correction] = []
    for face, place, (crop, restored, occlusion) in zip(faces, places, parts, strict=True):
        size, matrix = place.size, face.crops.matrices[0]
        hidden = None if face.restored is None else face.restored.occlusion
        picture = (3, size, size)
        pixels, mask = shape(restored.reshape(picture), crop.reshape(picture), face_mask(size, face.mesh), face.state,
                             face.how, time=face.time, seed=face.seed,
                             scale=float(np.sqrt(abs(np.linalg.det(matrix[:, :2])))),
                             occlusion=None if hidden is None else hidden.spread(occlusion),
                             eyes=irises(size, face.mesh))
        shaped.append((pixels, mask))
        out.append(Correction(OnCard(held, place), support_box(mask), matrix))
    _take_up(owner, slots, held, places, shaped)
    return out


def bring_corrections(owner: Owner, slots: Slots, held: Held,
                      places: Sequence[FaceSlot]) -> list[tuple[Float32, Float32]]:
    """Corrections, float32 S×S×3, and their masks, S×S."""
    parts = _bring(owner, slots, held, [(p, (p.correction, 3 * p.size**2), (p.mask, p.size**2)) for p in places])
    return [(np.ascontiguousarray(pixels.reshape(3, p.size, p.size).transpose(1, 2, 0)), mask.reshape(p.size, p.size))
            for p, (pixels, mask) in zip(places, parts, strict=True)]


def _bring(owner: Owner, slots: Slots, held: Held,
           wanted: Sequence[tuple[FaceSlot, *tuple[tuple[int, int], ...]]]) -> list[list[Float32]]:
    """Copies of float32 values at addresses of faces."""
    slot, at = held.slot, 0
    slot.uploaded.synchronize()  # the same memory may still be on its way up
    slots.grow(slot.exchange, sum(4 * count for _, *parts in wanted for _, count in parts))
    pinned = slot.exchange.on_host()
    copies: list[tuple[FaceSlot, int, int, int]] = []
    for place, *parts in wanted:
        for address, count in parts:
            copies.append((place, address, at, 4 * count))
            at += 4 * count

    def down() -> None:
        owner.compute.record(slot.computed)
        owner.down.wait(slot.computed)
        for place, address, start, nbytes in copies:
            owner.down.copy(pinned, place.memory, nbytes, to_at=start, source_at=address - place.memory.address)
        owner.down.record(slot.done)

    owner.run(down).result()
    slot.done.synchronize()
    values = iter(copies)
    view = pinned.bytes()
    return [[view[start:start + nbytes].view(np.float32).copy()
             for _, _, start, nbytes in (next(values) for _ in parts)] for _, *parts in wanted]


def _take_up(owner: Owner, slots: Slots, held: Held, places: Sequence[FaceSlot],
             shaped: Sequence[tuple[Float32, Float32]]) -> None:
    slot, at = held.slot, 0
    slots.grow(slot.exchange, sum(16 * place.size**2 for place in places))
    pinned = slot.exchange.on_host()
    view = pinned.bytes()
    copies: list[tuple[FaceSlot, int, int, int]] = []
    for place, (pixels, mask) in zip(places, shaped, strict=True):
        for address, values in ((place.correction, pixels.transpose(2, 0, 1)), (place.mask, mask)):
            data = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint8)
            view[at:at + len(data)] = data
            copies.append((place, address, at, len(data)))
            at += len(data)

    def up() -> None:
        for place, address, start, nbytes in copies:
            owner.up.copy(place.memory, pinned, nbytes, to_at=address - place.memory.address, source_at=start)
        owner.up.record(slot.uploaded)
        owner.compute.wait(slot.uploaded)

    owner.run(up).result()
