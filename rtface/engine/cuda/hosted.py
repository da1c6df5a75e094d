"""Crops of the host through an engine on a GPU: up, through the network, and down again.

For keyframes (`rtface.enhance.keyframes.scheduler`), whose answers are joined on the host. Each
engine has a stream and a thread for it, so that other work on the GPU does not wait for it,
however long the network takes. Crops that wait by the time the thread is free make one batch: those
of several faces, and of several keyframes where the engine does not remember.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rtface.device.cuda.face_slots import FaceSlot
from rtface.device.cuda.gpu import Event, Pinned, Stream
from rtface.device.cuda.state_pool import FaceState, StatePool
from rtface.device.cuda.stream_thread import USUAL, StreamThread
from rtface.engine.crop_runner import spread
from rtface.engine.recipe import Recipe
from rtface.errors import EngineError, OutOfDeviceMemory
from rtface.frame import Float32
from rtface.protocols import Restored

Given = tuple[FaceSlot, FaceState | None, FaceState | None]
"""A crop in a slot: what is remembered of it before, and where that is to lie after."""
Run = Callable[[Sequence[Given], Stream], None]
"""Puts the network on a stream, over so many crops. Any thread."""


def known(after: Future[Restored[Any]] | None, places: StatePool | None) -> FaceState | None:
    """What is remembered of a face after an answer, where these are the places. What comes after a failure, or after an
    answer that is not there, begins without memory."""
    if after is None or not after.done() or after.cancelled() or after.exception() is not None:
        return None
    state = after.result().state
    return state if isinstance(state, FaceState) and state.home is places else None


@dataclass(slots=True)
class _Request:
    crop: Float32
    after: Future[Restored[Float32]] | None
    future: Future[Restored[Float32]] = field(default_factory=Future[Restored[Float32]])


@dataclass(slots=True)
class _Kept:
    """What is reserved: for each crop of a batch a slot on the GPU, and memory that its copies go through."""

    stream: Stream
    done: Event
    faces: list[tuple[FaceSlot, Pinned]] = field(default_factory=list[tuple[FaceSlot, Pinned]])


class Hosted:
    """Runs crops of the host through an engine on a GPU; reserves memory with the first crops.

    Args:
        streams: of the GPU.
        recipe: of the engine.
        run: see `Run`.
        most: how many crops a batch may have now.
        places: for what a recurrent engine remembers; None without memory.

    Attributes:
        priority: of its stream; may be changed before the first crop.
    """

    def __init__(
        self, streams: StreamThread, recipe: Recipe, run: Run, most: Callable[[], int], places: StatePool | None
    ) -> None:
        self._streams, self._recipe, self.run, self._most, self._places = streams, recipe, run, most, places
        self.priority = USUAL
        self._waiting: deque[_Request] = deque()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"rtface-GPU-{recipe.name}")
        self.kept: _Kept | None = None

    def submit(self, crop: Float32, after: Future[Restored[Float32]] | None) -> Future[Restored[Float32]]:
        """Restores a crop, float32 1×3×S×S, 0…1, which is read until the answer is there. The answer's arrays are the
        caller's to keep. The future raises EngineError, OutOfDeviceMemory and DeviceLost."""
        request = _Request(crop, after)
        self._waiting.append(request)
        self._worker.submit(self._work)
        return request.future

    def _work(self) -> None:
        """Answers a batch; there is a call for every request, so the last ones may find nothing left."""
        batch = self._next()
        try:
            if batch:
                self._run_all(batch)
        except BaseException as error:  # noqa: BLE001 - handed to who asked
            for request in batch:
                if not request.future.done():
                    request.future.set_exception(error)

    def _next(self) -> list[_Request]:
        """The oldest request, and those behind it whose faces' answers before are there."""
        batch: list[_Request] = []
        while self._waiting and len(batch) < self._most():
            after = self._waiting[0].after
            if after is not None and not after.done():
                if batch:
                    break
                wait([after])  # answered by this worker before, or by the stream thread, which never waits for this one
            batch.append(self._waiting.popleft())
            batch[-1].future.set_running_or_notify_cancel()
        return batch

    def _reserve(self) -> _Kept:
        gpu = self._streams.gpu
        return _Kept(gpu.stream(self.priority), gpu.event())

    def _reserve_face(self) -> tuple[FaceSlot, Pinned]:
        gpu, size = self._streams.gpu, self._recipe.input.size
        memory = self._recipe.memory
        maps = 2 * int(np.prod(memory.maps)) if memory and memory.heads else 0
        pinned = gpu.pin(4 * (3 * size * size + maps))
        try:
            return FaceSlot.reserve(gpu, size), pinned
        except BaseException:
            pinned.close()
            raise

    def _room_for(self, count: int) -> _Kept:
        """With slots for so many crops, or for as many as there is memory for. Raises OutOfDeviceMemory for none."""
        if self.kept is None:
            self.kept = self._streams.reserve(self._reserve)
        kept = self.kept
        if not kept.faces:
            kept.faces.append(self._streams.reserve(self._reserve_face))
        with suppress(OutOfDeviceMemory):
            while len(kept.faces) < count:
                kept.faces.append(self._streams.run(self._reserve_face).result())
        return kept

    def _run_all(self, batch: list[_Request]) -> None:
        streams = self._streams
        streams.gpu.enter()
        kept = self._room_for(len(batch))
        while batch:
            part, batch = batch[: len(kept.faces)], batch[len(kept.faces) :]
            self._run_part(part, kept)

    def _run_part(self, batch: list[_Request], kept: _Kept) -> None:
        stream, places = kept.stream, self._places
        given = [
            (face, known(request.after, places), self._streams.reserve(places.take) if places else None)
            for request, (face, _) in zip(batch, kept.faces, strict=False)
        ]
        try:
            for request, (face, pinned) in zip(batch, kept.faces, strict=False):
                crop = np.ascontiguousarray(request.crop, np.float32).reshape(-1).view(np.uint8)
                pinned.bytes()[: crop.nbytes] = crop
                stream.copy(face.memory, pinned, crop.nbytes, to_at=face.crop - face.memory.address)
            self.run(given, stream)
            for request, (face, pinned) in zip(batch, kept.faces, strict=False):
                self._fetch(face, pinned, request.crop.nbytes, stream)
        finally:  # of a failure too: the next crops use the same memory
            stream.record(kept.done)
            kept.done.synchronize()
        for request, (_, pinned), (_, _, new) in zip(batch, kept.faces, given, strict=False):
            try:
                request.future.set_result(self._restored(pinned.bytes().view(np.float32), request.crop.shape, new))
            except EngineError as error:
                request.future.set_exception(error)

    @staticmethod
    def _fetch(face: FaceSlot, pinned: Pinned, size: int, stream: Stream) -> None:
        """What the network made of a crop of so many bytes, and behind it the maps of its heads."""
        stream.copy(pinned, face.memory, size, source_at=face.restored - face.memory.address)
        part, at = (pinned.nbytes - size) // 2, size
        for head in (face.occlusion, face.log_scale) if part else ():
            stream.copy(pinned, face.memory, part, to_at=at, source_at=head - face.memory.address)
            at += part

    def _restored(self, values: Float32, shape: tuple[int, ...], state: FaceState | None) -> Restored[Float32]:
        count, recipe = math.prod(shape), self._recipe
        pixels, maps = values[:count].reshape(shape).copy(), values[count:].copy()
        if not math.isfinite(float(pixels.sum()) + float(maps.sum())):
            raise EngineError(
                "engine {name}: the answer holds values that are not numbers",
                code="answer_not_finite",
                name=recipe.name,
            )
        if not maps.size:
            return Restored(pixels, state)
        assert recipe.memory is not None
        occlusion, log_scale = maps.reshape(2, *recipe.memory.maps)
        return Restored(pixels, state, spread(occlusion, recipe.input.size, recipe.region)[None], log_scale[None])

    def end(self) -> None:
        """Waits for the crops in hand and drops what waits; not on the stream thread."""
        self._worker.shutdown(wait=True, cancel_futures=True)
        while self._waiting:
            self._waiting.popleft().future.cancel()

    def settle(self) -> None:
        """Waits for what is on its stream. The stream thread only."""
        if self.kept is not None:
            self._streams.settle(self.kept.stream)

    def close(self) -> None:
        """Frees all, after `end` and `settle`. The stream thread only."""
        if self.kept is not None:
            for face, pinned in self.kept.faces:
                face.memory.close()
                pinned.close()
            self.kept = None
