"""Prepares a serialised plan to run on this thread's current GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rtface.engine.tensorrt import store
from rtface.engine.tensorrt.library import Library, fault, logger
from rtface.errors import EngineError


class Execution:
    """The library's objects for one plan. Hides the differences between the two libraries at run time.

    Attributes:
        engine: ICudaEngine.
    """

    def __init__(self, library: Library, blob: bytes, kernels: Path | None = None) -> None:
        """Loads a plan. `kernels` is the file where TensorRT for RTX caches kernels compiled on this GPU.

        Raises EngineError if the library rejects the plan on this GPU.
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
        self._cached_kernels = b""
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._settings: Any = strategy  # settings of new contexts
        if library.kind == "rtx":
            settings: Any = self.engine.create_runtime_config()
            settings.set_execution_context_allocation_strategy(strategy)
            # The first run of a batch size compiles all its kernels, so that later runs can be captured. The library
            # must not create graphs, because the caller captures graphs that contain more than this network.
            settings.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
            settings.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED
            self._cache = settings.create_runtime_cache()
            if kernels is not None and (cached := store.recall(kernels)) and self._cache.deserialize(cached):
                self._cached_kernels = cached
            settings.set_runtime_cache(self._cache)
            self._settings = settings
        self._spare_context: Any = self._context()  # so that loading fails for a plan that this GPU cannot run

    def _context(self) -> Any:
        context = self.engine.create_execution_context(self._settings)
        if context is None:
            raise EngineError(
                "{name} cannot prepare its plan on this GPU: {why}",
                code="plan_ready",
                name=self._library.name,
                why=self.fault(),
            )
        return context

    def new_context(self) -> Any:
        """Creates an IExecutionContext without memory. Raises EngineError if the library cannot."""
        context, self._spare_context = self._spare_context, None
        return self._context() if context is None else context

    def give_scratch(self, context: Any, address: int, nbytes: int) -> bool:
        """Sets a context's GPU memory. Returns whether the library accepts it; if not, `fault` has the reason."""
        faults: list[str] = logger(self._library).faults
        faults.clear()
        context.set_device_memory(address, nbytes)  # returns nothing, so errors appear only in the log
        return not faults

    def capturable(self, context: Any, handle: int) -> bool:
        """Returns whether a context's next run can be captured. Its shapes must be set."""
        # After a run with these shapes, the full TensorRT can capture any network without loops, such as ours.
        return bool(context.is_stream_capturable(handle)) if self._library.kind == "rtx" else True

    def fault(self) -> str:
        """Returns the library's last error message."""
        return fault(self._library)

    def keep_kernels(self) -> None:
        """Caches kernels compiled since the plan was loaded, for the next start."""
        if self._cache is None or self._kernels is None:
            return
        blob = self._cache.serialize()
        if blob is not None and (data := bytes(blob)) != self._cached_kernels:
            store.keep(self._kernels, data)
            self._cached_kernels = data

    def close(self) -> None:
        """Releases the library's objects in the required order. Safe to call twice."""
        self._spare_context = self._cache = self._settings = None
        self.engine = None
        self._runtime = None
