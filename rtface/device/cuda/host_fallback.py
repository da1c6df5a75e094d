"""Frames that the kernels cannot read (big-endian samples): cut and pasted by the CPU device, worked on by the GPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rtface.device.cpu.device import CpuDevice, HostCorrection
from rtface.device.cuda.face_slots import FaceSlot
from rtface.device.cuda.frame_slots import GpuCorrection, HeldSlots
from rtface.device.cuda.gpu import Stream
from rtface.device.cuda.kernels import LaunchList
from rtface.device.cuda.submission import Submission
from rtface.device.cuda.transfers import corrections_to_host
from rtface.frame import Float, Frame


def cut_on_host(cpu: CpuDevice, steps: Submission, frame: Frame, places: Sequence[tuple[Float, int]],
                held: HeldSlots) -> None:
    """Crops by the CPU, put on their way to the GPU."""
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

    steps.put_crops(held, LaunchList(), before=upload)


def paste_on_host(cpu: CpuDevice, steps: Submission, frame: Frame, corrections: Sequence[GpuCorrection],
                  held: HeldSlots) -> Frame:
    """Brings corrections down; the CPU adds them to the frame."""
    brought = corrections_to_host(steps, held, [c.face for c in corrections])
    return cpu.paste(frame, [HostCorrection(pixels, mask, c.matrix)
                             for (pixels, mask), c in zip(brought, corrections, strict=True)])
