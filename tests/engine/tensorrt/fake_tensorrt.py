"""TensorRT's objects of the tests: a network's tensors, and a context that computes it on the host when the stream that
it was put on (`tests/device/cuda/fake_gpu.py`) comes to it; and the module of the full TensorRT (`FakeTensorRt`)."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from rtface.engine.recipe import Recipe
from rtface.errors import EngineError
from tests.device.cuda.fake_gpu import STREAMS


class _Named:
    def __init__(self, name: str) -> None:
        self.name = name


class FakeEngine:
    """An ICudaEngine with the tensors of a recipe."""

    def __init__(self, recipe: Recipe) -> None:
        self.inputs, self.outputs = recipe.inputs, recipe.outputs
        self.names = [*self.inputs, *self.outputs]
        self.dtype = "FLOAT"

    @property
    def num_io_tensors(self) -> int:
        return len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> _Named:
        return _Named("INPUT" if name in self.inputs else "OUTPUT")

    def get_tensor_dtype(self, name: str) -> _Named:
        return _Named(self.dtype)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *(self.inputs | self.outputs)[name])


Answer = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


class FakeContext:
    """An IExecutionContext that computes `answer` on the host, and keeps what was called.

    As TensorRT's, a run can be captured in a graph only after one with the same shapes and addresses; and the graph
    must not be replayed once these have changed.
    """

    def __init__(self, engine: FakeEngine, answer: Answer) -> None:
        self.engine, self.answer = engine, answer
        self.calls: list[tuple[Any, ...]] = []
        self.addresses: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.fails: set[str] = set()
        self.changes = 0
        self.ran_at = -1

    def update_device_memory_size_for_shapes(self) -> int:
        return 1024 * next(iter(self.shapes.values()))[0]

    def set_device_memory(self, address: int, nbytes: int) -> None:
        self.calls.append(("memory", address, nbytes))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.calls.append(("address", name, address))
        self.addresses[name] = address
        self.changes += 1
        return "address" not in self.fails

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.calls.append(("shape", name, shape))
        self.shapes[name] = shape
        self.changes += 1
        return "shape" not in self.fails

    def execute_async_v3(self, handle: int) -> bool:
        self.calls.append(("execute", handle))
        captured, at = STREAMS[handle].steps is not None, self.changes
        if "execute" in self.fails or (captured and self.ran_at != at):
            return False
        self.ran_at = at
        batch, gpu = next(iter(self.shapes.values()))[0], STREAMS[handle].gpu
        memory = {name: gpu.at(address) for name, address in self.addresses.items()}

        def view(name: str, shape: tuple[int, ...]) -> np.ndarray:
            values = memory[name].array.view(np.float32)
            return values[: batch * int(np.prod(shape))].reshape(batch, *shape)

        def step() -> None:
            assert not captured or at == self.changes, "a graph is replayed, but its context has been changed"
            given = {name: view(name, shape).copy() for name, shape in self.engine.inputs.items()}
            for name, value in self.answer(given).items():
                view(name, self.engine.outputs[name])[:] = value

        gpu.defer(handle, step)
        return True

    def is_stream_capturable(self, handle: int) -> bool:
        self.calls.append(("capturable", handle))
        return True


class FakeExecution:
    """In the place of `rtface.engine.tensorrt.execution.Execution`."""

    def __init__(self, recipe: Recipe, answer: Answer) -> None:
        self.engine, self.answer = FakeEngine(recipe), answer
        self.contexts: list[FakeContext] = []
        self.fails: set[str] = set()
        self.least_scratch = 0
        self.closed = self.kept = 0

    def new_context(self) -> FakeContext:
        self.contexts.append(FakeContext(self.engine, self.answer))
        self.contexts[-1].fails = self.fails
        return self.contexts[-1]

    def scratch_bytes(self, context: FakeContext) -> int:
        return context.update_device_memory_size_for_shapes()

    def most_scratch_bytes(self) -> int:
        return 8192

    def give_scratch(self, context: FakeContext, address: int, nbytes: int) -> bool:
        context.set_device_memory(address, nbytes)
        return nbytes >= self.least_scratch

    def capturable(self, context: FakeContext, handle: int) -> bool:
        return context.is_stream_capturable(handle)

    def fault(self) -> str:
        return "out of luck"

    def keep_kernels(self) -> None:
        if self.closed:
            raise EngineError("kept after it was closed")
        self.kept += 1

    def close(self) -> None:
        self.closed += 1


class FakeTensorRt:
    """The module of the full TensorRT as far as it is called, whose plans ONNX Runtime computes. A plan is a line that
    tells its flags, and the network that was parsed.

    Weights are exchanged as NVIDIA's documentation and the source of its ONNX parser say: in a plan that was built with
    REFIT alone; under the names that they have in the network, in the same type and form; all of them or none; and the
    parser holds the values until the refitter has taken them over.

    Attributes:
        builds: the flags of each plan that was built.
        refits: how many plans were given other weights.
        broken: what does not work, of "build" (with REFIT), "flag", "fixed" (weights that are not listed), "parse",
            "refit" and "answer" (grey after a refit).
    """

    def __init__(self) -> None:
        self.builds: list[set[str]] = []
        self.refits = 0
        self.broken = ""
        self.ILogger = type("ILogger", (), {})
        self.BuilderFlag = SimpleNamespace(TF32="TF32", REFIT="REFIT")
        self.MemoryPoolType = SimpleNamespace(WORKSPACE="WORKSPACE")
        self.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="USER_MANAGED")
        self.Builder = lambda logger: SimpleNamespace(
            create_network=lambda flags: _Network(),
            create_builder_config=_Config,
            create_optimization_profile=lambda: SimpleNamespace(set_shape=lambda name, least, usual, most: None),
            build_serialized_network=self._build,
        )
        self.OnnxParser = lambda network, logger: SimpleNamespace(parse=network.parse, num_errors=0)
        self.Runtime = lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda blob: _Loaded(self, blob))
        self.Refitter, self.OnnxParserRefitter = _Refitter, _OnnxParserRefitter

    def _build(self, network: _Network, config: _Config) -> bytes | None:
        if "REFIT" in config.on and self.broken == "build":
            return None
        self.builds.append(config.on)
        return " ".join(sorted(config.on)).encode() + b"\n" + network.model.SerializeToString()


class _Config:
    """An IBuilderConfig; `on` are its flags."""

    def __init__(self) -> None:
        self.on = {"TF32"}
        self.set_flag, self.clear_flag = self.on.add, self.on.remove

    def set_memory_pool_limit(self, kind: str, nbytes: int) -> None:
        assert kind == "WORKSPACE"

    def add_optimization_profile(self, shapes: Any) -> None:
        pass


class _Network:
    """An INetworkDefinition."""

    model: Any

    def parse(self, data: bytes) -> bool:
        import onnx

        self.model = onnx.load_model_from_string(data)
        self._inputs, self._outputs = (
            [
                SimpleNamespace(
                    name=port.name,
                    shape=tuple(d.dim_value or -1 for d in port.type.tensor_type.shape.dim),
                    dtype=_Named(onnx.TensorProto.DataType.Name(port.type.tensor_type.elem_type)),
                )
                for port in ports
            ]
            for ports in (self.model.graph.input, self.model.graph.output)
        )
        self.num_inputs, self.num_outputs = len(self._inputs), len(self._outputs)
        self.get_input, self.get_output = self._inputs.__getitem__, self._outputs.__getitem__
        return True


class _Loaded(FakeEngine):
    """An ICudaEngine of a plan of `FakeTensorRt`."""

    device_memory_size_v2 = 65536

    def __init__(self, library: FakeTensorRt, blob: bytes) -> None:
        flags, _, data = blob.partition(b"\n")
        network = _Network()
        network.parse(data)
        ports = (
            {port.name: port.shape[1:] for port in map(get, range(count))}
            for get, count in ((network.get_input, network.num_inputs), (network.get_output, network.num_outputs))
        )
        super().__init__(SimpleNamespace(inputs=next(ports), outputs=next(ports)))  # type: ignore[arg-type]
        self.library, self.model, self.refitted = library, network.model, False
        self._session: Any = None
        self.refittable = b"REFIT" in flags.split() and library.broken != "flag"

    def create_execution_context(self, settings: str) -> FakeContext:
        assert settings == "USER_MANAGED"
        return FakeContext(self, self.answer)

    def take(self, weights: Mapping[str, Any]) -> None:
        for tensor in self.model.graph.initializer:
            if tensor.name in weights:
                tensor.CopyFrom(weights[tensor.name])
        self.library.refits += 1
        self._session, self.refitted = None, True

    def answer(self, given: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        import onnxruntime

        if self._session is None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            self._session = onnxruntime.InferenceSession(
                self.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        found = dict(zip(self.outputs, self._session.run(list(self.outputs), dict(given)), strict=True))
        if self.refitted and self.library.broken == "answer":
            found = {name: np.full_like(value, 0.5) for name, value in found.items()}
        return found


class _Refitter:
    def __init__(self, engine: _Loaded, logger: Any) -> None:
        if not engine.refittable:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self.engine, self.logger = engine, logger
        self.given: dict[str, Any] = {}
        self.holder: Callable[[], Any] = lambda: None
        graph = engine.model.graph
        parameters = {name for node in graph.node if node.op_type == "Resize" for name in node.input[1:]}
        self.known = {t.name: t for t in graph.initializer if t.data_type in (1, 10, 16) and t.name not in parameters}
        if engine.library.broken == "fixed":
            self.known.pop(min(name for name in self.known if ".bias" in name))

    def get_all_weights(self) -> list[str]:
        return list(self.known)

    def refuse(self, why: str) -> bool:
        self.logger.log(_Named("ERROR"), why)
        return False

    def refit_cuda_engine(self) -> bool:
        assert self.holder() is not None, "the values that it is to take over are freed"
        if self.engine.library.broken == "refit" or self.known.keys() - self.given.keys():
            return self.refuse("some weights are missing")
        self.engine.take(self.given)
        return True


class _OnnxParserRefitter:
    def __init__(self, refitter: _Refitter, logger: Any) -> None:
        self.refitter = refitter
        refitter.holder = weakref.ref(self)

    def refit_from_bytes(self, data: bytes) -> bool:
        import onnx

        known, refuse = self.refitter.known, self.refitter.refuse
        given = {t.name: t for t in onnx.load_model_from_string(data).graph.initializer if t.name in known}
        if self.refitter.engine.library.broken == "parse" or given.keys() != known.keys():
            return refuse("not all weights are there")
        for name, tensor in given.items():
            if (tensor.data_type, tensor.dims) != (known[name].data_type, known[name].dims):
                return refuse(f"{name} has another type or form")
        self.refitter.given = given
        return True
