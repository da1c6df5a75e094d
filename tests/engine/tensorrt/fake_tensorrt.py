"""TensorRT's objects of the tests: a network's tensors, and a context that computes it on the host when the stream that
it was put on (`tests/device/cuda/fake_gpu.py`) comes to it."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace

import numpy as np

from rtface.engine.recipe import Recipe
from tests.device.cuda.fake_gpu import STREAMS


class FakeEngine:
    """An ICudaEngine with the tensors of a recipe."""

    def __init__(self, recipe: Recipe) -> None:
        self.inputs, self.outputs = recipe.inputs, recipe.outputs
        self.num_io_tensors = len(self.inputs) + len(self.outputs)

    def get_tensor_name(self, index: int) -> str:
        return [*self.inputs, *self.outputs][index]

    def get_tensor_mode(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name="INPUT" if name in self.inputs else "OUTPUT")

    def get_tensor_dtype(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name="FLOAT")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *(self.inputs | self.outputs)[name])


Answer = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


class FakeContext:
    """An IExecutionContext that computes `answer` on the host, and fails where it is told to.

    As TensorRT's, a run can be captured in a graph only after one with the same shapes and addresses; and the graph
    must not be replayed once these have changed.
    """

    def __init__(self, engine: FakeEngine, answer: Answer) -> None:
        self.engine, self.answer = engine, answer
        self.addresses: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.fails: set[str] = set()
        self.changes = 0
        self.ran_at = -1

    def update_device_memory_size_for_shapes(self) -> int:
        return 1024 * next(iter(self.shapes.values()))[0]

    def set_device_memory(self, address: int, nbytes: int) -> None: ...

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        self.changes += 1
        return "address" not in self.fails

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        self.changes += 1
        return "shape" not in self.fails

    def execute_async_v3(self, handle: int) -> bool:
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

    def give_scratch(self, context: FakeContext, address: int, nbytes: int) -> bool:
        context.set_device_memory(address, nbytes)
        return nbytes >= self.least_scratch

    def capturable(self, context: FakeContext, handle: int) -> bool:
        return context.is_stream_capturable(handle)

    def fault(self) -> str:
        return "out of luck"

    def keep_kernels(self) -> None:
        self.kept += 1

    def close(self) -> None:
        self.closed = 1
