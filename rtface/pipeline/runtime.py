"""Opens the device of a run (``--device``) and its engines."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from threading import Event, Lock

from rtface.concurrency.threads import call_in_thread, start_thread
from rtface.config.options import EnhanceOptions, learnt_persons
from rtface.device.cpu.device import CpuDevice
from rtface.engine.backends.choose import check_device
from rtface.engine.cuda import driver
from rtface.engine.engine_set import LIGHT, EngineRequest, EngineSet, open_light
from rtface.engine.learned import path_of
from rtface.errors import EngineError, MissingComponent, log
from rtface.pipeline.threads import EngineThreads
from rtface.protocols import Runtime

BuildProgress = Callable[[str, float], None]
Warn = Callable[[str, str], None]

# Minimum of free GPU memory, for an engine's batches and a frame's faces.
_LEAST_BYTES = 512 << 20


def open_runtime(
    engine: EngineRequest | str,
    device: str,
    stack: ExitStack,
    *,
    threads: EngineThreads | None = None,
    warn: Warn | None = None,
    progress: BuildProgress | None = None,
    deferred: bool = False,
) -> Runtime:
    """Opens a device and its engines; `stack` closes them.

    Args:
        engine: the request, or just an engine's name.
        device: one of `rtface.util.parse.DEVICES`. "auto" is an NVIDIA GPU if driver, packages
            and memory are available. Otherwise it is the CPU, and the log reports why.
        threads: thread budget on the CPU.
        warn: as in `CpuDevice`.
        progress: called while engines are built for a GPU, with the name of the step and the share done (0…1).
        deferred: whether the first face may wait for an engine on the CPU, which is then compiled for that face.

    Raises:
        UsageError: the engine or device is unknown.
        MissingComponent: a package, model file or device is missing.
        EngineError: an engine's answers on this device differ from its reference.
    """
    device, engine = check_device(device), EngineRequest(engine) if isinstance(engine, str) else engine
    gpu_fault = None
    if device == "auto":
        try:
            return _on_gpu(engine, "cuda", stack, warn, progress)
        except (MissingComponent, EngineError) as error:
            gpu_fault = str(error)
    elif device.startswith("cuda"):
        return _on_gpu(engine, device, stack, warn, progress)
    runtime = _on_cpu(engine, device, stack, threads, warn, deferred=deferred)
    if gpu_fault is not None:
        log.info("frames are processed on the CPU: %s", gpu_fault)
    return runtime


def engine_request(options: EnhanceOptions) -> EngineRequest:
    """Returns the engine request of a run with these options."""
    learned = tuple(map(path_of, learnt_persons(options.person)))
    return EngineRequest(options.engine, options.engine_control, options.commercial_use, learned)


def may_take_gpu(device: str) -> bool:
    """Returns whether `open_runtime` will try a GPU."""
    return device.startswith("cuda") or (device == "auto" and driver.unusable(0) is None)


# Engines that are opened in advance for the next run, by request, device and threads.
_ahead: dict[tuple[EngineRequest, str, EngineThreads], Future[EngineSet]] = {}


def open_ahead(options: EnhanceOptions, threads: EngineThreads) -> None:
    """Starts to open the engines of a film's `open_runtime`, on a thread. Does nothing if a GPU is tried.

    Opening takes up to 0.3 s, during which modules can be imported. If it fails, `open_runtime` tries again and raises.
    """
    _ahead.clear()  # drops the engines of a run that ended before it used them
    if not may_take_gpu(options.device):
        key = engine_request(options), options.device, threads
        _ahead[key] = call_in_thread("open-engines", partial(_open_engines, deferred=True), *key, awaited=True)


def _open_engines(request: EngineRequest, device: str, threads: EngineThreads, *, deferred: bool) -> EngineSet:
    return EngineSet(
        request,
        device=device,
        threads=threads.engine,
        background_threads=threads.background,
        at_once=threads.at_once,
        deferred=deferred,
    )


def codec_device(device: str) -> str:
    """Returns the device for a film's encoder and GPU decoder. For "auto" it is "cuda" if a GPU will be tried. If the
    GPU then cannot be used, frames are downloaded."""
    return "cuda" if device == "auto" and may_take_gpu(device) else device


def open_cpu_then_gpu(
    engine: EngineRequest | str,
    device: str,
    stack: ExitStack,
    *,
    threads: EngineThreads | None = None,
    warn: Warn | None = None,
) -> tuple[Runtime, Future[Runtime] | None]:
    """Opens a live run's runtime on the CPU, later on the GPU.

    The first result is the runtime on the CPU; it has the light engine if the user did not choose an engine.
    The second is the future runtime on the GPU, or None without one. Raises as `open_runtime` for the CPU.
    """
    device, engine = check_device(device), EngineRequest(engine) if isinstance(engine, str) else engine
    if not may_take_gpu(device):
        return open_runtime(engine, device, stack, threads=threads, warn=warn), None
    light = replace(engine, name=LIGHT) if engine.name in ("default", "auto") else engine
    cpu_runtime = _on_cpu(light, "auto", stack, threads, warn)
    gpu_runtime: Future[Runtime] = Future()

    def open_gpu() -> None:
        gpu_stack = ExitStack()
        try:
            runtime = _on_gpu(engine, "cuda" if device == "auto" else device, gpu_stack, warn, None)
            open_light(runtime.engines)  # loaded now, so that it need not load during a call
        except BaseException as error:  # noqa: BLE001 - the run stays on the CPU, and reports why
            gpu_stack.close()
            gpu_runtime.set_exception(error)
            return
        with lock:
            if not closed.is_set():
                gpu_runtime.set_result(runtime)
                return
        runtime.close()  # the run has ended
        gpu_runtime.set_exception(
            EngineError("the run ended while its engine was being prepared on the GPU", code="run_ended_early")
        )

    closed, lock = Event(), Lock()
    start_thread("to-GPU", open_gpu)

    def close() -> None:
        # Building a plan takes minutes and cannot be stopped, so the thread continues, and releases the GPU at its end.
        with lock:
            closed.set()
        if gpu_runtime.done() and gpu_runtime.exception() is None:
            gpu_runtime.result().close()

    stack.callback(close)
    return cpu_runtime, gpu_runtime


def _on_cpu(
    engine: EngineRequest,
    device: str,
    stack: ExitStack,
    threads: EngineThreads | None,
    warn: Warn | None,
    *,
    deferred: bool = False,
) -> Runtime:
    threads = threads or EngineThreads()
    key = engine, device, threads
    ahead = _ahead.pop(key, None)
    engines = (
        ahead.result() if ahead is not None and ahead.exception() is None else _open_engines(*key, deferred=deferred)
    )
    stack.callback(engines.close)
    return Runtime(CpuDevice(threads.opencv, warn=warn), engines)


def _on_gpu(
    engine: EngineRequest, device: str, stack: ExitStack, warn: Warn | None, progress: BuildProgress | None
) -> Runtime:
    with ExitStack() as gpu_stack:
        streams, number = driver.take(device)
        gpu_stack.callback(streams.close)
        # Imported only for a GPU, because these imports take a tenth of a second.
        from rtface.device.cuda.device import CudaDevice
        from rtface.engine.cuda.open import open_gpu_engine

        free = streams.run(streams.gpu.free_bytes).result()
        if free < _LEAST_BYTES:
            raise MissingComponent(
                "the GPU {name} has {free} MiB of free memory, but {wanted} MiB are needed; close other programs on it",
                code="gpu_free",
                name=streams.gpu.name,
                free=free >> 20,
                wanted=_LEAST_BYTES >> 20,
            )
        gpu = CudaDevice(streams, warn=warn)
        gpu_stack.callback(gpu.close)
        if progress is not None:
            progress("engines for the GPU", 0.0)
        engines = EngineSet(engine, device=device, opener=lambda recipe: open_gpu_engine(streams, recipe, number))
        gpu_stack.callback(engines.close)
        closing = gpu_stack.pop_all()
    stack.callback(closing.close)
    # Two frames ahead: one whose crops are being copied to the GPU, and one that the GPU processes.
    return Runtime(gpu, engines, ahead=2, close=closing.close)
