"""A plan on the GPU, with fixed memory and asynchronous runs."""

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
    """One network on one GPU. Not thread-safe; the GPU must be current in the calling thread.

    Use it with GPU memory (one `bind`, then any number of `enqueue`) or, like the golden gate, with host arrays
    (`run`), one crop at a time.

    Each batch size has a separate execution context, whose shapes and addresses never change after `bind`, because
    after a change, a CUDA graph captured from the context would have undefined behaviour. The contexts share
    one block of scratch memory, so only one run may be on the GPU at a time.

    Attributes:
        identity: see `rtface.engine.plan.Plan`.
        ports: dtype and shape of each input and output for one crop, by tensor name. Memory bound to a port contains
            `max_batch` consecutive crops.
        max_batch: maximum number of crops in one run.
        scratch: the network's working memory on the GPU, which each run writes to; None if the network needs none.
    """

    def __init__(self, recipe: Recipe, identity: PlanIdentity, execution: Execution, gpu: Gpu) -> None:
        """Takes ownership of `execution`, whose network must have the recipe's tensors."""
        self.identity = identity
        self.ports = {name: (np.dtype(np.float32), shape) for name, shape in (recipe.inputs | recipe.outputs).items()}
        self.max_batch = recipe.batch.max
        self._inputs = recipe.inputs
        self._name = recipe.name
        self._execution = execution
        self._gpu = gpu
        self._contexts: dict[int, Any] = {}  # contexts by batch size
        self.scratch: Memory | None = None
        self._host: _Host | None = None

    def nbytes(self, name: str, batch: int) -> int:
        """Returns the bytes of a port's memory for `batch` crops."""
        dtype, shape = self.ports[name]
        return batch * math.prod(shape) * dtype.itemsize

    def bind(self, buffers: Mapping[str, Memory], sizes: Sequence[int] | None = None) -> None:
        """Sets the memory of all ports, each for the largest of `sizes`. Submitted work must have ended.

        `sizes` are the numbers of crops per run; None means 1 to `max_batch`. Raises EngineError, and OutOfDeviceMemory
        if the GPU lacks scratch memory for such a batch.
        """
        self._release_host()
        self._bind(buffers, sizes or range(1, self.max_batch + 1))

    def _bind(self, buffers: Mapping[str, Memory], sizes: Sequence[int]) -> None:
        self._contexts = {}
        contexts = {n: self._context(buffers, n) for n in sizes}
        self._share_scratch(contexts)
        self._contexts = contexts

    def _context(self, buffers: Mapping[str, Memory], batch: int) -> Any:
        """Creates an execution context for batches of one size."""
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
                    "engine {name}: batches of {batch} are not possible: {why}",
                    code="plan_no_batch",
                    name=self._name,
                    batch=batch,
                    why=self._execution.fault(),
                )
        return context

    def _share_scratch(self, contexts: Mapping[int, Any]) -> None:
        """Gives all contexts the same scratch memory, large enough for each."""
        need = max(int(context.update_device_memory_size_for_shapes()) for context in contexts.values())
        if self.scratch is None or self.scratch.nbytes != need:
            self._free_scratch()
            self.scratch = self._gpu.allocate(need) if need else None
        memory = self.scratch
        if memory is not None and not all(
            self._execution.give_scratch(context, memory.address, memory.nbytes) for context in contexts.values()
        ):
            raise EngineError(
                "engine {name}: TensorRT does not accept {need} bytes of scratch memory: {why}",
                code="tensorrt_scratch",
                name=self._name,
                need=need,
                why=self._execution.fault(),
            )

    def enqueue(self, handle: int, batch: int) -> None:
        """Submits a run over the first `batch` bound crops to a stream.

        Neither allocates nor waits. However, TensorRT for RTX compiles kernels in the first run of a batch size, so run
        each size once before it is captured or must be fast. Raises EngineError.
        """
        if not self._contexts[batch].execute_async_v3(handle):
            why = self._execution.fault()
            raise EngineError("engine {name}: TensorRT failed: {why}", code="tensorrt_failed", name=self._name, why=why)

    def capturable(self, handle: int, batch: int) -> bool:
        """Returns whether `enqueue` can be captured. The batch size must have run before on that stream."""
        return self._execution.capturable(self._contexts[batch], handle)

    def run(self, inputs: Mapping[str, Float32], outputs: Mapping[str, Float32]) -> None:
        """Runs crops like `rtface.engine.plan.Plan`, before `bind`: copies to the GPU, runs, copies back and waits."""
        if self._host is None:
            self._host = _Host(self, self._gpu)
            self._bind(self._host.memory, (1,))
        self._host.run(inputs, outputs)

    def keep_kernels(self) -> None:
        """Caches kernels compiled on this GPU for the next start. Cheap if there are no new kernels."""
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
        """Frees the network and its memory. Submitted work must have ended. Safe to call twice."""
        self._contexts = {}  # contexts must be released before their engine
        self._execution.close()
        self._release_host()
        self._free_scratch()


class _Host:
    """Host and GPU memory for one crop, and a stream, for `TensorRtPlan.run`."""

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
        write_memory = [memory[name] for name in memory if name not in inputs]
        if self._plan.scratch is not None:
            write_memory.append(self._plan.scratch)
        stream.call(
            lambda handle: self._plan.enqueue(handle, 1), reads=[memory[name] for name in inputs], writes=write_memory
        )
        for name in outputs:
            stream.copy(self._pinned[name], memory[name], memory[name].nbytes)
        stream.record(self._done)
        self._done.synchronize()
        for name, array in outputs.items():
            np.copyto(array, self._pinned[name].bytes().view(np.float32).reshape(array.shape))

    def close(self) -> None:
        for memory in (*self.memory.values(), *self._pinned.values()):
            memory.close()
