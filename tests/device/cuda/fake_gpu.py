"""A GPU that is not there: runs kernels on the host as late as order allows, and fails on what a real one forgives.

Every step is an operation on a stream with the memory that it reads and writes. Operations and the host carry vector
clocks (Mattern 1988): two accesses to the same memory, one of them a write, that no stream order, event or wait of the
host puts in order are a race, whichever way this run happened to go. Work is done only when someone waits for it, and
then only as much as the wait needs, so a missing wait also gives wrong numbers. Fresh memory holds NaN.

Failures are `AssertionError`s: a use before ready, a double use, freeing what is in use, and, on `close`, a leak.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rtface.errors import DeviceLost, OutOfDeviceMemory

Clock = dict[str, int]
HOST = "host"
STREAMS: weakref.WeakValueDictionary[int, FakeStream] = weakref.WeakValueDictionary()
"""What a handle stands for, as a library that is given one finds out."""
_CHECKS = 6  # of what a kernel writes, for each kernel: it takes a copy of all memory


def _join(a: Clock, b: Clock) -> Clock:
    return {k: max(a.get(k, 0), b.get(k, 0)) for k in a.keys() | b.keys()}


class _Watched:
    """Who wrote it last, and who has read it since."""

    closed = False

    def __init__(self) -> None:
        self.written: tuple[str, int] = (HOST, 0)
        self.read: dict[str, int] = {}

    def access(self, agent: str, tick: int, clock: Clock, *, write: bool, what: str) -> None:
        assert not self.closed, f"{what} uses freed memory"
        by, at = self.written
        assert clock.get(by, 0) >= at, f"{what} touches memory while {by} may still write it"
        if write:
            for reader, at in self.read.items():
                assert clock.get(reader, 0) >= at, f"{what} writes memory while {reader} may still read it"
            self.written, self.read = (agent, tick), {}
        else:
            self.read[agent] = tick


class FakeMemory(_Watched):
    def __init__(self, gpu: FakeGpu, nbytes: int, pinned: bool) -> None:
        assert nbytes > 0, "an empty piece of memory"
        super().__init__()
        self.gpu, self.nbytes, self.pinned = gpu, nbytes, pinned
        self.array = np.full(nbytes, 0xFF, np.uint8)  # NaN as float32

    @property
    def address(self) -> int:
        assert not self.closed, "the address of freed memory"
        return self.array.ctypes.data

    def bytes(self) -> np.ndarray:
        assert self.pinned, "the host cannot touch the GPU's memory"
        with self.gpu.lock:
            self.gpu.touch(self, "the host")
        return self.array

    def close(self) -> None:
        gpu = self.gpu
        with gpu.lock:
            if self.closed:
                return
            gpu.touch(self, "freeing")
            self.closed = True
            gpu.live.discard(self)
            gpu.used -= 0 if self.pinned else self.nbytes
            self.array = np.zeros(0, np.uint8)


class LentMemory:
    """Another library's memory on the GPU. Pieces of it that begin at different places (the fields of a frame) are
    watched apart."""

    pinned = False

    def __init__(self, gpu: FakeGpu, array: np.ndarray) -> None:
        self.gpu, self.array = gpu, array
        self.parts: dict[int, _Watched] = {}
        gpu.lent.append(self)

    @property
    def address(self) -> int:
        return self.array.ctypes.data

    def holds(self, memory: Any) -> bool:
        return self.address <= memory.address < self.address + len(self.array)

    def part(self, memory: Any) -> _Watched:
        start = memory.address - self.address
        assert start + memory.nbytes <= len(self.array), "more than was lent"
        return self.parts.setdefault(start, _Watched())

    def check(self, what: str) -> None:
        """The other library goes on with it: whatever was done here must have been waited for."""
        with self.gpu.lock:
            for part in self.parts.values():
                self.gpu.touch(part, what)

    def free(self) -> None:
        """Its streams lets go, on whatever thread; what is wrong is said when the GPU is closed."""
        gpu = self.gpu
        with gpu.lock:
            try:
                self.check("freeing a frame")
            except AssertionError as error:
                gpu.faults.append(str(error))
            for part in self.parts.values():
                part.closed = True
            gpu.lent.remove(self)


class _Operation:
    def __init__(self, run: Callable[[], None], after: list[_Operation], clock: Clock) -> None:
        self.run, self.after, self.clock, self.done = run, after, clock, False

    def finish(self) -> None:
        waiting = [self]
        while waiting:
            op = waiting[-1]
            if open_ones := [o for o in op.after if not o.done]:
                waiting.extend(open_ones)
                continue
            waiting.pop()
            if not op.done:
                op.done = True
                op.run()
                op.after, op.run = [], lambda: None


class FakeEvent:
    def __init__(self, gpu: FakeGpu) -> None:
        self.gpu = gpu
        self.mark: _Operation | None = None
        self.event = 0.0  # for clocks

    def synchronize(self) -> None:
        with self.gpu.lock:
            self.gpu.check()
            if self.mark is not None:
                self.mark.finish()
                self.gpu.clock = _join(self.gpu.clock, self.mark.clock)


Run = Callable[[Sequence[Any]], None]
"""Does an operation, given the memory that it may write."""


class FakeGraph:
    def __init__(self, steps: list[tuple[Run, list[Any], list[Any]]]) -> None:
        self.steps, self.closed = steps, False

    def close(self) -> None:
        self.closed = True


class FakeStream:
    def __init__(self, gpu: FakeGpu, name: str) -> None:
        self.gpu, self.name = gpu, name
        self.handle = id(self)
        STREAMS[self.handle] = self
        self.clock: Clock = {name: 0}
        self.last: _Operation | None = None
        self.waits: list[_Operation] = []
        self.steps: list[Any] | None = None  # while capturing
        self.called: list[Callable[[], None]] | None = None  # while another library enqueues

    def _push(self, run: Run, reads: Sequence[Any], writes: Sequence[Any], what: str) -> None:
        gpu = self.gpu
        with gpu.lock:
            gpu.check()
            if self.steps is not None:
                self.steps.append((run, list(reads), list(writes)))
                return
            self.clock = _join(self.clock, gpu.clock)
            self.clock[self.name] += 1
            tick, what = self.clock[self.name], f"{what} on {self.name}"
            for memories, write in ((reads, False), (writes, True)):
                for memory in memories:
                    gpu.watched(memory).access(self.name, tick, self.clock, write=write, what=what)
            after = [o for o in (self.last, *self.waits) if o is not None and not o.done]
            self.waits = []
            self.last = _Operation(lambda: run(writes), after, dict(self.clock))

    def copy(self, to: Any, source: Any, nbytes: int, *, to_at: int = 0, source_at: int = 0) -> None:
        assert nbytes > 0 and to_at + nbytes <= to.nbytes and source_at + nbytes <= source.nbytes, "a copy past the end"

        def run(writes: Sequence[Any]) -> None:
            to.array[to_at : to_at + nbytes] = source.array[source_at : source_at + nbytes]

        self._push(run, [source], [to], "copy")

    def launch(
        self, kernel: str, grid: Any, block: Any, *args: Any, reads: Sequence[Any] = (), writes: Sequence[Any] = ()
    ) -> None:
        values = tuple(type(a)(a) for a in args)  # by value, as a launch takes them
        self._push(lambda allowed: self.gpu.run_kernel(kernel, grid, block, values, allowed), reads, writes, kernel)

    def call(self, enqueue: Callable[[int], None], *, reads: Sequence[Any] = (), writes: Sequence[Any] = ()) -> None:
        self.called = work = []
        try:
            enqueue(self.handle)
        finally:
            self.called = None

        def run(writes: Sequence[Any]) -> None:
            for step in work:
                step()

        self._push(run, reads, writes, "call")

    def record(self, event: FakeEvent) -> None:
        assert self.steps is None, "recording an event while capturing"
        self._push(lambda writes: None, [], [], "record")
        event.mark = self.last

    def wait(self, event: FakeEvent) -> None:
        assert self.steps is None, "waiting for an event while capturing"
        with self.gpu.lock:
            if event.mark is not None:
                self.waits.append(event.mark)
                self.clock = _join(self.clock, event.mark.clock)

    def capture(self, build: Callable[[], None]) -> FakeGraph:
        self.steps = []
        try:
            build()
            return FakeGraph(self.steps)
        finally:
            self.steps = None

    def replay(self, graph: FakeGraph, *, reads: Sequence[Any] = (), writes: Sequence[Any] = ()) -> None:
        assert not graph.closed

        def run(allowed: Sequence[Any]) -> None:
            for step, *_ in graph.steps:
                step(allowed)

        reads = [*reads, *(memory for step in graph.steps for memory in step[1])]
        writes = [*writes, *(memory for step in graph.steps for memory in step[2])]
        self._push(run, reads, writes, f"graph of {len(graph.steps)}")
        self.gpu.replays += 1


class FakeGpu:
    """See the module.

    Args:
        run: runs a kernel on the host: (name, grid, block, *args); None for a GPU that is given none.
        memory: bytes that the GPU has.
        strict: check, the first times each kernel runs, that it writes nothing but what it names.

    Attributes:
        refuse: so many requests for memory are refused from now on.
        peak: most bytes that were in use at a time.
        lent: memory of other libraries.
    """

    def __init__(
        self, run=None, *, memory=1 << 30, strict=False, name="fake GPU", capability=(9, 0), driver="13.0"
    ) -> None:
        self.name, self.capability, self.driver, self.ordinal = name, capability, driver, 0
        self._run, self.memory, self.strict = run, memory, strict
        self.clock: Clock = {HOST: 0}
        self.lock = threading.RLock()
        self.live: set[FakeMemory] = set()
        self.streams: list[FakeStream] = []
        self.used = self.peak = self.allocations = self.replays = self.refuse = 0
        self.checks = Counter[str]()
        self.lost = False
        self.lent: list[LentMemory] = []
        self.faults: list[str] = []

    def watched(self, memory: Any) -> _Watched:
        """Our memory is watched itself; of other memory that which was lent is known."""
        if isinstance(memory, FakeMemory):
            return memory
        for lent in self.lent:
            if lent.holds(memory):
                return lent.part(memory)
        raise AssertionError("memory of another library that is not kept")

    def touch(self, memory: _Watched, what: str) -> None:
        """The host writes it, or may."""
        self.clock[HOST] += 1
        memory.access(HOST, self.clock[HOST], self.clock, write=True, what=what)

    def check(self) -> None:
        if self.lost:
            raise DeviceLost("the GPU stopped responding (CUDA_ERROR_LAUNCH_FAILED) while rtface tried to go on")

    def enter(self) -> None:
        """Nothing to do."""

    def free_bytes(self) -> int:
        return self.memory - self.used

    def _new(self, nbytes: int, pinned: bool) -> FakeMemory:
        with self.lock:
            self.check()
            if not pinned and (self.used + nbytes > self.memory or self.refuse > 0):
                self.refuse = max(0, self.refuse - 1)
                raise OutOfDeviceMemory("the GPU has no memory left")
            made = FakeMemory(self, nbytes, pinned)
            made.written = (HOST, self.clock[HOST])
            self.live.add(made)
            self.allocations += 1
            self.used += 0 if pinned else nbytes
            self.peak = max(self.peak, self.used)
            return made

    def allocate(self, nbytes: int) -> FakeMemory:
        return self._new(nbytes, False)

    def pin(self, nbytes: int) -> FakeMemory:
        return self._new(nbytes, True)

    def stream(self, priority: int = 0) -> FakeStream:
        made = FakeStream(self, f"stream {len(self.streams)}")
        self.streams.append(made)
        return made

    def event(self, *, timed: bool = False) -> FakeEvent:
        return FakeEvent(self)

    def at(self, address: int) -> FakeMemory:
        """The memory that begins at an address."""
        return next(memory for memory in self.live if memory.address == address)

    def defer(self, handle: int, step: Callable[[], None]) -> None:
        """For stand-ins of other libraries: puts work on the stream that is calling them."""
        (stream,) = [s for s in self.streams if s.handle == handle]
        assert stream.called is not None, "a library put work on a stream outside of `call`"
        stream.called.append(step)

    def run_kernel(self, kernel: str, grid: Any, block: Any, args: Any, writes: Sequence[Any]) -> None:
        # Pinned memory may be written by the host meanwhile.
        self.checks[kernel] += 1
        others: list[Any] = []
        if self.strict and self.checks[kernel] <= _CHECKS:
            others = [m for m in self.live if m not in writes and not m.pinned]
            others += [lent for lent in self.lent if not any(map(lent.holds, writes))]
        before = [m.array.tobytes() for m in others]
        assert self._run is not None, f"{kernel} on a GPU without kernels"
        self._run(kernel, grid, block, *args)
        for memory, old in zip(others, before, strict=True):
            assert memory.array.tobytes() == old, f"{kernel} writes memory that it does not name"

    def close(self) -> None:
        assert not self.faults, self.faults
        if self.lost:  # its memory went with it
            return
        assert not self.live, f"{len(self.live)} pieces of memory were never freed: {[m.nbytes for m in self.live]}"
