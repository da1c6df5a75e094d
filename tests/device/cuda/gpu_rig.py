"""A whole GPU path without a GPU: the fake GPU, our kernels run by the host, networks run by ONNX Runtime."""

import threading
import weakref
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import onnxruntime

from rtface.device.cuda import batch, kernels, shape_structs, shaping, structs
from rtface.device.cuda.stream_thread import StreamThread
from rtface.engine.cuda.engine import GpuEngine
from rtface.engine.golden import GoldenResult
from rtface.engine.plan import PlanIdentity
from rtface.engine.recipe import Recipe, find_recipes, load_recipe
from rtface.errors import EngineError
from tests.device.cuda.fake_gpu import STREAMS, FakeGpu, LentMemory
from tests.device.cuda.host_kernels import compile_kernels

SOURCES = {kernels.CODE: kernels.KERNELS, shaping.CODE: shaping.KERNELS, batch.CODE: batch.KERNELS}
Spoil = Callable[[str, np.ndarray], np.ndarray]
STRUCTS = {kernels.CODE: structs.STRUCTS, shaping.CODE: shape_structs.STRUCTS}


def build_kernels() -> Callable[..., None]:
    """All kernels, as `FakeGpu` runs them: (name, grid, block, *args)."""
    hosts = [compile_kernels(source, names, STRUCTS.get(source)) for source, names in SOURCES.items()]
    by_name = {name: host for host in hosts for name in host.kernels}
    return lambda name, grid, block, *args: by_name[name].launch(name, grid, block, *args)


class FakeGpuFrame:
    """An av.VideoFrame whose samples lie on the fake GPU: what `rtface.util.av_gpu` asks of one.

    Rows are longer than the frame is wide, and what lies between must stay as it is. Memory is lent to the GPU until
    the image is no longer referenced.
    """

    def __init__(self, gpu: FakeGpu, image: Any, *, device: int = 0) -> None:
        assert image.format.name in ("nv12", "p010le")
        self.format, self.sw_format = SimpleNamespace(name="cuda"), image.format
        self.width, self.height, self.pts = image.width, image.height, image.pts
        self.gpu, self.downloads = gpu, 0
        self.planes, self._lent = list[Any](), []
        for plane in image.planes:
            rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height]
            pitch = -(-(rows.shape[1] + 64) // 256) * 256
            memory = np.full((len(rows), pitch), 0x5C, np.uint8)
            memory[:, : rows.shape[1]] = rows
            lent = LentMemory(gpu, memory.reshape(-1))
            weakref.finalize(self, lent.free)
            self._lent.append((lent, pitch, rows.shape))
            said = {"buffer_ptr": lent.address, "line_size": pitch, "__dlpack_device__": lambda: (2, device)}
            self.planes.append(SimpleNamespace(**said))

    def reformat(self, format: str) -> av.VideoFrame:
        """A download, which FFmpeg does in order with nothing of ours."""
        assert format == self.sw_format.name
        self.downloads += 1
        return self.host()

    def make_writable(self) -> None:
        raise AssertionError("a frame on the GPU is written to in place")

    def host(self) -> av.VideoFrame:
        """What a sink would get now."""
        out = av.VideoFrame(self.width, self.height, self.sw_format.name)
        out.pts = self.pts
        for (lent, pitch, (height, nbytes)), plane in zip(self._lent, out.planes, strict=True):
            lent.check("the sink")
            memory = lent.array.reshape(height, pitch)
            assert (memory[:, nbytes:] == 0x5C).all(), "written between the rows"
            np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:height, :nbytes] = memory[:, :nbytes]
        return out


class FakePlan:
    """A `rtface.engine.tensorrt.plan.TensorRtPlan` that ONNX Runtime computes when the GPU's work is waited for.

    As TensorRT's, it has a shape: a capture fails unless the run before it was of the captured batch size.

    `spoil` changes each answer by tensor name, to see what becomes of wrong ones; `wrong` those of the batch sizes that
    it says so of, by (batch, captured in a graph).
    """

    def __init__(
        self, recipe: Recipe, gpu: FakeGpu, *, max_batch=4, capturable=True, spoil=None, wrong=lambda n, captured: False
    ) -> None:
        self.recipe, self.gpu, self.max_batch, self._capturable = recipe, gpu, max_batch, capturable
        self.scratch = None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(recipe.model_path), options, ["CPUExecutionProvider"])
        self.identity = PlanIdentity.of(recipe, "fake", "1.0", gpu.name, "f32")
        self.ports = {name: (np.dtype(np.float32), shape) for name, shape in (recipe.inputs | recipe.outputs).items()}
        self.batches: list[int] = []
        self.closed = False
        self.spoil = spoil or (lambda name, values: values)
        self._wrong = wrong
        self._shape = 0

    def bind(self, buffers: dict[str, Any], sizes: Sequence[int]) -> None:
        self._buffers, self._sizes, self._shape = dict(buffers), sizes, 0
        for name, (dtype, shape) in self.ports.items():
            assert buffers[name].nbytes >= max(sizes) * int(np.prod(shape)) * dtype.itemsize

    def capturable(self, handle: int, batch: int) -> bool:
        assert batch == self._shape, "asked before a run of that batch"
        return self._capturable

    def _array(self, name: str, batch: int) -> np.ndarray:
        _, shape = self.ports[name]
        count = batch * int(np.prod(shape))
        return self._buffers[name].array.view(np.float32)[:count].reshape(batch, *shape)

    def enqueue(self, handle: int, batch: int) -> None:
        assert batch in self._sizes, f"nothing is ready for a batch of {batch}"
        captured = handle in STREAMS and STREAMS[handle].steps is not None
        if captured and self._shape != batch:
            raise EngineError(f"a batch of {batch} is captured, but the last run was one of {self._shape}")
        self._shape = batch

        def run() -> None:
            self.batches.append(batch)
            given = {port.name: self._array(port.name, batch) for port in self.session.get_inputs()}
            outputs = [port.name for port in self.session.get_outputs()]
            for name, answer in zip(outputs, self.session.run(outputs, given), strict=True):
                spoilt = self.spoil(name, answer)
                self._array(name, batch)[...] = spoilt + 0.5 if self._wrong(batch, captured) else spoilt

        self.gpu.defer(handle, run)

    def close(self) -> None:
        self.closed = True


def hold(streams: StreamThread) -> threading.Event:
    """Keeps the stream thread busy until the event is set, so that what is submitted meanwhile waits together."""
    begun, gate = threading.Event(), threading.Event()
    streams.run(lambda: (begun.set(), gate.wait(10)))
    assert begun.wait(10)
    return gate


def engine_on(streams: StreamThread, name: str = "rtface-s", **more: Any) -> tuple[GpuEngine, FakePlan]:
    """A shipped engine on the fake GPU, and its plan."""
    return open_with(streams, load_recipe(find_recipes()[name]), **more)


def open_with(
    streams: StreamThread, recipe: Recipe, *, spoil: Spoil | None = None, **more: Any
) -> tuple[GpuEngine, FakePlan]:
    """An engine on the fake GPU, and its plan; `spoil` begins after the engine has been judged by its golden crops."""
    plan = FakePlan(recipe, streams.gpu, **more)
    engine = GpuEngine(streams, recipe, plan, GoldenResult(100.0, 50.0, 0.0), "for a test")
    plan.batches.clear()
    plan.spoil = spoil or plan.spoil
    return engine, plan
