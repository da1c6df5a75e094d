"""Networks through PyTorch: on the CPU in fp32 (the reference), and on GPUs of NVIDIA for which there is no TensorRT,
in fp16 or bf16 with the recipe's `fp32_nodes` in fp32."""
# The dev install has no torch: its types are not known.
# pyright: reportMissingImports=false, reportUnknownParameterType=false

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Mapping
from typing import Any

import numpy as np
import onnx
import torch

from rtface.device.cuda.gpu import Memory
from rtface.engine.plan import PlanIdentity
from rtface.engine.recipe import Recipe
from rtface.engine.recipe_tables import Precision
from rtface.engine.torch_backend.onnx_torch import Network, Shapes
from rtface.errors import DeviceLost, EngineError, MissingComponent, OutOfDeviceMemory
from rtface.frame import Float32

_DTYPES: dict[Precision, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}


def check_here(device: str) -> None:
    """Raises MissingComponent when PyTorch cannot use `device`, "cpu" or "cuda:1" on this machine."""
    if device == "cpu":
        return
    if torch.version.cuda is None:
        raise MissingComponent(f"this PyTorch ({torch.__version__}) is built without CUDA; get the build with it that "
                               "PyTorch's own site names for this machine")
    if not torch.cuda.is_available():
        raise MissingComponent(f"PyTorch {torch.__version__} finds no NVIDIA GPU and driver for its CUDA "
                               f"{torch.version.cuda}; rtface doctor says what is here")
    if int(device.removeprefix("cuda:")) >= torch.cuda.device_count():
        here = [f"torch:cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
        raise MissingComponent(f"PyTorch finds no GPU {device.removeprefix('cuda:')}; there is: {', '.join(here)}")


def supported(device: str) -> tuple[Precision, ...]:
    """Precisions that the device computes in natively, fastest first."""
    if device == "cpu":
        return ("f32",)
    capability = torch.cuda.get_device_capability(device)
    return ("fp16", "bf16", "f32") if capability >= (8, 0) else ("fp16", "f32") if capability >= (7, 0) else ("f32",)


def identify(recipe: Recipe, precision: Precision, device: str) -> PlanIdentity:
    """What a plan of `recipe` on this device is remembered by."""
    what = "cpu" if device == "cpu" else torch.cuda.get_device_name(device)
    return PlanIdentity.of(recipe, "torch", str(torch.__version__), what, precision)


class TorchPlan:
    """One network in PyTorch: for arrays of the host (see `rtface.engine.plan.Plan`), and for memory of a GPU.

    Attributes:
        identity: what it is remembered by.
        ports: tensor name → dtype of its buffer and shape for one crop, inputs and outputs.
        max_batch: crops in one run, at most, on the GPU.
        scratch: None: what it reserves besides is PyTorch's own affair.
    """

    scratch = None

    def __init__(self, recipe: Recipe, precision: Precision, threads: int, device: str = "cpu") -> None:
        self.identity = identify(recipe, precision, device)
        self.max_batch = recipe.batch.max
        self._inputs, self._outputs = recipe.inputs, recipe.outputs
        self.ports = {name: (np.dtype(np.float32), shape) for name, shape in (self._inputs | self._outputs).items()}
        self._name, self._device, self._threads, self._precision = recipe.name, device, threads, precision
        self._bound: dict[str, Any] = {}
        self._network: Network | None = None
        try:
            # The network in fp32 has nothing to keep in it.
            keep = recipe.precision.fp32_nodes if precision != "f32" else ()
            network = Network(onnx.load(recipe.model_path), _DTYPES[precision], keep).to(device)
            network.prepare(self._shapes(1))
            if precision != "f32":  # what a GPU's tensor cores compute fastest
                network = network.to(memory_format=torch.channels_last)
        except EngineError as error:
            raise EngineError(f"engine {recipe.name}: {error}") from error
        except Exception as error:  # a damaged file: protobuf's errors share no base but Exception
            raise self._failure(error) from error
        if absent := {*self._inputs} - {*network.inputs} or {*self._outputs} - {*network.outputs}:
            raise EngineError(f"engine {recipe.name}: the network has no tensor {', '.join(sorted(absent))}")
        self._network = network

    def _shapes(self, batch: int) -> Shapes:
        return tuple((name, (batch, *shape)) for name, shape in self._inputs.items())

    def run(self, inputs: Mapping[str, Float32], outputs: Mapping[str, Float32]) -> None:
        with self._computing() as network:
            answers = network({name: torch.from_numpy(value).to(self._device) for name, value in inputs.items()})
            for name, out in outputs.items():
                if tuple(answers[name].shape) != out.shape:
                    raise EngineError(f"engine {self._name}: output {name} is {tuple(answers[name].shape)}, "
                                      f"not {out.shape}")
                torch.from_numpy(out).copy_(answers[name])

    def capturable(self, handle: int, batch: int) -> bool:
        """Whether `enqueue` may be captured into a CUDA graph. PyTorch would need its memory pool for that to outlive
        the capture, which nobody has seen work here: no."""
        return False

    def bind(self, buffers: Mapping[str, Memory], batch: int | None = None) -> None:
        """Takes memory of the GPU for every tensor of `ports`, each for `batch` crops (`max_batch` when None); it is
        used where it lies from now on, and has to outlive the plan."""
        batch = batch or self.max_batch
        for name, (dtype, shape) in self.ports.items():
            needed = batch * math.prod(shape) * dtype.itemsize
            if buffers[name].nbytes < needed:
                raise EngineError(f"engine {self._name}: {name} needs {needed} bytes, got {buffers[name].nbytes}")
            self._bound[name] = _view(buffers[name], dtype, (batch, *shape), self._device)
        with self._computing() as network:
            for size in range(1, batch + 1):  # so that no frame has to wait for it
                network.prepare(self._shapes(size))

    def enqueue(self, handle: int, batch: int) -> None:
        """Puts the work on the first `batch` crops of what was bound on a stream (cudaStream_t); does not wait."""
        with self._computing() as network, _on_stream(handle, self._device):
            answers = network({name: self._bound[name][:batch] for name in self._inputs})
            for name in self._outputs:
                self._bound[name][:batch].copy_(answers[name])

    @contextlib.contextmanager
    def _computing(self) -> Generator[Network]:
        """The network, for inference, exact in f32; what PyTorch raises becomes an EngineError."""
        if self._network is None:
            raise EngineError(f"engine {self._name} is closed")
        if self._device == "cpu" and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        # Without the flag fp32 convolutions on a GPU are rounded to 10 bits.
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=self._precision != "f32")
        try:
            with torch.inference_mode(), exact:
                yield self._network
        except EngineError as error:
            raise error if self._name in str(error) else EngineError(f"engine {self._name}: {error}") from error
        except RuntimeError as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> EngineError:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        text = f"engine {self._name}: PyTorch failed: {first}"
        if isinstance(error, torch.OutOfMemoryError):
            return OutOfDeviceMemory(text)
        return DeviceLost(text) if isinstance(error, torch.AcceleratorError) else EngineError(text)

    def close(self) -> None:
        self._network = None
        self._bound.clear()


class _OnGpu:
    """Memory of a GPU as PyTorch takes it without a copy (the CUDA array interface)."""

    def __init__(self, memory: Memory, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self.__cuda_array_interface__ = {"shape": shape, "typestr": dtype.str, "data": (memory.address, False),
                                         "strides": None, "version": 3}


def _view(memory: Memory, dtype: np.dtype[Any], shape: tuple[int, ...], device: str) -> torch.Tensor:
    return torch.as_tensor(_OnGpu(memory, dtype, shape), device=device)


def _on_stream(handle: int, device: str) -> contextlib.AbstractContextManager[Any]:
    return torch.cuda.stream(torch.cuda.ExternalStream(handle, device=device))
