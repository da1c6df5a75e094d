"""Copies crops, answers and corrections between GPU slots and the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from rtface.device.cuda.frame_slots import FaceSlot, FrameSlot, FrameSlots
from rtface.device.cuda.gpu import Event, Stream
from rtface.device.cuda.submission import Submission
from rtface.frame import Float32

FaceFloats = tuple[FaceSlot, int, int]
"""A face, the address of some of its floats, and their number."""


def crops_to_host(submission: Submission, slots: FrameSlots, faces: Sequence[FaceSlot]) -> list[Float32]:
    """Downloads crops of a frame, float32 3×S×S. Waits for the crops, but not for networks."""
    slot, urgent = slots.frame, submission.streams.urgent
    crops = _download(
        submission,
        slot,
        [(face, face.crop, 3 * face.size**2) for face in faces],
        urgent,
        lambda: urgent.wait(slot.cropped),
        slot.fetched,
    )
    return [values.reshape(3, face.size, face.size) for face, values in zip(faces, crops, strict=True)]


def correction_to_host(submission: Submission, slots: FrameSlots, face: FaceSlot) -> Float32:
    """Downloads a correction, float32 S×S×3, and waits for it."""
    slot, streams = slots.frame, submission.streams
    slot.uploaded.synchronize()  # an upload may still read the same memory

    def begin() -> None:
        streams.finish.record(slot.computed)
        streams.down.wait(slot.computed)

    (pixels,) = _download(submission, slot, [(face, face.correction, 3 * face.size**2)], streams.down, begin, slot.done)
    return np.ascontiguousarray(pixels.reshape(3, face.size, face.size).transpose(1, 2, 0))


def outputs_to_host(
    submission: Submission, slots: FrameSlots, faces: Sequence[FaceSlot]
) -> list[tuple[Float32, Float32]]:
    """Downloads crops and engines' answers, float32 3×S×S, and waits for them."""
    slot, streams = slots.frame, submission.streams
    slot.uploaded.synchronize()  # an upload may still read the same memory

    def begin() -> None:
        for event in slots.inferred:
            streams.down.wait(event)

    arrays = [(face, at, 3 * face.size**2) for face in faces for at in (face.crop, face.restored)]
    images = _download(submission, slot, arrays, streams.down, begin, slot.done)
    shapes = [(3, face.size, face.size) for face in faces]
    return [(c.reshape(s), r.reshape(s)) for c, r, s in zip(images[::2], images[1::2], shapes, strict=True)]


def _download(
    submission: Submission,
    slot: FrameSlot,
    arrays: Sequence[FaceFloats],
    stream: Stream,
    begin: Callable[[], None],
    done: Event,
) -> list[Float32]:
    """Downloads arrays on a stream. First calls `begin`, which makes the stream wait for them."""
    submission.pools.grow(slot.exchange, 4 * sum(count for *_, count in arrays))
    pinned, ends = slot.exchange.on_host(), np.cumsum([0, *(count for *_, count in arrays)])

    def down() -> None:
        begin()
        for (face, address, count), at in zip(arrays, ends, strict=False):
            stream.copy(pinned, face.memory, 4 * count, to_at=4 * int(at), source_at=address - face.memory.address)
        stream.record(done)

    submission.streams.run(down).result()
    done.synchronize()
    values = pinned.bytes().view(np.float32)
    return [values[start:end].copy() for start, end in pairwise(ends)]


def outputs_to_gpu(
    submission: Submission, slot: FrameSlot, outputs: Sequence[tuple[FaceSlot, Float32]]
) -> Callable[[Stream], None]:
    """Returns a step that uploads answers (float32 3×S×S) to faces' slots."""
    submission.pools.grow(slot.outputs, sum(output.nbytes for _, output in outputs))
    pinned, at = slot.outputs.on_host(), 0
    copies, view = list[tuple[FaceSlot, int, int]](), pinned.bytes()
    for face, values in outputs:
        view[at : at + values.nbytes] = values.reshape(-1).view(np.uint8)
        copies.append((face, at, values.nbytes))
        at += values.nbytes

    def upload(up: Stream) -> None:
        up.wait(slot.cropped)  # the crop is in the same block of memory
        for face, source_at, nbytes in copies:
            up.copy(face.memory, pinned, nbytes, to_at=face.restored - face.memory.address, source_at=source_at)

    return upload
