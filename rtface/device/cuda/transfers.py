"""Copies between a frame's slots on a GPU and the host: crops, corrections and restored crops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from rtface.device.cuda.face_slots import FaceSlot
from rtface.device.cuda.frame_slots import FrameSlot, HeldSlots, SlotPools
from rtface.device.cuda.gpu import Event, Stream
from rtface.device.cuda.submission import Submission
from rtface.frame import Float32

FaceFloats = tuple[FaceSlot, int, int]
"""A face, the address of some of its floats, and how many."""


def crops_to_host(steps: Submission, held: HeldSlots, faces: Sequence[FaceSlot]) -> list[Float32]:
    """Crops of a frame, float32 3×S×S, copied; waits for them, and for no network."""
    slot, look = held.slot, steps.owner.look
    brought = _bring(steps, slot, [(face, face.crop, 3 * face.size**2) for face in faces], look,
                     lambda: look.wait(slot.cropped), slot.looked)
    return [values.reshape(3, face.size, face.size) for face, values in zip(faces, brought, strict=True)]


def corrections_to_host(steps: Submission, held: HeldSlots, faces: Sequence[FaceSlot]) -> list[tuple[Float32, Float32]]:
    """Corrections, float32 S×S×3, and their masks, S×S; waits for them."""
    slot, owner = held.slot, steps.owner
    slot.uploaded.synchronize()  # the same memory may still be on its way up

    def begin() -> None:
        owner.compute.record(slot.computed)
        owner.down.wait(slot.computed)

    brought = _bring(steps, slot, [piece for face in faces for piece in (
        (face, face.correction, 3 * face.size**2), (face, face.mask, face.size**2))], owner.down, begin, slot.done)
    return [(np.ascontiguousarray(pixels.reshape(3, face.size, face.size).transpose(1, 2, 0)),
             mask.reshape(face.size, face.size))
            for face, pixels, mask in zip(faces, brought[::2], brought[1::2], strict=True)]


def _bring(steps: Submission, slot: FrameSlot, pieces: Sequence[FaceFloats], stream: Stream, begin: Callable[[], None],
           done: Event) -> list[Float32]:
    """Copies of pieces, made on a stream after what `begin` puts there."""
    steps.slots.grow(slot.exchange, 4 * sum(count for *_, count in pieces))
    pinned, ends = slot.exchange.on_host(), np.cumsum([0, *(count for *_, count in pieces)])

    def down() -> None:
        begin()
        for (face, address, count), at in zip(pieces, ends, strict=False):
            stream.copy(pinned, face.memory, 4 * count, to_at=4 * int(at), source_at=address - face.memory.address)
        stream.record(done)

    steps.owner.run(down).result()
    done.synchronize()
    values = pinned.bytes().view(np.float32)
    return [values[start:end].copy() for start, end in pairwise(ends)]


def answers_to_gpu(slots: SlotPools, slot: FrameSlot, answers: Sequence[tuple[FaceSlot, Float32]]) -> Callable[
        [Stream], None]:
    """The step that brings answers of the host, float32 3×S×S, to where an engine's would lie."""
    slots.grow(slot.answers, sum(answer.nbytes for _, answer in answers))
    pinned, copies, at = slot.answers.on_host(), list[tuple[FaceSlot, int, int]](), 0
    view = pinned.bytes()
    for face, answer in answers:
        view[at:at + answer.nbytes] = answer.reshape(-1).view(np.uint8)
        copies.append((face, at, answer.nbytes))
        at += answer.nbytes

    def upload(up: Stream) -> None:
        up.wait(slot.cropped)  # the crop lies in the same piece of memory
        for face, start, nbytes in copies:
            up.copy(face.memory, pinned, nbytes, to_at=face.restored - face.memory.address, source_at=start)

    return upload
