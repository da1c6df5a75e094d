"""Submits the work on a frame to its GPU: uploads descriptors, then launches kernels."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtface.device.cuda.buffer_pool import GrowingBuffer
from rtface.device.cuda.frame_slots import FrameSlot, FrameSlots, SlotPools
from rtface.device.cuda.gpu import Event, Memory, Stream
from rtface.device.cuda.kernels import KernelCall, LaunchList, curve_tables
from rtface.device.cuda.shaping import small_floats, small_job
from rtface.device.cuda.stream_thread import StreamThread
from rtface.errors import EngineError
from rtface.frame import Bytes, Color
from rtface.geometry.color_curves import curve_of


class Submission:
    """Submits kernels for one device's frames. Owns the buffers and constant tables.

    Attributes:
        streams: the GPU's stream thread.
        pools: slots of the device's frames.
        constants: tables on the GPU.
    """

    def __init__(self, streams: StreamThread) -> None:
        self.streams, self.pools, self.constants = streams, SlotPools(streams), Constants(streams)

    def put_crops(
        self,
        slots: FrameSlots,
        job: LaunchList,
        *,
        reads: Sequence[Memory] = (),
        writes: Sequence[Memory] = (),
        before: Callable[[Stream], None] | None = None,
    ) -> Future[None]:
        """Submits the job that cuts a frame's crops and their reduced copies. Records `slot.cropped` after them.

        The copies are always made, because it is not yet known whether answers will be averaged over time. A copy
        costs one read of its crop.
        """
        slot, faces, stream = slots.frame, slots.faces, self.streams.compute
        self.pools.grow(slot.small, sum(4 * small_floats(face.size) for face in faces))
        small = slot.small.on_gpu()
        job.extend(small_job([(face.crop, face.size) for face in faces], small.address))
        return self.put_job(
            slot,
            "crop",
            job,
            stream=stream,
            before=before,
            reads=reads,
            after=lambda: stream.record(slot.cropped),
            writes=[*{face.memory for face in faces}, small, *writes],
        )

    def put_job(self, slot: FrameSlot, step: str, job: LaunchList, **options: Any) -> Future[None]:
        """Submits a launch list. `options` are passed to `put`."""
        self.pools.grow(slot.steps[step], max(job.nbytes, 1))
        return self.put(slot, step, job.descriptors, job.steps(slot.steps[step].on_gpu().address), **options)

    def put(
        self,
        slot: FrameSlot,
        step: str,
        data: Bytes,
        kernels: Sequence[KernelCall],
        *,
        reads: Sequence[Memory],
        writes: Sequence[Memory],
        before: Callable[[Stream], None] | None = None,
        after: Callable[[], None] | None = None,
        waits: Sequence[Event] = (),
        stream: Stream | None = None,
    ) -> Future[None]:
        """Uploads a step's data, then runs its kernels on a stream. The kernels first wait for the events `waits`.

        The default stream is `finish`. `before` runs before the upload, `after` after the kernels. If an earlier step
        of the frame failed, this step is skipped, because the slot's memory still contains another frame's data. The
        future raises that failure.
        """
        streams, stage, target = self.streams, slot.steps[step], stream or self.streams.finish
        memory = stage.on_gpu()
        if len(data):
            stage.on_host().bytes()[: len(data)] = data

        def put() -> None:
            if slot.failure is not None:
                raise slot.failure
            up = streams.up
            if before is not None:
                before(up)
            if len(data):
                up.copy(memory, stage.on_host(), len(data))
            up.record(slot.uploaded)
            for event in (slot.uploaded, *waits):
                target.wait(event)
            for k in kernels:
                results = [memory] if k.kernel == "tint" else []  # `tint` writes its results into its descriptors
                target.launch(k.kernel, k.grid, k.block, *k.args, reads=[memory, *reads], writes=[*results, *writes])
            if after is not None:
                after()

        promise = streams.run(put)
        promise.add_done_callback(lambda done: _store_failure(slot, done.exception()))
        return promise

    def check(self, slot: FrameSlot) -> None:
        """Raises the error of an earlier asynchronous step of the frame. The next call does not raise it again."""
        failure, slot.failure = slot.failure, None
        if failure is not None:
            raise failure

    def release(self, slots: FrameSlots) -> None:
        """Waits for the GPU, then releases a frame's slots and image. Safe to call twice."""
        if slots.released:
            return
        slots.released = True
        streams, slot = self.streams, slots.frame

        def settle() -> None:
            streams.up.record(slot.uploaded)
            streams.compute.record(slot.cropped)
            streams.finish.wait(slot.cropped)
            streams.finish.record(slot.computed)
            streams.down.record(slot.done)

        try:
            if not slots.settled:
                streams.run(settle).result()
                for event in (slot.uploaded, slot.computed, slot.done):
                    event.synchronize()
        except EngineError:  # the GPU is lost together with its slots
            return
        slots.gpu_frame, slot.failure = None, None
        self.pools.give(slots)

    def scratch(self, slot: FrameSlot, nbytes: int) -> Memory | None:
        """Returns memory for intermediate results of a frame's kernels. No running GPU work may use it."""
        if not nbytes:
            return None
        self.pools.grow(slot.scratch, nbytes)
        return slot.scratch.on_gpu()

    def tables_of(self, color: Color) -> Memory | None:
        """Returns the curve tables of `color` on the GPU; None for SDR."""
        if curve_of(color) is None:
            return None
        return self.constants.of((color.transfer, color.primaries == 9), lambda: curve_tables(color))

    def close(self) -> None:
        """Frees all memory, including frames in progress. Call it only on the stream thread."""
        for stream in (
            self.streams.up,
            self.streams.compute,
            self.streams.finish,
            self.streams.down,
            self.streams.urgent,
        ):
            self.streams.settle(stream)
        self.pools.close()
        self.constants.close()


def _store_failure(slot: FrameSlot, error: BaseException | None) -> None:
    if error is not None and slot.failure is None:
        slot.failure = error


class Constants:
    """Named arrays on the GPU, uploaded on first use by any thread."""

    def __init__(self, streams: StreamThread) -> None:
        self._streams, self._lock = streams, threading.Lock()
        self._buffers: dict[Hashable, GrowingBuffer] = {}

    def of(self, name: Hashable, make: Callable[[], NDArray[Any]]) -> Memory:
        """Returns the array's GPU memory. Waits for its upload on first use. Raises OutOfDeviceMemory."""
        with self._lock:
            if name not in self._buffers:
                self._buffers[name] = self._upload(np.ascontiguousarray(make()).reshape(-1).view(np.uint8))
            return self._buffers[name].on_gpu()

    def _upload(self, values: Bytes) -> GrowingBuffer:
        streams = self._streams

        def put() -> GrowingBuffer:
            buffer = GrowingBuffer(streams.gpu, pinned=True)
            buffer.need(len(values))
            buffer.on_host().bytes()[: len(values)] = values
            streams.up.copy(buffer.on_gpu(), buffer.on_host(), len(values))
            streams.settle(streams.up)
            return buffer

        return streams.run(put).result()

    def close(self) -> None:
        """Frees all arrays; the GPU must be idle. Call it only on the stream thread."""
        for buffer in self._buffers.values():
            buffer.close()
        self._buffers.clear()
