"""A plan on the GPU: bound to memory that stays where it is, and put on a stream without waiting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rtface.device.cuda.gpu import Gpu, Memory, Pinned
from rtface.engine.plan import PlanIdentity
from rtface.engine.recipe import Recipe
from rtface.engine.tensorrt.execution import Execution
from rtface.errors import EngineError
from rtface.frame import Float32


class TensorRtPlan:
    """One network on one GPU. Not for use from several threads; the GPU is current in the one that uses it.

    It is used in one of two ways: from memory of the GPU (`bind`, then `enqueue` as often as wanted), or from arrays
    of the host with `run`, one crop at a time, which the golden gate does.

    Each batch size has an execution context of its own, whose shapes and addresses never change after `bind`: TensorRT
    leaves undefined what a CUDA graph does once the context that it was captured from has been changed. The contexts
    share one piece of scratch memory, so only one run may be on the GPU at a time.

    Attributes:
        identity: see `rtface.engine.plan.Plan`.
        ports: of each input and output, its dtype and its shape for one crop, by tensor name. Memory bound to a port
            holds `max_batch` crops one behind the other.
        max_batch: the largest number of crops in one run.
        scratch: the network's own memory on the GPU, which each run writes to; None where it needs none.
    """

    def __init__(self, recipe: Recipe, identity: PlanIdentity, execution: Execution, gpu: Gpu) -> None:
        """Takes `execution` over, whose network has the recipe's tensors."""
        self.identity = identity
        self.ports = {name: (np.dtype(np.float32), shape) for name, shape in (recipe.inputs | recipe.outputs).items()}
        self.max_batch = recipe.batch.max
        self._inputs = recipe.inputs
        self._name = recipe.name
        self._execution = execution
        self._gpu = gpu
        self._contexts: dict[int, Any] = {}  # by batch size
        self.scratch: Memory | None = None
        self._host: _Host | None = None

    def nbytes(self, name: str, batch: int) -> int:
        """Bytes of a port's memory for that many crops."""
        dtype, shape = self.ports[name]
        return batch * math.prod(shape) * dtype.itemsize

    def bind(self, buffers: Mapping[str, Memory], sizes: Sequence[int] | None = None) -> None:
        """Sets where each port is read from or written to, from now on: all of them, each for the largest of `sizes`,
        the numbers of crops in one run (1 to `max_batch` when None). What was put on a stream before must have ended.

        Raises EngineError, and OutOfDeviceMemory where the GPU lacks the scratch memory of such a batch.
        """
        self._release_host()
        self._bind(buffers, sizes or range(1, self.max_batch + 1))

    def _bind(self, buffers: Mapping[str, Memory], sizes: Sequence[int]) -> None:
        self._contexts = {}
        contexts = {n: self._context(buffers, n) for n in sizes}
        self._share_scratch(contexts)
        self._contexts = contexts

    def _context(self, buffers: Mapping[str, Memory], batch: int) -> Any:
        """An execution context for batches of one size."""
        context = self._execution.new_context()
        for name in self.ports:
            if not context.set_tensor_address(name, buffers[name].address):
                raise EngineError(
                    "engine {name}: {tensor} cannot be bound: {why}",
                    code="plan_bind",
                    name=self._name,
                    tensor=name,
                    why=self._execution.fault(),
                )
        for name, shape in self._inputs.items():
            if not context.set_input_shape(name, (batch, *shape)):
                raise EngineError(
                    "engine {name}: no batch of {batch}: {why}",
                    code="plan_no_batch",
                    name=self._name,
                    batch=batch,
                    why=self._execution.fault(),
                )
        return context

    def _share_scratch(self, contexts: Mapping[int, Any]) -> None:
        """Gives all contexts the scratch memory that the most demanding of them needs."""
        need = max(int(context.update_device_memory_size_for_shapes()) for context in contexts.values())
        if self.scratch is None or self.scratch.nbytes != need:
            self._free_scratch()
            self.scratch = self._gpu.allocate(need) if need else None
        memory = self.scratch
        if memory is not None and not all(
            self._execution.give_scratch(context, memory.address, memory.nbytes) for context in contexts.values()
        ):
            raise EngineError(
                "engine {name}: TensorRT does not take {need} bytes of scratch memory: {why}",
                code="tensorrt_scratch",
                name=self._name,
                need=need,
                why=self._execution.fault(),
            )

    def enqueue(self, handle: int, batch: int) -> None:
        """Puts a run over the first `batch` crops of the bound memory on the stream with that handle.

        Allocates nothing and waits for nothing, except that TensorRT for RTX compiles its kernels when a batch size
        first comes: let each one come once before it counts, and before it is recorded. Raises EngineError.
        """
        if not self._contexts[batch].execute_async_v3(handle):
            why = self._execution.fault()
            raise EngineError("engine {name}: TensorRT failed: {why}", code="tensorrt_failed", name=self._name, why=why)

    def capturable(self, handle: int, batch: int) -> bool:
        """True if `enqueue` with that batch can be recorded to a graph on that stream, having run there once."""
        return self._execution.capturable(self._contexts[batch], handle)

    def run(self, inputs: Mapping[str, Float32], outputs: Mapping[str, Float32]) -> None:
        """Runs crops as `rtface.engine.plan.Plan`, before memory of the GPU is bound: copies to the GPU, runs, copies
        back and waits."""
        if self._host is None:
            self._host = _Host(self, self._gpu)
            self._bind(self._host.memory, (1,))
        self._host.run(inputs, outputs)

    def keep_kernels(self) -> None:
        """Keeps what the library compiled on this GPU, for the next start; cheap where there is nothing new."""
        self._execution.keep_kernels()

    def _release_host(self) -> None:
        host, self._host = self._host, None
        if host is not None:
            self._contexts = {}
            host.close()

    def _free_scratch(self) -> None:
        scratch, self.scratch = self.scratch, None
        if scratch is not None:
            scratch.close()

    def close(self) -> None:
        """Frees the network and its memory; what was put on a stream must have ended. Safe to call twice."""
        self._contexts = {}  # the library wants them gone before their engine
        self._execution.close()
        self._release_host()
        self._free_scratch()


class _Host:
    """Memory for one crop on both sides, and a stream, for `TensorRtPlan.run`."""

    def __init__(self, plan: TensorRtPlan, gpu: Gpu) -> None:
        self._plan = plan
        self.memory: dict[str, Memory] = {}
        self._pinned: dict[str, Pinned] = {}
        try:
            for name in plan.ports:
                self.memory[name] = gpu.allocate(plan.nbytes(name, 1))
                self._pinned[name] = gpu.pin(plan.nbytes(name, 1))
            self._stream, self._done = gpu.stream(), gpu.event()
        except BaseException:
            self.close()
            raise

    def run(self, inputs: Mapping[str, Float32], outputs: Mapping[str, Float32]) -> None:
        stream, memory = self._stream, self.memory
        for name, value in inputs.items():
            self._pinned[name].bytes()[:] = np.ascontiguousarray(value, np.float32).reshape(-1).view(np.uint8)
            stream.copy(memory[name], self._pinned[name], memory[name].nbytes)
        written = [memory[name] for name in memory if name not in inputs]
        if self._plan.scratch is not None:
            written.append(self._plan.scratch)
        stream.call(
            lambda handle: self._plan.enqueue(handle, 1), reads=[memory[name] for name in inputs], writes=written
        )
        for name in outputs:
            stream.copy(self._pinned[name], memory[name], memory[name].nbytes)
        stream.record(self._done)
        self._done.synchronize()
        for name, out in outputs.items():
            np.copyto(out, self._pinned[name].bytes().view(np.float32).reshape(out.shape))

    def close(self) -> None:
        for memory in (*self.memory.values(), *self._pinned.values()):
            memory.close()
