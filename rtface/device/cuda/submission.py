"""Submits the work on a frame to its GPU: descriptors are uploaded, then kernels are launched."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from rtface.device.cuda.constants import Constants
from rtface.device.cuda.frame_slots import FrameSlot, HeldSlots, SlotPools
from rtface.device.cuda.gpu import Memory, Stream
from rtface.device.cuda.kernels import KernelCall, LaunchList, curve_tables
from rtface.device.cuda.shaping import small_floats, small_job
from rtface.device.cuda.stream_thread import StreamThread
from rtface.errors import EngineError
from rtface.frame import Bytes, Color
from rtface.geometry.color_curves import curve_of

log = logging.getLogger("rtface")


class Submission:
    """Submits kernels for the frames of one device, and owns their buffers and constant tables.

    Attributes:
        owner: of the GPU.
        slots: of the device's frames.
        constants: tables on the GPU.
    """

    def __init__(self, owner: StreamThread) -> None:
        self.owner, self.slots, self.constants = owner, SlotPools(owner), Constants(owner)

    def put_crops(self, held: HeldSlots, job: LaunchList, *, reads: Sequence[Memory] = (),
                  writes: Sequence[Memory] = (), before: Callable[[Stream], None] | None = None) -> Future[None]:
        """`put_job` of what makes a frame's crops; their small pictures, and `slot.cropped`, come after that.

        Whether an engine will want the average over time is not known yet; a small picture costs one read of its crop.
        """
        slot, faces, compute = held.slot, held.faces, self.owner.compute
        self.slots.grow(slot.small, sum(4 * small_floats(face.size) for face in faces))
        small = slot.small.on_gpu()
        job.extend(small_job([(face.crop, face.size) for face in faces], small.address))
        return self.put_job(slot, "crop", job, before=before, reads=reads, after=lambda: compute.record(slot.cropped),
                            writes=[*{face.memory for face in faces}, small, *writes])

    def put_job(self, slot: FrameSlot, step: str, job: LaunchList, **more: Any) -> Future[None]:
        """Submits a launch list as `put` does."""
        self.slots.grow(slot.steps[step], max(job.nbytes, 1))
        return self.put(slot, step, job.descriptors, job.steps(slot.steps[step].on_gpu().address), **more)

    def put(self, slot: FrameSlot, step: str, data: Bytes, kernels: Sequence[KernelCall], *, reads: Sequence[Memory],
            writes: Sequence[Memory], before: Callable[[Stream], None] | None = None,
            after: Callable[[], None] | None = None) -> Future[None]:
        """Has a step's data copied up and its kernels run after that; `before` goes up with them, `after` follows.

        Where a step of the frame failed before this one, nothing is put: it would work on what the slot's memory holds
        of another frame. The future then carries that failure.
        """
        owner, stage = self.owner, slot.steps[step]
        memory = stage.on_gpu()
        if len(data):
            stage.on_host().bytes()[:len(data)] = data

        def put() -> None:
            if slot.failure is not None:
                raise slot.failure
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

    def check(self, slot: FrameSlot) -> None:
        """Raises the error of an earlier asynchronous step of the frame, once."""
        failure, slot.failure = slot.failure, None
        if failure is not None:
            raise failure

    def release(self, held: HeldSlots) -> None:
        """Gives a frame's slots back, and its picture free, when the GPU has done with them; once more does no harm.
        """
        if held.given:
            return
        held.given = True
        owner, slot = self.owner, held.slot

        def settle() -> None:
            for stream, event in ((owner.up, slot.uploaded), (owner.compute, slot.computed), (owner.down, slot.done)):
                stream.record(event)

        try:
            if not held.settled:
                owner.run(settle).result()
                for event in (slot.uploaded, slot.computed, slot.done):
                    event.synchronize()
        except EngineError:  # a lost GPU: its slots are lost with it
            return
        held.canvas, slot.failure = None, None
        self.slots.give(held)

    def scratch(self, slot: FrameSlot, nbytes: int) -> Memory | None:
        """A frame's memory for what its kernels have in between; nothing on the GPU may use it now."""
        if not nbytes:
            return None
        self.slots.grow(slot.scratch, nbytes)
        return slot.scratch.on_gpu()

    def tables_of(self, color: Color) -> Memory | None:
        """The curve of a frame's colour, on the GPU; None for plain SDR."""
        if curve_of(color) is None:
            return None
        return self.constants.of((color.transfer, color.primaries == 9), lambda: curve_tables(color))

    def close(self) -> None:
        """Frees all, frames in hand too. The owner's thread only."""
        for stream in (self.owner.up, self.owner.compute, self.owner.down, self.owner.look):
            self.owner.settle(stream)
        self.slots.close()
        self.constants.close()


def _note(slot: FrameSlot, error: BaseException | None) -> None:
    if error is not None and slot.failure is None:
        slot.failure = error
