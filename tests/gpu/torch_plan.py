"""A plan that PyTorch computes, for tests and measurements on a GPU that no TensorRT takes.

What it runs is the network that TensorRT would be given, operation by operation; rtface itself never uses it. Where the
GPU's memory is the host's, in rehearsals, it computes on the CPU. RTFACE_TORCH_GRAPHS=0 runs it without CUDA graphs.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from rtface.engine import tensorrt
from rtface.engine.cuda import driver
from rtface.engine.cuda import open as opening
from rtface.engine.golden import GoldenResult, open_plan
from rtface.engine.plan import PlanIdentity
from rtface.engine.recipe import Recipe
from rtface.engine.recipe_tables import Precision
from rtface.engine.tensorrt.builder import prepare, profile
from rtface.engine.tensorrt.library import choose, installed, precisions
from rtface.errors import EngineError, MissingComponent, OutOfDeviceMemory

Run = Callable[[Mapping[str, Any]], dict[str, Any]]
torch: Any = importlib.import_module("torch") if importlib.util.find_spec("torch") else None
functional: Any = torch and torch.nn.functional
ON_HOST = os.environ.get("RTFACE_GPU_REHEARSAL") == "1"


def nothing_runs(gpu: Any) -> str:
    """Why neither TensorRT nor PyTorch runs networks on the GPU; "" where one does."""
    why = refused(gpu)
    return f"{why}; or install PyTorch, for measuring only" if why and not usable() else ""


def refused(gpu: Any) -> str:
    """Why no TensorRT takes the GPU; "" where one does."""
    try:
        choose(gpu.capability, installed(), gpu.name)
    except MissingComponent as error:
        return str(error)
    return ""


def stand_in(gpu: Any) -> str:
    """Where no TensorRT takes the GPU, and PyTorch does, engines and networks are opened by PyTorch from now on, in
    this process. Why, for reports; "" where nothing is changed."""
    why = refused(gpu)
    if not why or not usable():
        return ""
    tensorrt.open_tensorrt = opening.open_tensorrt = open_engine  # type: ignore[assignment]
    driver.TENSORRT = {"torch": "torch"}
    return f"PyTorch {torch.__version__}, for measuring only: {why}"


def usable() -> bool:
    """Whether PyTorch is here, and computes on a GPU."""
    return torch is not None and (ON_HOST or torch.cuda.is_available())


def open_engine(recipe: Recipe, gpu: Any, *, precision: Precision | None = None) -> tuple[TorchPlan, GoldenResult]:
    """As `rtface.engine.tensorrt.open_tensorrt`."""
    recipe.check_weights()
    return open_plan(recipe, precisions(gpu.capability, precision), lambda p: TorchPlan(recipe, gpu, p), mixed=True)


class TorchPlan:
    """See the module, and `rtface.engine.tensorrt.plan.TensorRtPlan`.

    Everything that a run of a batch size allocates comes from memory that is this plan's alone and that its first run
    filled, so that a graph captured after it neither reserves memory nor shares any with other plans.
    """

    scratch = None

    def __init__(self, recipe: Recipe, gpu: Any, precision: Precision) -> None:
        self.name, self.max_batch = recipe.name, recipe.batch.max
        device, more = (
            "{} sm_{}{}".format(gpu.name, *gpu.capability),
            {"driver": gpu.driver, "profile": profile(recipe)},
        )
        self.identity = PlanIdentity.of(recipe, "pytorch", torch.__version__, device, precision, **more)
        self.ports = {name: (np.dtype(np.float32), shape) for name, shape in (recipe.inputs | recipe.outputs).items()}
        self._inputs, self._outputs = recipe.inputs, recipe.outputs
        self._device = torch.device("cpu" if ON_HOST else f"cuda:{getattr(gpu, 'ordinal', 0)}")
        torch.backends.cudnn.allow_tf32 = False
        self._network = Network(prepare(recipe, precision), self._device)
        self._pool: Any = None if ON_HOST else torch.cuda.MemPool()
        self._runs: dict[int, Run] = {}
        self._bound: dict[int, dict[str, Any]] = {}
        self._single: Run | None = None

    def nbytes(self, name: str, batch: int) -> int:
        dtype, shape = self.ports[name]
        return batch * math.prod(shape) * dtype.itemsize

    def bind(self, buffers: Mapping[str, Any], sizes: Sequence[int] | None = None) -> None:
        self._bound = {}
        with self._told("make it ready"):
            for n in sizes or range(1, self.max_batch + 1):
                self._bound[n] = {
                    name: at(buffers[name].address, (n, *shape), self._device)
                    for name, (_, shape) in self.ports.items()
                }
                if n not in self._runs:
                    self._runs[n] = self._traced(n)
            if not ON_HOST:
                torch.cuda.synchronize(self._device)

    def _traced(self, batch: int) -> Run:
        with torch.inference_mode():
            return self._network.traced(
                {name: torch.zeros((batch, *shape), device=self._device) for name, shape in self._inputs.items()},
                list(self._outputs),
            )

    def enqueue(self, handle: int, batch: int) -> None:
        if batch not in self._bound:
            raise EngineError(f"engine {self.name} runs {', '.join(map(str, self._bound))} crops at once, not {batch}")
        bound = self._bound[batch]
        with ExitStack() as stack:
            stack.enter_context(self._told("run it"))
            stack.enter_context(torch.inference_mode())
            if not ON_HOST:
                stack.enter_context(torch.cuda.stream(torch.cuda.ExternalStream(handle, self._device)))
                stack.enter_context(torch.cuda.use_mem_pool(self._pool, self._device))
            answers = self._runs[batch]({name: bound[name] for name in self._inputs})
            for name, answer in answers.items():
                bound[name].copy_(answer)

    def capturable(self, handle: int, batch: int) -> bool:
        return not ON_HOST and os.environ.get("RTFACE_TORCH_GRAPHS") != "0"

    def run(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """See `rtface.engine.plan.Plan`."""
        with self._told("run it"), torch.inference_mode():
            if self._single is None:
                self._single = self._traced(1)
            answers = self._single({name: torch.from_numpy(value).to(self._device) for name, value in inputs.items()})
            for name, out in outputs.items():
                np.copyto(out, answers[name].cpu().numpy().reshape(out.shape))

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """PyTorch's errors as rtface's."""
        try:
            yield
        except EngineError:
            raise
        except RuntimeError as error:
            line = (str(error).strip().splitlines() or [""])[0]
            kind = OutOfDeviceMemory if "out of memory" in line else EngineError
            raise kind(f"engine {self.name}: PyTorch could not {doing}: {line}") from error

    def keep_kernels(self) -> None:
        """There are none to keep."""

    def close(self) -> None:
        self._runs, self._bound, self._single, self._pool = {}, {}, None, None


def at(address: int, shape: tuple[int, ...], device: Any) -> Any:
    """A tensor of float32 over memory that lies there."""
    if device.type == "cpu":
        values = (ctypes.c_float * math.prod(shape)).from_address(address)
        return torch.from_numpy(np.ctypeslib.as_array(values).reshape(shape))
    there = {"shape": shape, "typestr": "<f4", "data": (address, False), "strides": None, "version": 2}
    return torch.as_tensor(SimpleNamespace(__cuda_array_interface__=there), device=device)


def tensor_of(values: np.ndarray) -> Any:
    """A copy as a tensor on the host; PyTorch does not know the bfloat16 that ONNX gives NumPy."""
    if values.dtype.name == "bfloat16":
        return torch.from_numpy(np.array(values.view(np.int16))).view(torch.bfloat16)
    return torch.from_numpy(np.array(values))


class Network:
    """An ONNX network (onnx.ModelProto) for PyTorch on a device.

    Whole numbers, of which shapes are computed, are on the host. What follows from shapes and constants alone is
    computed once for every shape of the inputs, so that a run has the rest to do and reads nothing from the host.
    """

    def __init__(self, model: Any, device: Any) -> None:
        from onnx import helper, numpy_helper

        self._device, self._constants = device, dict[str, Any]()
        self._nodes: list[tuple[str, list[str], list[str], dict[str, Any]]] = []
        for node in model.graph.node:
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            for name, value in attributes.items():
                if isinstance(value, bytes):
                    attributes[name] = value.decode()
                elif hasattr(value, "data_type"):
                    attributes[name] = numpy_helper.to_array(value)
            self._nodes.append((node.op_type, list(node.input), list(node.output), attributes))
        if unknown := {kind for kind, *_ in self._nodes} - OPERATIONS.keys():
            raise EngineError(f"PyTorch is not told how to compute {', '.join(sorted(unknown))}")
        kinds = {name: kind for kind, names, *_ in self._nodes for name in names[:2]}
        for tensor in model.graph.initializer:
            value = tensor_of(numpy_helper.to_array(tensor))
            if value.dtype in (torch.float16, torch.bfloat16) and value.dim() == 4 and kinds.get(tensor.name) == "Conv":
                value = value.to(memory_format=torch.channels_last)  # as the GPU's units for halves want it
            self._constants[tensor.name] = value

    def traced(self, inputs: Mapping[str, Any], outputs: list[str]) -> Run:
        """What computes those outputs of inputs that are shaped like these."""
        known, changing = dict(self._constants), dict(inputs)
        steps: list[tuple[Callable[..., Any], list[str], str]] = []
        for kind, names, (result, *_), attributes in self._nodes:
            asked = [name for name in names if name in changing]
            given = [changing[k] if k in changing else self._given(known, kind, n, k) for n, k in enumerate(names)]
            if kind == "Shape" or not asked:
                known[result] = OPERATIONS[kind](attributes, *given)
                continue
            fixed = [None if name in changing else value for name, value in zip(names, given, strict=True)]
            places = [n for n, name in enumerate(names) if name in changing]
            step = _step(partial(OPERATIONS[kind], attributes), fixed, places)
            changing[result] = step(*(changing[name] for name in asked))
            steps.append((step, asked, result))
        known |= {name: known[name].to(self._device) for name in outputs if name in known}
        last = {name: n for n, (_, asked, _) in enumerate(steps) for name in asked}

        def run(values: Mapping[str, Any]) -> dict[str, Any]:
            held = dict(values)
            for n, (step, asked, result) in enumerate(steps):
                held[result] = step(*(held[name] for name in asked))
                for name in asked:
                    if last[name] == n and name not in outputs:
                        held.pop(name, None)
            return {name: held[name] if name in held else known[name] for name in outputs}

        return run

    def _given(self, known: dict[str, Any], kind: str, number: int, name: str) -> Any:
        """A constant, where the operation wants it: whole numbers, and what says how to compute, on the host."""
        value = known.get(name)
        if value is None or not value.is_floating_point() or (number and kind in _TOLD):
            return value.cpu() if value is not None else None
        known[name] = value.to(self._device)
        return known[name]


_TOLD = ("Clip", "Pad", "Resize")
"""Operations whose inputs but the first say how to compute."""


def _step(operation: Callable[..., Any], fixed: list[Any], places: list[int]) -> Callable[..., Any]:
    """The operation of the inputs at these places; the others are fixed."""

    def step(*values: Any) -> Any:
        inputs = list(fixed)
        for place, value in zip(places, values, strict=True):
            inputs[place] = value
        return operation(*inputs)

    return step


def _ints(values: Any) -> list[int]:
    return [int(v) for v in values.reshape(-1).tolist()]


def _window(a: dict[str, Any]) -> tuple[tuple[int, ...], tuple[int, int], tuple[int, ...]]:
    """Strides, padding and dilations of a convolution or pooling."""
    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right) or a.get("auto_pad", "NOTSET") != "NOTSET" or a.get("ceil_mode"):
        raise EngineError(f"PyTorch is not told how to pad by {a}")
    return tuple(a.get("strides", (1, 1))), (top, left), tuple(a.get("dilations", (1, 1)))


def _gemm(a: dict[str, Any], x: Any, weight: Any, bias: Any) -> Any:
    """Without cuBLAS, whose workspace is shared by all that run on a stream. They are small."""
    assert a.get("transB") and not a.get("transA") and a.get("alpha", 1) == a.get("beta", 1) == 1
    return ((x.float()[:, None, :] * weight.float()[None]).sum(-1) + bias.float()).to(x.dtype)


def _average_pool(a: dict[str, Any], x: Any) -> Any:
    strides, padding, _ = _window(a)
    counted = bool(a.get("count_include_pad"))
    return functional.avg_pool2d(x, a["kernel_shape"], strides, padding, count_include_pad=counted)


def _resize(a: dict[str, Any], x: Any, roi: Any, scales: Any) -> Any:
    size = [round(n * s) for n, s in zip(x.shape, scales.tolist(), strict=True)]
    assert size == [n * s for n, s in zip(x.shape, scales.tolist(), strict=True)] and not a.get("antialias")
    kind = a["mode"], a.get("coordinate_transformation_mode", "half_pixel"), a.get("nearest_mode", "floor")
    if kind[:2] == ("linear", "half_pixel"):
        return functional.interpolate(x, size[2:], mode="bilinear", align_corners=False)
    if kind == ("nearest", "asymmetric", "floor"):
        return functional.interpolate(x, size[2:], mode="nearest")
    raise EngineError(f"PyTorch is not told how to resize by {kind}")


def _grid_sample(a: dict[str, Any], x: Any, grid: Any) -> Any:
    assert a["mode"] == "cubic"
    return functional.grid_sample(x, grid, "bicubic", a["padding_mode"], bool(a.get("align_corners")))


def _pad(a: dict[str, Any], x: Any, pads: Any) -> Any:
    before, after = np.split(np.array(_ints(pads)), 2)
    mode, axes = ("replicate", (3, 2)) if a["mode"] == "edge" else (a["mode"], (3, 2, 1, 0))
    assert not any(np.delete((before, after), axes, 1).flat)
    return functional.pad(x, [int(v) for n in axes for v in (before[n], after[n])], mode)


def _conv(a: dict[str, Any], x: Any, weight: Any, bias: Any = None) -> Any:
    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right):  # PyTorch's own padding is even
        x, a = functional.pad(x, (left, right, top, bottom)), a | {"pads": (0, 0, 0, 0)}
    return functional.conv2d(x, weight, bias, *_window(a), a.get("group", 1))


def _slice(a: dict[str, Any], x: Any, starts: Any, ends: Any, axes: Any, steps: Any = None) -> Any:
    by = [1] * len(starts) if steps is None else _ints(steps)
    for axis, first, last, step in zip(_ints(axes), _ints(starts), _ints(ends), by, strict=True):
        size = x.shape[axis]
        at = range(size)[slice(first, last if step > 0 or last >= -size else None, step)]
        if step < 0:  # of the numbers that shapes are made of
            x, at = x.flip(axis), range(size - 1 - at.start, size - 1 - at.stop, -at.step)
        x = x[(slice(None),) * (axis % x.dim()) + (slice(at.start, at.stop, at.step),)]
    return x


def _unsqueeze(a: dict[str, Any], x: Any, axes: Any) -> Any:
    for axis in sorted(n % (x.dim() + len(axes)) for n in _ints(axes)):
        x = x.unsqueeze(axis)
    return x


def _clip(a: dict[str, Any], x: Any, low: Any = None, high: Any = None) -> Any:
    return x.clamp(None if low is None else low.item(), None if high is None else high.item())


def _gather(a: dict[str, Any], x: Any, indices: Any) -> Any:
    assert a.get("axis", 0) == 0 and indices.dim() <= 1
    return x[indices.long()]


def _div(a: dict[str, Any], x: Any, y: Any) -> Any:
    return x / y if x.is_floating_point() else x.div(y, rounding_mode="trunc")


def _plain(name: str) -> Callable[..., Any]:
    return lambda a, *inputs: getattr(torch, name)(*inputs)


def _reduced(how: str) -> Callable[..., Any]:
    return lambda a, x, axes: getattr(x, how)(_ints(axes), keepdim=bool(a.get("keepdims", 1)))


def _reshape(a: dict[str, Any], x: Any, shape: Any) -> Any:
    return x.reshape([x.shape[n] if size == 0 else size for n, size in enumerate(_ints(shape))])


def _constant_of_shape(a: dict[str, Any], shape: Any) -> Any:
    value = tensor_of(a["value"])
    return torch.full(_ints(shape), value.item(), dtype=value.dtype)


def _depth_to_space(a: dict[str, Any], x: Any) -> Any:
    assert a["mode"] == "CRD"
    return functional.pixel_shuffle(x, a["blocksize"])


KINDS = {1: "float32", 7: "int64", 10: "float16", 16: "bfloat16"}
OPERATIONS: dict[str, Callable[..., Any]] = {
    **{kind: _plain(kind.lower()) for kind in ("Abs", "Neg", "Relu", "Sigmoid", "Sqrt", "Tanh")},
    **{kind: _plain(kind.lower()) for kind in ("Add", "Mul", "Pow", "Sub")},
    "AveragePool": _average_pool,
    "Cast": lambda a, x: x.to(getattr(torch, KINDS[a["to"]])),
    "Clip": _clip,
    "Concat": lambda a, *parts: torch.cat(parts, a["axis"]),
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "DepthToSpace": _depth_to_space,
    "Div": _div,
    "Gather": _gather,
    "Gemm": _gemm,
    "GridSample": _grid_sample,
    "MaxPool": lambda a, x: functional.max_pool2d(x, a["kernel_shape"], *_window(a)),
    "Pad": _pad,
    "PRelu": lambda a, x, slope: functional.prelu(x, slope.flatten()),
    "ReduceMean": _reduced("mean"),
    "ReduceSum": _reduced("sum"),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": lambda a, x: torch.tensor(list(x.shape)[a.get("start", 0) : a.get("end")], dtype=torch.int64),
    "Slice": _slice,
    "Squeeze": lambda a, x, axes: x.squeeze(tuple(_ints(axes))),
    "Transpose": lambda a, x: x.permute(a["perm"]),
    "Unsqueeze": _unsqueeze,
}
"""What the shipped networks and those of the tests are made of: (attributes, *inputs) → the first output."""

if __name__ == "__main__":
    from rtface.device.cuda.gpu import Gpu

    print(nothing_runs(Gpu(0)))
