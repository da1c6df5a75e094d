"""Engines on a GPU: crops of many faces, frames and streams in one batch, and what is remembered of them kept there.

What is remembered of a face never leaves the GPU; whoever holds its `FaceState` holds its memory. Crops of the host are
answered there (`hosted`), in separate batches.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from rtface.device.cuda.face_slots import FaceSlot
from rtface.device.cuda.gpu import Event, Stream
from rtface.device.cuda.shaping import MIN_CROP_SIDE_PX
from rtface.device.cuda.state_pool import StatePool
from rtface.device.cuda.stream_thread import StreamThread
from rtface.engine.base import EngineBase
from rtface.engine.cuda.batch import Batches
from rtface.engine.cuda.golden import GoldenBatch, row_of
from rtface.engine.cuda.hosted import Given, Hosted, known
from rtface.engine.plan import GoldenResult
from rtface.engine.recipe import Recipe
from rtface.engine.tensorrt.plan import TensorRtPlan
from rtface.errors import DeviceLost, EngineError, OutOfDeviceMemory, UsageError, log
from rtface.frame import PixelsT
from rtface.protocols import HeadMap, Restored

_RESERVED_PLACES = 16  # places for what is remembered that are reserved at a time


@dataclass(slots=True)
class _Request:
    network: GpuEngine
    face: FaceSlot
    after: Future[Restored[FaceSlot]] | None
    future: Future[Restored[FaceSlot]] = field(default_factory=Future[Restored[FaceSlot]])

    @property
    def ready(self) -> bool:
        return self.after is None or self.after.done()

    def fail(self, error: BaseException) -> None:
        self.future.set_exception(error)


class GpuEngine(EngineBase):
    """A restorer on a GPU (`protocols.Engine`).

    Attributes:
        max_batch: crops in one run; halved when the GPU runs out of memory.
        batches: what a run of them needs; None while there is no memory for it.
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
        """Reserves, warms up and captures; the stream thread does it. Raises EngineError, OutOfDeviceMemory."""
        if recipe.input.size < MIN_CROP_SIDE_PX or recipe.input.size % 4:
            raise EngineError(
                "engine {name} takes crops of {size}, and on a GPU they have to be {least} or more and a multiple "
                "of 4; use {--device:cpu} for it",
                code="gpu_crops_size",
                name=recipe.name,
                size=recipe.input.size,
                least=MIN_CROP_SIDE_PX,
            )
        super().__init__(recipe, plan.identity, verdict, device, f" on {streams.gpu.name}", why)
        self._streams, self._plan, self._required = streams, plan, verdict.required
        self.max_batch = max(1, min(plan.max_batch, recipe.batch.max))
        heads = recipe.memory.maps if recipe.memory and recipe.memory.heads else None
        self._head = HeadMap(heads, recipe.region) if heads else None
        self._places = places_of(streams, recipe) if recipe.recurrent else None
        self.batches: Batches | None = None
        self._running = threading.RLock()  # `batches`, by the stream thread and by that of `hosted`
        self.hosted = Hosted(streams, recipe, self._run_hosted, lambda: self.max_batch, self._places)
        self._closed = False
        try:
            streams.run(self._build).result()
        except BaseException:
            self.close()
            raise

    def submit(self, crops: PixelsT, after: Future[Restored[PixelsT]] | None = None) -> Future[Restored[PixelsT]]:
        """Restores the crop of a face where it lies. The future is done when that is on its way: what waits for the
        slot's event `inferred` on the GPU finds the answer there.

        A crop of the host's, float32 1×3×S×S, is answered in the host's memory; the future is done when it is there.
        """
        given: Any = crops
        shape = (1, 3, self.size, self.size)
        if getattr(given, "shape", None) != shape or not (isinstance(given, FaceSlot) or given.dtype == np.float32):
            got = f"{getattr(given, 'dtype', '')} {getattr(given, 'shape', type(given).__name__)}".strip()
            raise UsageError(
                "engine {name} takes crops of {size} that lie on the GPU, or a crop of the host's in float32, got "
                "{got}",
                code="gpu_crops_kind",
                name=self.name,
                size=self.size,
                got=got,
            )
        if self._closed:
            raise EngineError("engine {name} is closed", code="engine_closed", name=self.name)
        before: Any = after if self.recurrent else None
        if not isinstance(given, FaceSlot):
            return cast("Any", self.hosted.submit(given, before))
        request = _Request(self, given, before)
        self._streams.submit(request)
        return cast("Any", request.future)

    def stand_back(self) -> None:
        """Crops of the host's give way on the GPU to all that frames wait for; called before the first of them."""
        self.hosted.priority = 0

    def enqueue(self, batch: list[_Request]) -> Event:
        """Puts a batch on the compute stream (the stream thread calls it); with no memory left, in halves."""
        try:
            while len(batch) > self.max_batch:
                self._run(batch[: self.max_batch])
                batch = batch[self.max_batch :]
            return self._run(batch)
        except OutOfDeviceMemory as error:
            if self.max_batch == 1:
                raise
            self._halve(error)
            return self.enqueue([r for r in batch if not r.future.done()])

    def _run(self, batch: list[_Request]) -> Event:
        if self.batches is None:  # there was no memory for a single crop when it was halved; there may be now
            self._build()
        assert self.batches is not None
        next_ = [self._places.take() if self._places else None for _ in batch]
        before = [known(request.after, self._places) for request in batch]
        rows = np.concatenate(
            [row_of(request.face, old, new) for request, old, new in zip(batch, before, next_, strict=True)]
        )
        faces = list({id(request.face.memory): request.face.memory for request in batch}.values())
        with self._running:
            event = self.batches.run(
                rows, [old.memory for old in before if old], [*faces, *(new.memory for new in next_ if new)]
            )
        for request, new in zip(batch, next_, strict=True):
            # The batch's own event would not do: a later batch marks it again before the faces are finished.
            self._streams.compute.record(request.face.inferred)
            request.future.set_result(Restored(request.face, new, self._head, self._head))
        return event

    def _run_hosted(self, given: Sequence[Given], stream: Stream) -> None:
        if self.batches is None:
            self._streams.run(lambda: self.batches or self._build()).result()
        with self._running:
            assert self.batches is not None
            for k in range(0, len(given), self.max_batch):  # it may have been halved since they were taken
                part = given[k : k + self.max_batch]
                self.batches.run(
                    np.concatenate([row_of(*one) for one in part]),
                    [old.memory for _, old, _ in part if old],
                    [*(face.memory for face, _, _ in part), *(new.memory for *_, new in part if new)],
                    stream,
                )

    def _build(self) -> None:
        """Reserves for `max_batch`, or for as much as there is memory for; warms up and captures."""
        while True:
            try:
                self.batches = self._reserved()
                return
            except OutOfDeviceMemory as error:
                if self.max_batch == 1:
                    raise
                self._warn_halved(error)
                self.max_batch //= 2

    def _reserved(self) -> Batches:
        batches = Batches(self._streams, self.recipe, self._plan, self.max_batch)
        golden = None
        try:
            golden = GoldenBatch(
                self._streams, self.recipe, self._plan.identity.precision, self._required, self.max_batch, self._places
            )
            self.ms = round(batches.warm_up(golden), 3)
            room = 2 * FaceSlot.bytes_of(self.size)  # for each crop of a batch: one in work, one on its way
            golden.close()
            if self._streams.gpu.free_bytes() < room * self.max_batch:
                raise OutOfDeviceMemory(
                    "with the engine loaded the GPU has no memory left for faces", code="gpu_memory_faces"
                )
        except BaseException:
            self._streams.settle(self._streams.compute)
            if golden is not None:
                golden.close()
            batches.close()
            raise
        self.max_batch = batches.sizes[-1]
        return batches

    def _halve(self, error: OutOfDeviceMemory) -> None:
        with self._running:
            self._free()
            self._warn_halved(error)
            self.max_batch //= 2
            self._build()

    def _free(self) -> None:
        """Frees what a batch needs, once that is done; memories of faces stay."""
        self._streams.settle(self._streams.compute)
        self.hosted.settle()
        batches, self.batches = self.batches, None
        if batches is not None:
            batches.close()

    def _warn_halved(self, error: OutOfDeviceMemory) -> None:
        log.warning(
            "engine %s: %s; batches of %d instead of %d from here on",
            self.name,
            error,
            self.max_batch // 2,
            self.max_batch,
        )

    def close(self) -> None:
        """Ends after what is on its way; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self.hosted.end()
        try:
            self._streams.run(self._end).result()
        except DeviceLost as error:  # its memory is gone with it
            log.debug("engine %s: %s", self.name, error)

    def _end(self) -> None:
        self._free()
        self.hosted.close()
        if self._places:
            self._places.close()
        self._plan.close()


def places_of(streams: StreamThread, recipe: Recipe) -> StatePool:
    """Places for `crop_runner.FaceMemory`'s arrays, `kept` and `state`, float32."""
    *_, w, h = (v // recipe.shrink for v in recipe.region)
    return StatePool(
        streams,
        12 * w * h,
        4 * int(np.prod((recipe.memory.shape if recipe.memory else None) or (0,))),
        at_once=_RESERVED_PLACES,
    )
