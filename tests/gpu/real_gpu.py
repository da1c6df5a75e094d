"""The GPU that is here: counted memory, kernels over arrays of the host, and engines."""

import os
from types import SimpleNamespace
from typing import Any

import numpy as np

from rtface.device.cuda import batch, kernels, modules, shaping
from rtface.device.cuda.gpu import Gpu, Memory
from rtface.device.cuda.stream_thread import StreamThread
from rtface.engine import tensorrt
from rtface.engine.cuda.engine import GpuEngine
from rtface.engine.golden import GoldenResult
from rtface.engine.recipe import Recipe, find_recipes, load_recipe
from rtface.engine.recipe_tables import Precision
from rtface.errors import MissingComponent
from tests.device.cuda.host_kernels import Kernels, checked
from tests.gpu.required import lacking

TABLES: Kernels = kernels.KERNELS | shaping.KERNELS | batch.KERNELS
REHEARSAL = os.environ.get("RTFACE_GPU_REHEARSAL") == "1"
"""Whether the driver is the tests' own (`tests/gpu/fake_libcuda.cpp`), whose memory is the host's."""


class CountedGpu:
    """A GPU that counts what is reserved, and fails when it is closed while anything was not given back."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self.pieces: list[Memory] = []
        self.allocations = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gpu, name)

    def _counted(self, piece: Any) -> Any:
        self.pieces.append(piece)
        self.allocations += 1
        return piece

    def allocate(self, nbytes: int) -> Memory:
        return self._counted(self._gpu.allocate(nbytes))

    def pin(self, nbytes: int) -> Any:
        return self._counted(self._gpu.pin(nbytes))

    def close(self) -> None:
        self._gpu.close()
        left = [piece.nbytes for piece in self.pieces if piece.address]
        assert not left, f"{len(left)} pieces of memory were never freed: {left}"


def open_streams() -> StreamThread:
    """The stream thread of GPU 0 with every kernel."""
    return StreamThread(lambda: CountedGpu(modules.open_gpu()))


class GpuKernels:
    """Every kernel on the GPU, over arrays in pinned memory: on a 64-bit system that has the same address on both
    sides, so what a test of the host's kernels does is done as it is (`host_kernels.Runner`).

    Attributes:
        launched: the kernels that ran since `clear`.
    """

    ROOM = 192 << 20

    def __init__(self, gpu: Gpu) -> None:
        self._gpu, self._stream, self._done = gpu, gpu.stream(), gpu.event()
        self._pinned = gpu.pin(self.ROOM)
        self._memory = self._pinned.bytes()
        self._at = 0
        self.launched: set[str] = set()

    def clear(self) -> None:
        """Forgets all arrays."""
        self._at = 0
        self.launched.clear()

    def hold(self, array: np.ndarray) -> np.ndarray:
        start, self._at = self._at, -(-(self._at + array.nbytes) // 256) * 256
        assert self._at <= self.ROOM, "a test holds more than there is room for"
        out = self._memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        out[...] = array
        return out

    def launch(self, name: str, grid: tuple[int, int, int], block: tuple[int, int, int], *args: Any) -> None:
        checked(TABLES, name, grid, block, args)
        self._stream.launch(name, grid, block, *args)
        self._stream.record(self._done)
        self._done.synchronize()
        self.launched.add(name)

    def close(self) -> None:
        self._memory = np.zeros(0, np.uint8)
        self._pinned.close()
        self._gpu.close()


def stand_in(gpu: Any) -> str:
    """See `torch_plan`, which loads PyTorch."""
    from tests.gpu import torch_plan

    return torch_plan.stand_in(gpu)


def gpu_plan(streams: StreamThread, recipe: Recipe, precision: Precision | None = None) -> tuple[Any, GoldenResult]:
    """A plan on the stream thread's GPU, by TensorRT or what stands in for it (`torch_plan`); without a `precision` the
    fastest that passes the gate. `lacking` where there is neither."""
    stood_in = stand_in(streams.gpu)
    print(stood_in)

    def make() -> tuple[Any, GoldenResult]:
        if REHEARSAL and not stood_in:
            from tests.gpu.host_plan import HostPlan

            return HostPlan(recipe, streams.gpu), GoldenResult(100.0, 50.0, 0.0)
        return tensorrt.open_tensorrt(recipe, streams.gpu, precision=precision)

    try:
        return streams.run(make).result()
    except MissingComponent as error:
        lacking(str(error))


def open_engine(streams, name="rtface-s", *, precision=None, plan=None, most=None) -> tuple[GpuEngine, Any]:
    """A shipped engine, and what notes its `batches`; `most` crops in one run."""
    recipe = load_recipe(find_recipes()[name])
    made, verdict = plan or gpu_plan(streams, recipe, precision)
    made.max_batch = most or made.max_batch
    engine = GpuEngine(streams, recipe, made, verdict, "for a test")
    noted, batches = SimpleNamespace(batches=[]), engine.batches
    assert batches is not None
    run = batches.run

    def noting(rows: np.ndarray, *more: Any) -> Any:
        noted.batches.append(len(rows))
        return run(rows, *more)

    batches.run = noting
    return engine, noted
