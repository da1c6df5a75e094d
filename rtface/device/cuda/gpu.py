"""The seam to an NVIDIA GPU: memory, streams, events, kernels and graphs, as far as rtface uses them.

`nvidia.NvidiaGpu` is the real one. The tests have another, which runs the same kernels on the host, as late as order
allows, and fails on a use before ready, a double use of a slot and a leak; so everything built on this seam is proven
without a GPU.

Work is put on a stream in order and runs later. Nothing here waits but `Event.synchronize`. One thread puts work on
a stream; any thread may wait for an event. `reads` and `writes` name the memory that a step touches: the GPU ignores
them, the tests check by them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rtface.frame import Bytes

Shape3 = tuple[int, int, int]


class Memory(Protocol):
    """A piece of memory on the GPU, or pinned memory of the host that the GPU copies from and to."""

    @property
    def address(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

    def close(self) -> None:
        """Frees it; everything that uses it must have ended. Safe to call twice."""
        ...


class Pinned(Memory, Protocol):
    """Memory of the host whose pages stay where they are."""

    def bytes(self) -> Bytes:
        """All of it as uint8, to read or to write now: ask again each time, when the GPU's work with it has ended."""
        ...


class Event(Protocol):
    """A mark in a stream."""

    def synchronize(self) -> None:
        """Waits until the work before the mark has ended; any thread. Raises DeviceLost and EngineError."""
        ...

    def done(self) -> bool:
        """True if it has, without waiting."""
        ...

    def milliseconds_since(self, earlier: Event) -> float:
        """Time between two marks that were made with `timed` and are done."""
        ...


class Graph(Protocol):
    """Captured work; see `Stream.capture`."""

    def close(self) -> None: ...


class Stream(Protocol):
    """A queue of work."""

    @property
    def handle(self) -> int:
        """The library's own handle (cudaStream_t), for libraries that put work on it themselves."""
        ...

    def copy(self, to: Memory, source: Memory, nbytes: int, *, to_at: int = 0, source_at: int = 0) -> None:
        """Copies bytes between pinned memory and the GPU, or within the GPU."""
        ...

    def launch(
        self,
        kernel: str,
        grid: Shape3,
        block: Shape3,
        *args: Any,
        reads: Sequence[Memory] = (),
        writes: Sequence[Memory] = (),
    ) -> None:
        """Runs a kernel; `args` are numpy scalars (uint64 for an address, int32, float32)."""
        ...

    def call(
        self, enqueue: Callable[[int], None], *, reads: Sequence[Memory] = (), writes: Sequence[Memory] = ()
    ) -> None:
        """Lets another library put work on the stream: `enqueue(handle)`."""
        ...

    def record(self, event: Event) -> None: ...

    def wait(self, event: Event) -> None:
        """What comes after this waits for what came before the event's mark, on the GPU."""
        ...

    def capture(self, build: Callable[[], None]) -> Graph:
        """Records what `build` puts on this stream, without running it."""
        ...

    def replay(self, graph: Graph, *, reads: Sequence[Memory] = (), writes: Sequence[Memory] = ()) -> None:
        """Runs captured work. `reads` and `writes`: what it touches besides, by addresses that it finds in memory."""
        ...


class Gpu(Protocol):
    """One NVIDIA GPU."""

    @property
    def name(self) -> str: ...

    @property
    def ordinal(self) -> int:
        """Its number, as the driver counts."""
        ...

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability, (9, 0) for a H200."""
        ...

    @property
    def driver(self) -> str: ...

    def enter(self) -> None:
        """Before a thread other than the stream thread's puts work on a stream."""
        ...

    def free_bytes(self) -> int: ...

    def allocate(self, nbytes: int) -> Memory:
        """Raises OutOfDeviceMemory."""
        ...

    def pin(self, nbytes: int) -> Pinned: ...
    def stream(self, priority: int = 0) -> Stream:
        """A new one. What waits on a stream of higher priority begins first; 0 is the lowest. A GPU that knows fewer
        takes its highest."""
        ...

    def event(self, *, timed: bool = False) -> Event: ...
    def close(self) -> None: ...
