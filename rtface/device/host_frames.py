"""Frames that the kernels cannot read (big-endian samples): cut and pasted by the CPU device, worked on by the card."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rtface.device.card import Stream
from rtface.device.cpu import CpuDevice
from rtface.device.faces import FaceSlot
from rtface.device.frame_slots import Held
from rtface.device.kernels import Job
from rtface.device.steps import Steps
from rtface.frame import Float, Float32, Frame
from rtface.protocols import Correction


def cut_on_host(cpu: CpuDevice, steps: Steps, frame: Frame, places: Sequence[tuple[Float, int]], held: Held) -> None:
    """Crops by the CPU, put on their way to the card."""
    crops, slot = cpu.cut(frame, places), held.slot
    steps.slots.grow(slot.exchange, sum(12 * size * size for _, size in places))
    copies: list[tuple[FaceSlot, int, int]] = []
    at, pinned = 0, slot.exchange.on_host()
    view = pinned.bytes()
    for face, crop in zip(held.faces, crops, strict=True):
        nbytes = crop.pixels.nbytes
        view[at:at + nbytes] = crop.pixels.reshape(-1).view(np.uint8)
        copies.append((face, at, nbytes))
        at += nbytes

    def upload(up: Stream) -> None:
        for face, start, nbytes in copies:
            up.copy(face.memory, pinned, nbytes, to_at=face.crop - face.memory.address, source_at=start)

    steps.put_crops(held, Job(), before=upload)


def paste_on_host(cpu: CpuDevice, steps: Steps, frame: Frame, corrections: Sequence[Correction],
                  held: Held) -> Frame:
    """Brings corrections down; the CPU adds them to the frame."""
    brought = _bring(steps, held, [c.pixels.face for c in corrections])
    return cpu.paste(frame, [Correction(pixels, mask, c.matrix)
                             for (pixels, mask), c in zip(brought, corrections, strict=True)])


def _bring(steps: Steps, held: Held, faces: Sequence[FaceSlot]) -> list[tuple[Float32, Float32]]:
    """Corrections, float32 S×S×3, and their masks, S×S; waits for them."""
    slot, owner = held.slot, steps.owner
    slot.uploaded.synchronize()  # the same memory may still be on its way up
    steps.slots.grow(slot.exchange, sum(16 * face.size**2 for face in faces))
    pinned, copies, at = slot.exchange.on_host(), list[tuple[FaceSlot, int, int, int]](), 0
    for face in faces:
        for address, nbytes in ((face.correction, 12 * face.size**2), (face.mask, 4 * face.size**2)):
            copies.append((face, address, at, nbytes))
            at += nbytes

    def down() -> None:
        owner.compute.record(slot.computed)
        owner.down.wait(slot.computed)
        for face, address, start, nbytes in copies:
            owner.down.copy(pinned, face.memory, nbytes, to_at=start, source_at=address - face.memory.address)
        owner.down.record(slot.done)

    owner.run(down).result()
    slot.done.synchronize()
    view, out = pinned.bytes().view(np.float32), list[tuple[Float32, Float32]]()
    for (face, _, at, _), (_, _, behind, _) in zip(copies[::2], copies[1::2], strict=True):
        pixels = view[at // 4:behind // 4].reshape(3, face.size, face.size)
        out.append((np.ascontiguousarray(pixels.transpose(1, 2, 0)),
                    view[behind // 4:behind // 4 + face.size**2].reshape(face.size, face.size).copy()))
    return out
