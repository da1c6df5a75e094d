"""Copies between a frame's slots on a GPU and the host: crops, corrections and restored crops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from rtface.device.cuda.face_slots import FaceSlot
from rtface.device.cuda.frame_slots import FrameSlot, FrameSlots
from rtface.device.cuda.gpu import Event, Stream
from rtface.device.cuda.submission import Submission
from rtface.frame import Float32

FaceFloats = tuple[FaceSlot, int, int]
"""A face, the address of some of its floats, and how many."""


def crops_to_host(steps: Submission, slots: FrameSlots, faces: Sequence[FaceSlot]) -> list[Float32]:
    """Crops of a frame, float32 3×S×S, copied; waits for them, and for no network."""
    slot, urgent = slots.frame, steps.streams.urgent
    brought = _bring(
        steps,
        slot,
        [(face, face.crop, 3 * face.size**2) for face in faces],
        urgent,
        lambda: urgent.wait(slot.cropped),
        slot.fetched,
    )
    return [values.reshape(3, face.size, face.size) for face, values in zip(faces, brought, strict=True)]


def correction_to_host(steps: Submission, slots: FrameSlots, face: FaceSlot) -> Float32:
    """A correction, float32 S×S×3; waits for it."""
    slot, streams = slots.frame, steps.streams
    slot.uploaded.synchronize()  # the same memory may still be on its way up

    def begin() -> None:
        streams.finish.record(slot.computed)
        streams.down.wait(slot.computed)

    (pixels,) = _bring(steps, slot, [(face, face.correction, 3 * face.size**2)], streams.down, begin, slot.done)
    return np.ascontiguousarray(pixels.reshape(3, face.size, face.size).transpose(1, 2, 0))


def outputs_to_host(steps: Submission, slots: FrameSlots, faces: Sequence[FaceSlot]) -> list[tuple[Float32, Float32]]:
    """Crops and engines' answers, float32 3×S×S; waits for them."""
    slot, streams = slots.frame, steps.streams
    slot.uploaded.synchronize()  # the same memory may still be on its way up

    def begin() -> None:
        for event in slots.inferred:
            streams.down.wait(event)

    pieces = [(face, at, 3 * face.size**2) for face in faces for at in (face.crop, face.restored)]
    brought = _bring(steps, slot, pieces, streams.down, begin, slot.done)
    shapes = [(3, face.size, face.size) for face in faces]
    return [(c.reshape(s), r.reshape(s)) for c, r, s in zip(brought[::2], brought[1::2], shapes, strict=True)]


def _bring(
    steps: Submission,
    slot: FrameSlot,
    pieces: Sequence[FaceFloats],
    stream: Stream,
    begin: Callable[[], None],
    done: Event,
) -> list[Float32]:
    """Copies of pieces, made on a stream after what `begin` puts there."""
    steps.pools.grow(slot.exchange, 4 * sum(count for *_, count in pieces))
    pinned, ends = slot.exchange.on_host(), np.cumsum([0, *(count for *_, count in pieces)])

    def down() -> None:
        begin()
        for (face, address, count), at in zip(pieces, ends, strict=False):
            stream.copy(pinned, face.memory, 4 * count, to_at=4 * int(at), source_at=address - face.memory.address)
        stream.record(done)

    steps.streams.run(down).result()
    done.synchronize()
    values = pinned.bytes().view(np.float32)
    return [values[start:end].copy() for start, end in pairwise(ends)]


def outputs_to_gpu(
    steps: Submission, slot: FrameSlot, outputs: Sequence[tuple[FaceSlot, Float32]]
) -> Callable[[Stream], None]:
    """The step that uploads answers of the host, float32 3×S×S, to the addresses of an engine's answers."""
    steps.pools.grow(slot.outputs, sum(output.nbytes for _, output in outputs))
    pinned, at = slot.outputs.on_host(), 0
    copies, view = list[tuple[FaceSlot, int, int]](), pinned.bytes()
    for face, values in outputs:
        view[at : at + values.nbytes] = values.reshape(-1).view(np.uint8)
        copies.append((face, at, values.nbytes))
        at += values.nbytes

    def upload(up: Stream) -> None:
        up.wait(slot.cropped)  # the crop is in the same piece of memory
        for face, source_at, nbytes in copies:
            up.copy(face.memory, pinned, nbytes, to_at=face.restored - face.memory.address, source_at=source_at)

    return upload
