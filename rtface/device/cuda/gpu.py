"""An NVIDIA GPU through cuda-python: `cuda.core`, and driver calls for memory and copies.

The tests emulate this module and run the same kernels on the host. The emulation defers every kernel for as long as the
stream order permits, and fails if memory is used too early, reused too early, or leaked. Code that uses this module can
therefore be tested without a GPU.

Work submitted to a stream runs later, in order. Only `Event.synchronize` waits. One thread submits work; any thread may
wait for an event. `reads` and `writes` list the memory that a step accesses; the GPU ignores them, but the tests check
them. Every call raises EngineError, or DeviceLost if the GPU has stopped responding.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rtface.device.cuda import nvrtc
from rtface.errors import DeviceLost, EngineError, OutOfDeviceMemory
from rtface.frame import Bytes

Shape3 = tuple[int, int, int]
Graph = Any
"""Captured work; see `Stream.capture`."""

# Errors that make the context unusable, according to CUDA's documentation of CUresult.
_LOST = {
    "CUDA_ERROR_ILLEGAL_ADDRESS",
    "CUDA_ERROR_LAUNCH_TIMEOUT",
    "CUDA_ERROR_LAUNCH_FAILED",
    "CUDA_ERROR_ASSERT",
    "CUDA_ERROR_HARDWARE_STACK_ERROR",
    "CUDA_ERROR_ILLEGAL_INSTRUCTION",
    "CUDA_ERROR_MISALIGNED_ADDRESS",
    "CUDA_ERROR_INVALID_ADDRESS_SPACE",
    "CUDA_ERROR_INVALID_PC",
    "CUDA_ERROR_ECC_UNCORRECTABLE",
    "CUDA_ERROR_CONTEXT_IS_DESTROYED",
    "CUDA_ERROR_DEINITIALIZED",
    "CUDA_ERROR_DEVICE_UNAVAILABLE",
    "CUDA_ERROR_CONTAINED",
    "CUDA_ERROR_EXTERNAL_DEVICE",
    "CUDA_ERROR_UNKNOWN",
    "CUDA_ERROR_LAUNCH_FAILURE",  # CUDA_ERROR_LAUNCH_FAILED as the runtime API spells it
}

ALIGNMENT = 256


def aligned(nbytes: int) -> int:
    """Rounds a size in bytes up to the alignment of GPU addresses."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def failure(text: str, action: str) -> EngineError:
    """Converts a CUDA error message to an exception. The message contains a CUresult or cudaError_t name."""
    match = re.search(r"(?:CUDA_ERROR|cudaError)\w*", text)
    name = match.group() if match else text.strip().splitlines()[0] if text.strip() else "no reason given"
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.removeprefix("cudaError")).upper()
    code = name if name.startswith("CUDA_ERROR") else f"CUDA_ERROR_{snake}"
    if code in ("CUDA_ERROR_OUT_OF_MEMORY", "CUDA_ERROR_MEMORY_ALLOCATION"):
        return OutOfDeviceMemory(
            "the GPU has no memory left to {action}; close other programs that use the GPU, or choose a light engine",
            code="gpu_memory",
            action=action,
        )
    if code in _LOST:
        return DeviceLost(
            "the GPU stopped responding ({name}) while rtface tried to {action}",
            code="gpu_lost",
            name=name,
            action=action,
        )
    return EngineError("the GPU could not {action}: {name}", code="gpu_failed", action=action, name=name)


@contextlib.contextmanager
def _cuda_errors(action: str) -> Generator[None]:
    try:
        yield
    except Exception as error:
        if type(error).__name__ != "CUDAError":  # cuda.core raises this private class for every CUresult
            raise
        raise failure(str(error), action) from error


def _checked(result: tuple[Any, ...], action: str) -> list[Any]:
    """Returns the results of a `cuda.bindings.driver` call. Raises unless its CUresult is success."""
    code, *values = result
    if int(code) != 0:
        raise failure(getattr(code, "name", str(code)), action)
    return values


def _driver() -> Any:
    return importlib.import_module("cuda.bindings.driver")


def _core() -> Any:
    return importlib.import_module("cuda.core")


class Memory:
    """A block of GPU memory; base class of `Pinned`."""

    address: int
    nbytes: int

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.address = int(_checked(_driver().cuMemAlloc(nbytes), f"reserve {nbytes / 2**20:.0f} MiB")[0])

    def close(self) -> None:
        """Frees the memory. All GPU work that uses it must have ended. Safe to call twice."""
        if self.address:
            address, self.address = self.address, 0
            _driver().cuMemFree(address)


class Pinned(Memory):
    """Page-locked host memory."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.address = int(
            _checked(_driver().cuMemAllocHost(nbytes), f"pin {nbytes / 2**20:.0f} MiB of host memory")[0]
        )
        self._view: Bytes | None = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(self.address))

    def bytes(self) -> Bytes:
        """Returns the memory as uint8. Call it only when the GPU has finished with it; do not keep the array."""
        assert self._view is not None
        return self._view

    def close(self) -> None:
        if self.address:
            address, self.address, self._view = self.address, 0, None
            _driver().cuMemFreeHost(address)


class Event:
    """A point in a stream; `event` is the cuda.core object."""

    def __init__(self, event: Any, enter: Callable[[], None]) -> None:
        self.event, self._enter = event, enter

    def synchronize(self) -> None:
        """Waits until the work before the event has ended. Thread-safe. Raises DeviceLost and EngineError."""
        self._enter()
        with _cuda_errors("finish its work"):
            self.event.sync()


class Stream:
    """A queue of work."""

    def __init__(self, stream: Any, kernels: Mapping[str, Any]) -> None:
        self._stream, self._kernels = stream, kernels
        self._target: Any = stream  # the stream itself, or the graph that is being captured on it

    @property
    def handle(self) -> int:
        """The stream's cudaStream_t handle, for libraries that submit work themselves."""
        return int(self._stream.handle)

    def copy(self, to: Memory, source: Memory, nbytes: int, *, to_at: int = 0, source_at: int = 0) -> None:
        """Copies bytes between pinned memory and the GPU, or within the GPU."""
        # Host and GPU share one address space: the driver derives the direction from the addresses.
        _checked(
            _driver().cuMemcpyAsync(to.address + to_at, source.address + source_at, nbytes, self._stream.handle), "copy"
        )

    def launch(
        self,
        kernel: str,
        grid: Shape3,
        block: Shape3,
        *args: Any,
        reads: Sequence[Memory] = (),
        writes: Sequence[Memory] = (),
    ) -> None:
        """Runs a kernel. `args` are numpy scalars: uint64 for addresses, otherwise int32 or float32."""
        core = _core()
        with _cuda_errors(f"run {kernel}"):
            core.launch(self._target, core.LaunchConfig(grid=grid, block=block), self._kernels[kernel], *args)

    def call(
        self, enqueue: Callable[[int], None], *, reads: Sequence[Memory] = (), writes: Sequence[Memory] = ()
    ) -> None:
        """Calls `enqueue(handle)`, in which another library submits work to the stream."""
        enqueue(self.handle)

    def record(self, event: Event) -> None:
        with _cuda_errors("record an event"):
            self._stream.record(event.event)

    def wait(self, event: Event) -> None:
        """Makes later work of this stream wait for an event. The host does not wait."""
        with _cuda_errors("wait for an event"):
            self._stream.wait(event.event)

    def capture(self, build: Callable[[], None]) -> Graph:
        """Captures the work that `build` submits to this stream, without running it."""
        with _cuda_errors("capture a graph"):
            builder = self._stream.create_graph_builder()
            try:
                self._target = builder.begin_building("relaxed")
                try:
                    build()
                finally:
                    self._target = self._stream
                    builder.end_building()
                return builder.complete()
            finally:
                builder.close()

    def replay(self, graph: Graph, *, reads: Sequence[Memory] = (), writes: Sequence[Memory] = ()) -> None:
        """Runs captured work. `reads` and `writes` list memory in addition to that listed at capture."""
        with _cuda_errors("run a graph"):
            graph.launch(self._stream)

    def close(self) -> None:
        self._stream.close()


class Gpu:
    """One NVIDIA GPU; `capability` is (9, 0) for an H200.

    Args:
        ordinal: the driver's device number; `rtface.engine.cuda.driver.unusable` checks that it exists.
        programs: CUDA C++ sources to compile for the GPU; for each one, the names of its kernels.

    Raises:
        MissingComponent: a package is not installed.
        EngineError: a kernel does not compile.
    """

    def __init__(self, ordinal: int = 0, programs: Mapping[str, Iterable[str]] | None = None) -> None:
        self.ordinal = ordinal
        core = _core()
        with _cuda_errors("start"):
            self._device = core.Device(ordinal)
            self._device.set_current()
            capability = self._device.compute_capability
            self.capability: tuple[int, int] = (int(capability.major), int(capability.minor))
        self._kernels: dict[str, Any] = {}
        for source, names in (programs or {}).items():
            code = nvrtc.compile(source, self.capability)
            with _cuda_errors("load its kernels"):
                cubin = core.ObjectCode.from_cubin(code)
                self._kernels |= {name: cubin.get_kernel(name) for name in names}
        self._streams: list[Stream] = []

    @property
    def name(self) -> str:
        return str(self._device.name)

    @property
    def driver(self) -> str:
        """The highest CUDA version that the driver supports, such as "13.0"."""
        version = int(_checked(_driver().cuDriverGetVersion(), "report the supported CUDA version")[0])
        return f"{version // 1000}.{version % 1000 // 10}"

    def enter(self) -> None:
        """Makes the GPU's context current in the calling thread. Needed before a thread uses the GPU."""
        self._device.set_current()

    def free_bytes(self) -> int:
        return int(_checked(_driver().cuMemGetInfo(), "report its free memory")[0])

    def allocate(self, nbytes: int) -> Memory:
        """Allocates a block of GPU memory. Raises OutOfDeviceMemory."""
        return Memory(nbytes)

    def pin(self, nbytes: int) -> Pinned:
        return Pinned(nbytes)

    def stream(self, priority: int = 0) -> Stream:
        """Creates a stream. Work on streams of higher priority starts first. 0 is the lowest priority; higher values
        are clamped to the GPU's maximum."""
        lowest, highest = _checked(
            _driver().cuCtxGetStreamPriorityRange(), "report its stream priorities"
        )  # e.g. 0, -5
        with _cuda_errors("create a stream"):
            options = _core().StreamOptions(nonblocking=True, priority=max(int(lowest) - priority, int(highest)))
            stream = Stream(self._device.create_stream(options=options), self._kernels)
        self._streams.append(stream)
        return stream

    def event(self, *, timed: bool = False) -> Event:
        # Waiting threads sleep, because a spinning thread would occupy a core that the decoder needs.
        options = _core().EventOptions(timing_enabled=timed, blocking_sync=True)
        with _cuda_errors("create an event"):
            return Event(self._device.create_event(options), self.enter)

    def close(self) -> None:
        """Closes the GPU's streams. Memory is freed by its owners."""
        with _cuda_errors("close its streams"):
            for stream in self._streams:
                stream.close()
        self._streams.clear()
