"""Engines on a card: crops of many faces, frames and streams in one batch, and what is remembered of them kept there.

A batch is: the rows' addresses go up, `gather` fills the network's input, the network runs, `scatter` takes its answers
out. All of it is captured once for every batch size in a graph, so that a batch costs one copy and one launch. What is
remembered of a face never leaves the card; who holds its `Remembered` holds its place.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from rtface.device.batch import BLOCK, NETWORK, ROW, gather_grid, scatter_grid
from rtface.device.card import Event, Graph, Memory, Stream
from rtface.device.faces import MAP_VALUES, FaceSlot
from rtface.device.owner import Owner
from rtface.device.slots import Growing, aligned
from rtface.engine.card_memory import Places, Remembered
from rtface.engine.plan import PlanIdentity, Verdict
from rtface.engine.recipe import Recipe, Region
from rtface.engine.restore import spread
from rtface.errors import EngineError, OutOfDeviceMemory, UsageError
from rtface.frame import Float32
from rtface.protocols import Restored

log = logging.getLogger("rtface")

_RINGS = 3  # rows on their way: one more than there are batches in flight


class CardPlan(Protocol):
    """A network ready to run on a card, at fixed addresses."""

    @property
    def identity(self) -> PlanIdentity: ...

    @property
    def ports(self) -> Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Every tensor by name: its type, and its shape for one crop."""
        ...

    @property
    def max_batch(self) -> int: ...

    @property
    def scratch(self) -> Memory | None:
        """Memory of its own that every run writes to, if that is the card's as others see it."""
        ...

    def bind(self, buffers: Mapping[str, Memory], batch: int) -> None:
        """Where the tensors lie from now on, each with room for so many crops; more will not be asked for."""
        ...

    def enqueue(self, handle: int, batch: int) -> None:
        """Puts one run on a stream; a batch size's first run may take its time."""
        ...

    def capturable(self, handle: int, batch: int) -> bool:
        """Whether `enqueue` of that batch, having run once, may be captured in a graph."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class HeadMap:
    """How the maps of an engine's heads lie over the crop of side `size`: `shape` (rows, columns) over the `region`.
    Where they lie on the card, each face's `FaceSlot` says."""

    shape: tuple[int, int]
    size: int
    region: Region

    def spread(self, values: Float32) -> Float32:
        """Such a map, brought down, over the whole crop: S×S."""
        rows, columns = self.shape
        return spread(values[:rows * columns].reshape(rows, columns), self.size, self.region)


@dataclass(slots=True)
class _Request:
    network: CardEngine
    face: FaceSlot
    after: Future[Restored] | None
    answer: Future[Restored] = field(default_factory=Future[Restored])

    @property
    def ready(self) -> bool:
        return self.after is None or self.after.done()

    def before(self) -> Remembered | None:
        """What comes after a failure begins without memory."""
        if self.after is None or self.after.exception() is not None:
            return None
        state = self.after.result().state
        return state if isinstance(state, Remembered) else None

    def fail(self, error: BaseException) -> None:
        self.answer.set_exception(error)


class _Ring:
    """Rows on their way to the card."""

    def __init__(self, owner: Owner, batch: int) -> None:
        self.pinned = owner.card.pin(ROW.itemsize * batch)
        self.event: Event = owner.card.event()


class CardEngine:
    """A restorer on a card (`protocols.Engine`).

    Attributes:
        recipe: what it is.
        device, backend, precision: where and how it runs, as "cuda", "tensorrt-rtx 1.7.1" and "fp16".
        psnr: dB against its golden crops.
        ms: milliseconds that one crop takes where nothing else runs.
        reason: one line saying what runs where, and why.
        max_batch: crops in one run; halved when the card runs out of memory.
    """

    def __init__(self, owner: Owner, recipe: Recipe, plan: CardPlan, verdict: Verdict, why: str,
                 device: str = "cuda") -> None:
        """Reserves, warms up and captures; the card's owner does it. Raises EngineError, OutOfDeviceMemory."""
        self.recipe, self._owner, self._plan = recipe, owner, plan
        identity = plan.identity
        self.device, self.backend = device, f"{identity.backend} {identity.library.split('-')[0]}"
        self.precision, self.psnr, self.ms = identity.precision, verdict.psnr, verdict.ms
        self.reason = f"{recipe.name}: {self.backend} in {self.precision} on {owner.card.name} ({why})"
        self.max_batch = max(1, min(plan.max_batch, recipe.batch.max))
        self._network = _network_of(recipe)
        heads = recipe.memory.maps if recipe.memory and recipe.memory.heads else None
        self._head = HeadMap(heads, recipe.input.size, recipe.region) if heads else None
        self._places = Places(owner.card, recipe) if recipe.recurrent else None
        self._buffers: dict[str, Memory] = {}
        self._graphs: dict[int, Graph] = {}
        self._rings: list[_Ring] = []
        self._turn = 0
        self._closed = False
        try:
            owner.run(self._build).result()
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def size(self) -> int:
        return self.recipe.input.size

    @property
    def recurrent(self) -> bool:
        return self.recipe.recurrent

    def submit(self, crops: FaceSlot, after: Future[Restored] | None = None) -> Future[Restored]:
        """Restores the crop of a face where it lies. The future is done when that is on its way: what comes after it
        on the card's compute stream finds the answer there."""
        if not isinstance(crops, FaceSlot) or crops.size != self.size:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"engine {self.name} takes crops of {self.size} that lie on the card, "
                             f"got {getattr(crops, 'shape', type(crops).__name__)}")
        if self._closed:
            raise EngineError(f"engine {self.name} is closed")
        request = _Request(self, crops, after if self.recurrent else None)
        self._owner.submit(request)
        return request.answer

    def enqueue(self, batch: list[_Request]) -> Event:
        """Puts a batch on the compute stream (the owner calls it); with no memory left, in halves."""
        try:
            while len(batch) > self.max_batch:
                self._run(batch[:self.max_batch])
                batch = batch[self.max_batch:]
            return self._run(batch)
        except OutOfDeviceMemory as error:
            if self.max_batch == 1:
                raise
            self._halve(error)
            return self.enqueue([r for r in batch if not r.answer.done()])

    def _run(self, batch: list[_Request]) -> Event:
        stream, ring = self._owner.compute, self._rings[self._turn]
        self._turn = (self._turn + 1) % len(self._rings)
        ring.event.synchronize()  # ended long ago: only so many batches are on the card at a time
        known = [self._places.take() if self._places else None for _ in batch]
        before = [r.before() if self.recurrent else None for r in batch]
        rows = ring.pinned.bytes()[:ROW.itemsize * len(batch)].view(ROW)
        for row, request, old, new in zip(rows, batch, before, known, strict=True):
            face = request.face
            row["crop"], row["restored"] = face.crop, face.restored
            row["kept"], row["state"] = (old.kept, old.state) if old else (0, 0)
            row["kept_next"], row["state_next"] = (new.kept, new.state) if new else (0, 0)
            row["occlusion"], row["log_scale"] = face.occlusion, face.log_scale
        stream.copy(self._buffers["rows"], ring.pinned, ROW.itemsize * len(batch))
        faces = list({id(r.face.memory): r.face.memory for r in batch}.values())
        reads, writes = [o.memory for o in before if o], [*faces, *(n.memory for n in known if n)]
        if (graph := self._graphs.get(len(batch))) is not None:
            stream.replay(graph, reads=reads, writes=writes)
        else:
            self._steps(stream, len(batch), reads, writes)
        stream.record(ring.event)
        for request, new in zip(batch, known, strict=True):
            face = request.face
            request.answer.set_result(Restored(face, new, self._head, self._head))
        return ring.event

    def _steps(self, stream: Stream, batch: int, reads: list[Memory], writes: list[Memory]) -> None:
        buffers, ports = self._buffers, self._port_names()
        given = [buffers[name] for name in ports["in"].values() if name]
        got = [buffers[name] for name in ports["out"].values() if name]

        def at(side: str, role: str) -> np.uint64:
            name = ports[side].get(role)
            return np.uint64(buffers[name].address if name else 0)

        head = (np.uint64(buffers["rows"].address), np.uint64(buffers["network"].address))
        stream.launch("gather", gather_grid(self._network, batch), BLOCK, *head,
                      *(at("in", role) for role in ("crop", "past", "known", "state", "shrunk")),
                      reads=[buffers["rows"], buffers["network"], *reads, *writes], writes=given)
        own = [self._plan.scratch] if self._plan.scratch is not None else []
        stream.call(lambda handle: self._plan.enqueue(handle, batch), reads=given, writes=[*got, *own])
        stream.launch("scatter", scatter_grid(self._network, batch), BLOCK, *head, at("out", "output"),
                      at("out", "kept"), at("in", "shrunk"), at("out", "state"), at("out", "occlusion"),
                      at("out", "log_scale"), reads=[buffers["rows"], buffers["network"], *given, *got], writes=writes)

    def _port_names(self) -> dict[str, dict[str, str]]:
        recipe, memory = self.recipe, self.recipe.memory
        given, got = {"crop": recipe.input.name}, {"output": recipe.output.name}
        if memory is not None:
            given |= {"past": memory.past, "known": memory.known}
            if memory.shape:
                given["state"], got["state"] = memory.state, memory.next
            if recipe.shrink > 1:
                given["shrunk"], got["kept"] = memory.shrunk, memory.kept
            if memory.heads:
                got |= {"occlusion": memory.occlusion, "log_scale": memory.log_scale}
        return {"in": given, "out": got}

    def _build(self) -> None:
        """Reserves for `max_batch`, or for as much as there is memory for; warms up and captures."""
        room = 2 * FaceSlot.bytes_of(self.size)  # for each crop of a batch: one in work, one on its way
        while True:
            try:
                self._reserve()
                if self._owner.card.free_bytes() < room * self.max_batch:
                    raise OutOfDeviceMemory("beside the engine the card has no memory left for faces")
                return
            except OutOfDeviceMemory as error:
                self._release()
                if self.max_batch == 1:
                    raise
                self._say_halved(error)
                self.max_batch //= 2

    def _reserve(self) -> None:
        card, stream, batch = self._owner.card, self._owner.compute, self.max_batch
        ports = self._plan.ports
        missing = sorted({n for side in self._port_names().values() for n in side.values()} - set(ports))
        if missing:
            raise EngineError(f"engine {self.name}: its plan has no tensor {missing[0]}; there is: {', '.join(ports)}")
        for name, (dtype, shape) in ports.items():
            self._buffers[name] = card.allocate(aligned(batch * int(np.prod(shape)) * dtype.itemsize))
        self._buffers["rows"] = card.allocate(ROW.itemsize * batch)
        self._buffers["network"] = card.allocate(NETWORK.itemsize)
        self._rings = [_Ring(self._owner, batch) for _ in range(_RINGS)]
        self._plan.bind({name: self._buffers[name] for name in ports}, batch)
        fixed = Growing(card, pinned=True, device=False)
        face = FaceSlot.reserve(card, self.size)
        try:
            fixed.need(max(NETWORK.itemsize, 12 * self.size ** 2))
            pinned = fixed.on_host()
            pinned.bytes()[:NETWORK.itemsize] = np.frombuffer(self._network.tobytes(), np.uint8)
            done = card.event()
            stream.copy(self._buffers["network"], pinned, NETWORK.itemsize)
            stream.record(done)
            done.synchronize()
            pinned.bytes()[:12 * self.size ** 2].view(np.float32)[:] = 0.5
            stream.copy(face.memory, pinned, 12 * self.size ** 2)
            self._warm_up(face)
            for n in range(1, batch + 1):
                if self._plan.capturable(stream.handle, n):
                    self._graphs[n] = stream.capture(lambda n=n: self._steps(stream, n, [], []))
            self._warm_up(face)
        finally:
            done = card.event()
            stream.record(done)
            done.synchronize()
            face.memory.close()
            fixed.close()

    def _warm_up(self, face: FaceSlot) -> None:
        """Runs every batch size: first runs compile and allocate, and the first frame must not wait for that."""
        for n in (*range(self.max_batch, 0, -1), 1):
            start = time.perf_counter()
            self._run([_Request(self, face, None) for _ in range(n)]).synchronize()
            if n == 1:
                self.ms = min(self.ms or 1e9, round(1e3 * (time.perf_counter() - start), 3))

    def _halve(self, error: OutOfDeviceMemory) -> None:
        done = self._owner.card.event()
        self._owner.compute.record(done)
        done.synchronize()
        self._release()
        self._say_halved(error)
        self.max_batch //= 2
        self._build()

    def _say_halved(self, error: OutOfDeviceMemory) -> None:
        log.warning("engine %s: %s; batches of %d instead of %d from here on", self.name, error, self.max_batch // 2,
                    self.max_batch)

    def _release(self) -> None:
        """Frees what a batch needs; memories of faces stay."""
        for graph in self._graphs.values():
            graph.close()
        for piece in (*self._buffers.values(), *(ring.pinned for ring in self._rings)):
            piece.close()
        self._graphs, self._buffers, self._rings, self._turn = {}, {}, [], 0

    def close(self) -> None:
        """Ends after what is on its way; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._owner.run(self._end).result()

    def _end(self) -> None:
        done = self._owner.card.event()
        self._owner.compute.record(done)
        done.synchronize()
        self._release()
        if self._places:
            self._places.close()
        self._plan.close()


def _network_of(recipe: Recipe) -> np.ndarray[Any, np.dtype[Any]]:
    """What `batch.cu` has to know of an engine, one `NETWORK`."""
    memory = recipe.memory
    x, y, w, h = recipe.region
    shape = memory.shape if memory else None
    maps = int(np.prod(memory.maps)) if memory and memory.heads else 0
    if maps > MAP_VALUES:
        raise EngineError(f"engine {recipe.name}: its heads' maps are larger than 128×128")
    return np.array((recipe.input.size, x, y, w, h, recipe.shrink, int(np.prod(shape)) if shape else 0, maps,
                     recipe.output.residual, memory is not None, *recipe.input.range, *recipe.output.range), NETWORK)
