"""A serialised plan made ready to run on the GPU that is current in this thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rtface.engine.tensorrt import store
from rtface.engine.tensorrt.library import Library, fault, logger
from rtface.errors import EngineError


class Execution:
    """The library's objects for one plan, and the little in which the two libraries differ when it runs.

    Attributes:
        engine: ICudaEngine.
    """

    def __init__(self, library: Library, blob: bytes, kernels: Path | None = None) -> None:
        """Loads a plan; `kernels` is the file where TensorRT for RTX finds and keeps what was compiled on this GPU.

        Raises EngineError when the library does not take it on this GPU.
        """
        trt = library.module
        self._library, self._kernels = library, kernels
        logger(library).faults.clear()
        self._runtime: Any = trt.Runtime(logger(library))
        self.engine: Any = self._runtime.deserialize_cuda_engine(blob)
        if self.engine is None:
            raise EngineError(
                "{name} cannot load its plan on this GPU: {why}", code="plan_load", name=library.name, why=self.fault()
            )
        self._cache: Any = None
        self._cached = b""
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._settings: Any = strategy  # what a context is made with
        if library.kind == "rtx":
            settings: Any = self.engine.create_runtime_config()
            settings.set_execution_context_allocation_strategy(strategy)
            # All kernels of a batch size are compiled when it first comes, so that it can be recorded from then on.
            # The graph is the caller's, who records more than this network.
            settings.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
            settings.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED
            self._cache = settings.create_runtime_cache()
            if kernels is not None and (known := store.recall(kernels)) and self._cache.deserialize(known):
                self._cached = known
            settings.set_runtime_cache(self._cache)
            self._settings = settings
        self._unused: Any = self._context()  # made now, so that a plan this GPU cannot run is refused while it loads

    def _context(self) -> Any:
        context = self.engine.create_execution_context(self._settings)
        if context is None:
            raise EngineError(
                "{name} cannot make its plan ready on this GPU: {why}",
                code="plan_ready",
                name=self._library.name,
                why=self.fault(),
            )
        return context

    def new_context(self) -> Any:
        """An IExecutionContext without memory of its own. Raises EngineError when the library refuses."""
        context, self._unused = self._unused, None
        return self._context() if context is None else context

    def give_scratch(self, context: Any, address: int, nbytes: int) -> bool:
        """Gives a context memory on the GPU; whether the library takes it. If not, `fault` says why."""
        faults: list[str] = logger(self._library).faults
        faults.clear()
        context.set_device_memory(address, nbytes)  # returns nothing: what is wrong is only in the log
        return not faults

    def capturable(self, context: Any, handle: int) -> bool:
        """True if a context's next run on that stream can be captured in a CUDA graph, its shapes being set."""
        # The full TensorRT can capture every network without loops once its shapes have run, and ours have none.
        return bool(context.is_stream_capturable(handle)) if self._library.kind == "rtx" else True

    def fault(self) -> str:
        """What the library last said about an error."""
        return fault(self._library)

    def keep_kernels(self) -> None:
        """Keeps what was compiled on this GPU since the plan was loaded, for the next start."""
        if self._cache is None or self._kernels is None:
            return
        blob = self._cache.serialize()
        if blob is not None and (data := bytes(blob)) != self._cached:
            store.keep(self._kernels, data)
            self._cached = data

    def close(self) -> None:
        """Gives the library's objects back, in the order that it demands; safe to call twice."""
        self._unused = self._cache = self._settings = None
        self.engine = None
        self._runtime = None
