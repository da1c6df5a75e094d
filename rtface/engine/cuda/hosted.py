"""Runs host crops through an engine on a GPU: upload, network, download.

Used for keyframes (`rtface.enhance.keyframes.scheduler`), whose answers are needed on the host. Each engine has its
own stream and thread, so that other GPU work need not wait for a slow network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtface.device.cuda.frame_slots import FaceSlot
from rtface.device.cuda.gpu import Event, Memory, Pinned, Stream
from rtface.device.cuda.state_pool import FaceState, StatePool
from rtface.device.cuda.stream_thread import USUAL, StreamThread
from rtface.engine.crop_runner import spread
from rtface.engine.cuda.golden import row_of
from rtface.engine.recipe import Recipe
from rtface.errors import EngineError
from rtface.frame import Float32
from rtface.protocols import Restored

Run = Callable[[NDArray[Any], Sequence[Memory], Sequence[Memory], Stream], Event]
"""`rtface.engine.cuda.batch.Batches.run`, callable from any thread."""


def state_after(after: Future[Restored[Any]] | None, states: StatePool | None) -> FaceState | None:
    """Returns a face's state after an answer. Returns None, which starts a new state, if the answer failed or is
    missing, or if its state is from another pool."""
    if after is None or not after.done() or after.cancelled() or after.exception() is not None:
        return None
    state = after.result().state
    return state if isinstance(state, FaceState) and state.home is states else None


@dataclass(frozen=True, slots=True)
class _HostSlot:
    """A slot on the GPU, a stream, and pinned memory for copies."""

    stream: Stream
    done: Event
    face: FaceSlot
    pinned: Pinned


class Hosted:
    """Runs host crops through an engine on a GPU, one by one. The first crop allocates memory.

    Args:
        streams: the GPU's stream thread.
        recipe: recipe of the engine.
        run: function that submits a batch (see `Run`).
        states: pool for a recurrent engine's state; None for other engines.

    Attributes:
        priority: priority of the engine's stream; may be changed before the first crop.
    """

    def __init__(self, streams: StreamThread, recipe: Recipe, run: Run, states: StatePool | None) -> None:
        self._streams, self._recipe, self.run, self._states = streams, recipe, run, states
        self.priority = USUAL
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"rtface-GPU-{recipe.name}")
        self.kept: _HostSlot | None = None

    def submit(self, crop: Float32, after: Future[Restored[Float32]] | None) -> Future[Restored[Float32]]:
        """Restores a crop, float32 1×3×S×S, 0…1. Do not change the crop before the answer is complete. The
        answer's arrays belong to the caller. The future raises EngineError, OutOfDeviceMemory and DeviceLost."""
        return self._worker.submit(self._restore, crop, after)

    def _restore(self, crop: Float32, after: Future[Restored[Float32]] | None) -> Restored[Float32]:
        if after is not None:
            wait([after])  # no deadlock: the stream thread, which may have to answer it, never waits for this thread
        streams, states = self._streams, self._states
        streams.gpu.enter()
        if self.kept is None:
            self.kept = streams.run(self._reserve).result()
        stream, face, pinned = self.kept.stream, self.kept.face, self.kept.pinned
        old, new = state_after(after, states), streams.run(states.take).result() if states else None
        pixels = np.ascontiguousarray(crop, np.float32).reshape(-1).view(np.uint8)
        try:
            pinned.bytes()[: pixels.nbytes] = pixels
            stream.copy(face.memory, pinned, pixels.nbytes, to_at=face.crop - face.memory.address)
            writes = [face.memory, *([new.memory] if new else [])]
            self.run(row_of(face, old, new), [old.memory] if old else [], writes, stream)
            self._fetch(face, pinned, pixels.nbytes, stream)
        finally:  # also waits after a failure, because the next crop uses the same memory
            stream.record(self.kept.done)
            self.kept.done.synchronize()
        return self._unpack(pinned.bytes().view(np.float32), crop.shape, new)

    def _reserve(self) -> _HostSlot:
        gpu, size, memory = self._streams.gpu, self._recipe.input.size, self._recipe.memory
        maps = 2 * int(np.prod(memory.maps)) if memory and memory.heads else 0
        pinned = gpu.pin(4 * (3 * size * size + maps))
        try:
            face = FaceSlot.reserve(gpu, size)
        except BaseException:
            pinned.close()
            raise
        return _HostSlot(gpu.stream(self.priority), gpu.event(), face, pinned)

    @staticmethod
    def _fetch(face: FaceSlot, pinned: Pinned, size: int, stream: Stream) -> None:
        """Downloads the answer for a crop (`size` bytes), then the heads' maps."""
        stream.copy(pinned, face.memory, size, source_at=face.restored - face.memory.address)
        part, at = (pinned.nbytes - size) // 2, size
        for head in (face.occlusion, face.log_scale) if part else ():
            stream.copy(pinned, face.memory, part, to_at=at, source_at=head - face.memory.address)
            at += part

    def _unpack(self, values: Float32, shape: tuple[int, ...], state: FaceState | None) -> Restored[Float32]:
        count, recipe = math.prod(shape), self._recipe
        pixels, maps = values[:count].reshape(shape).copy(), values[count:].copy()
        if not math.isfinite(float(pixels.sum()) + float(maps.sum())):
            raise EngineError(
                "engine {name}: the answer contains values that are not numbers",
                code="answer_not_finite",
                name=recipe.name,
            )
        if not maps.size:
            return Restored(pixels, state)
        assert recipe.memory is not None
        occlusion, log_scale = maps.reshape(2, *recipe.memory.maps)
        return Restored(pixels, state, spread(occlusion, recipe.input.size, recipe.region)[None], log_scale[None])

    def end(self) -> None:
        """Waits for the current crop and drops queued crops. Do not call it on the stream thread."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        """Frees all memory, after `end`. Call it only on the stream thread."""
        if self.kept is not None:
            self.kept.face.memory.close()
            self.kept.pinned.close()
            self.kept = None
