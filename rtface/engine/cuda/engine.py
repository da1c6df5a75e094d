"""Runs engines on a GPU, in batches across faces, frames and streams.

The state of a face never leaves the GPU; its memory is released with the last reference to its `FaceState`. Answers for
crops in host memory are also in host memory (`hosted`); these crops are processed one at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from rtface.device.cuda.frame_slots import FaceSlot
from rtface.device.cuda.gpu import Event, Gpu, Memory, Stream
from rtface.device.cuda.shaping import MIN_CROP_SIDE_PX
from rtface.device.cuda.state_pool import StatePool
from rtface.device.cuda.stream_thread import CropRequest, StreamThread
from rtface.engine.base import EngineBase
from rtface.engine.cuda.batch import Batches
from rtface.engine.cuda.golden import GoldenBatch, row_of
from rtface.engine.cuda.hosted import Hosted, state_after
from rtface.engine.golden import GoldenResult
from rtface.engine.recipe import Recipe
from rtface.engine.tensorrt.plan import TensorRtPlan
from rtface.errors import DeviceLost, EngineError, OutOfDeviceMemory, log
from rtface.frame import PixelsT
from rtface.protocols import HeadMap, Restored


class GpuEngine(EngineBase):
    """A restorer on a GPU (`protocols.Engine`).

    Attributes:
        max_batch: maximum crops per run; reduced if the GPU has too little memory when the engine is opened.
        batches: buffers and graphs for runs; None before the engine is opened and after it is closed.
    """

    def __init__(
        self,
        streams: StreamThread,
        recipe: Recipe,
        plan: TensorRtPlan,
        verdict: GoldenResult,
        why: str,
        device: str = "cuda",
    ) -> None:
        """Allocates, warms up and captures on the stream thread. Raises EngineError, OutOfDeviceMemory."""
        if recipe.input.size < MIN_CROP_SIDE_PX or recipe.input.size % 4:
            raise EngineError(
                "engine {name} uses crops of {size} px, but a GPU needs {least} px or more and a multiple of 4; use "
                "{--device:cpu}",
                code="gpu_crops_size",
                name=recipe.name,
                size=recipe.input.size,
                least=MIN_CROP_SIDE_PX,
            )
        super().__init__(recipe, plan.identity, verdict, device, f" on {streams.gpu.name}", why)
        self._streams, self._plan, self._required = streams, plan, verdict.required
        self.max_batch = max(1, min(plan.max_batch, recipe.batch.max))
        head_maps = recipe.memory.maps if recipe.memory and recipe.memory.heads else None
        self._head = HeadMap(head_maps, recipe.region) if head_maps else None
        self._states = places_of(streams.gpu, recipe) if recipe.recurrent else None
        self.batches: Batches | None = None
        self._running = threading.RLock()  # guards `batches`, used by the stream thread and `hosted`'s thread
        self.hosted = Hosted(streams, recipe, self._run, self._states)
        self._closed = False
        try:
            self.batches = streams.run(self._build).result()
        except BaseException:
            self.close()
            raise

    def submit(self, crops: PixelsT, after: Future[Restored[PixelsT]] | None = None) -> Future[Restored[PixelsT]]:
        """Restores the crop in a face's slot. The future is done when the work is enqueued. GPU work can then wait for
        the slot's event `inferred`, after which the slot contains the answer.

        For a crop in host memory, the answer (float32 1×3×S×S) is complete in host memory when the future is done.
        """
        crop: Any = crops
        if self._closed:
            raise EngineError("engine {name} is closed", code="engine_closed", name=self.name)
        previous: Any = after if self.recurrent else None
        if not isinstance(crop, FaceSlot):
            return cast("Any", self.hosted.submit(crop, previous))
        request = CropRequest(self, crop, previous)
        self._streams.submit(request)
        return cast("Any", request.future)

    def stand_back(self) -> None:
        """Gives host crops the lowest priority on the GPU. Call it before the first host crop."""
        self.hosted.priority = 0

    def enqueue(self, batch: list[CropRequest]) -> Event:
        """Submits a batch to the compute stream. Called by the stream thread."""
        new_states = [self._states.take() if self._states else None for _ in batch]
        old_states = [state_after(request.after, self._states) for request in batch]
        rows = np.concatenate(
            [row_of(request.face, old, new) for request, old, new in zip(batch, old_states, new_states, strict=True)]
        )
        faces = list({id(request.face.memory): request.face.memory for request in batch}.values())
        event = self._run(
            rows, [old.memory for old in old_states if old], [*faces, *(new.memory for new in new_states if new)]
        )
        for request, new in zip(batch, new_states, strict=True):
            # The batch's event is no substitute, because a later batch records it again before the faces are finished.
            self._streams.compute.record(request.face.inferred)
            request.future.set_result(Restored(request.face, new, self._head, self._head))
        return event

    def _run(
        self, rows: NDArray[Any], reads: Sequence[Memory], writes: Sequence[Memory], stream: Stream | None = None
    ) -> Event:
        """Submits a batch like `Batches.run`, from any thread."""
        assert self.batches is not None
        with self._running:
            return self.batches.run(rows, reads, writes, stream)

    def _build(self) -> Batches:
        """Allocates, warms up and captures. Reduces `max_batch` if memory is short."""
        while True:
            try:
                return self._try_build()
            except OutOfDeviceMemory as error:
                if self.max_batch == 1:
                    raise
                log.warning(
                    "engine %s: %s; batches of %d instead of %d",
                    self.name,
                    error,
                    self.max_batch // 2,
                    self.max_batch,
                )
                self.max_batch //= 2

    def _try_build(self) -> Batches:
        batches = Batches(self._streams, self.recipe, self._plan, self.max_batch)
        golden = None
        try:
            golden = GoldenBatch(
                self._streams, self.recipe, self._plan.identity.precision, self._required, self.max_batch, self._states
            )
            self.ms = round(batches.warm_up(golden), 3)
            slot_bytes = 2 * FaceSlot.bytes_of(self.size)  # per crop of a batch: a slot in progress and a queued one
            golden.close()
            if self._streams.gpu.free_bytes() < slot_bytes * self.max_batch:
                raise OutOfDeviceMemory(
                    "with this engine, the GPU has no memory left for faces", code="gpu_memory_faces"
                )
        except BaseException:
            self._streams.settle(self._streams.compute)
            if golden is not None:
                golden.close()
            batches.close()
            raise
        return batches

    def close(self) -> None:
        """Closes the engine after its queued work. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self.hosted.end()
        try:
            self._streams.run(self._free).result()
        except DeviceLost as error:  # the memory is lost together with the GPU
            log.debug("engine %s: %s", self.name, error)

    def _free(self) -> None:
        self._streams.settle(self._streams.compute)
        if self.batches is not None:
            self.batches.close()
            self.batches = None
        self.hosted.close()
        if self._states:
            self._states.close()
        self._plan.close()


def places_of(gpu: Gpu, recipe: Recipe) -> StatePool:
    """Creates a pool for the arrays of `crop_runner.FaceMemory` (`kept` and `state`, float32)."""
    *_, w, h = (v // recipe.shrink for v in recipe.region)
    return StatePool(gpu, 12 * w * h, 4 * int(np.prod((recipe.memory.shape if recipe.memory else None) or (0,))))
