"""A card of the tests: memory of the host, and streams that run as late as somebody waits.

Enough of `rtface.device.card` for a plan: a use of freed memory, and memory that is left, are faults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rtface.engine.recipe import Recipe
from rtface.errors import EngineError

# What an address or a handle stands for, as a library that is given one finds out.
MEMORY: dict[int, FakeMemory] = {}
STREAMS: dict[int, FakeStream] = {}


class FakeMemory:
    def __init__(self, card: FakeCard, nbytes: int) -> None:
        self.card = card
        self._data = np.full(nbytes, 0xAA, np.uint8)
        self.address, self.nbytes = self._data.ctypes.data, nbytes
        MEMORY[self.address] = self
        card.memory.append(self)

    def bytes(self) -> np.ndarray:
        assert self in self.card.memory, "used after it was freed"
        return self._data

    def close(self) -> None:
        if self in self.card.memory:
            self.card.memory.remove(self)
            MEMORY.pop(self.address, None)


class FakeStream:
    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.handle = 100 + len(STREAMS)
        STREAMS[self.handle] = self

    def copy(self, to: FakeMemory, source: FakeMemory, nbytes: int, *, to_at: int = 0, source_at: int = 0) -> None:
        def step() -> None:
            to.bytes()[to_at:to_at + nbytes] = source.bytes()[source_at:source_at + nbytes]
        self.waiting.append(step)

    def call(self, enqueue: Callable[[int], None], *, reads: Sequence[FakeMemory] = (),
             writes: Sequence[FakeMemory] = ()) -> None:
        enqueue(self.handle)

    def record(self, event: FakeEvent) -> None:
        event.stream = self

    def run(self) -> None:
        for step in self.waiting:
            step()
        self.waiting.clear()


class FakeEvent:
    stream: FakeStream | None = None

    def synchronize(self) -> None:
        assert self.stream is not None, "waited for before it was recorded"
        self.stream.run()


class FakeCard:
    """Says that it is of `capability`."""

    driver = "580.1"

    def __init__(self, name: str = "NVIDIA GeForce RTX 4090", capability: tuple[int, int] = (8, 9)) -> None:
        self.name, self.capability = name, capability
        self.memory: list[FakeMemory] = []
        self.closed = False

    def allocate(self, nbytes: int) -> FakeMemory:
        return FakeMemory(self, nbytes)

    pin = allocate

    def stream(self) -> FakeStream:
        return FakeStream()

    def event(self, *, timed: bool = False) -> FakeEvent:
        return FakeEvent()

    def close(self) -> None:
        self.closed = True


class _Named:
    def __init__(self, name: str) -> None:
        self.name = name


class FakeEngine:
    """An ICudaEngine with the tensors of a recipe."""

    device_memory_size_v2 = 4096

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
    """An IExecutionContext that computes `answer` on the host, and keeps what was called."""

    def __init__(self, engine: FakeEngine, answer: Answer) -> None:
        self.engine, self.answer = engine, answer
        self.calls: list[tuple[Any, ...]] = []
        self.addresses: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.fails: set[str] = set()

    def set_device_memory(self, address: int, nbytes: int) -> None:
        self.calls.append(("memory", address, nbytes))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.calls.append(("address", name, address))
        self.addresses[name] = address
        return "address" not in self.fails

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.calls.append(("shape", name, shape))
        self.shapes[name] = shape
        return "shape" not in self.fails

    def execute_async_v3(self, handle: int) -> bool:
        self.calls.append(("execute", handle))
        if "execute" in self.fails:
            return False
        batch = next(iter(self.shapes.values()))[0]

        addresses = dict(self.addresses)

        def view(name: str, shape: tuple[int, ...]) -> np.ndarray:
            values = MEMORY[addresses[name]].bytes().view(np.float32)
            return values[:batch * int(np.prod(shape))].reshape(batch, *shape)

        def step() -> None:
            given = {name: view(name, shape).copy() for name, shape in self.engine.inputs.items()}
            for name, value in self.answer(given).items():
                view(name, self.engine.outputs[name])[:] = value
        STREAMS[handle].waiting.append(step)
        return True

    def is_stream_capturable(self, handle: int) -> bool:
        self.calls.append(("capturable", handle))
        return True


class FakeExecution:
    """In the place of `rtface.engine.tensorrt.execution.Execution`."""

    scratch_bytes = FakeEngine.device_memory_size_v2

    def __init__(self, recipe: Recipe, answer: Answer) -> None:
        self.engine = FakeEngine(recipe)
        self.context = FakeContext(self.engine, answer)
        self.closed = self.kept = 0

    def capturable(self, handle: int) -> bool:
        return self.context.is_stream_capturable(handle)

    def fault(self) -> str:
        return "out of luck"

    def keep_kernels(self) -> None:
        if self.closed:
            raise EngineError("kept after it was closed")
        self.kept += 1

    def close(self) -> None:
        self.closed += 1
