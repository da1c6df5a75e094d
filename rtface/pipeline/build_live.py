"""Builds the parts of runs that enhance frame by frame: from Python, and live."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from rtface.config.options import EnhanceOptions, QualityOptions
from rtface.engine.engine_set import LIGHT, EngineRequest, open_light
from rtface.enhance.corrector import Helpers
from rtface.enhance.live import FrameEnhancer
from rtface.enhance.runtime_switch import RuntimeSwitch
from rtface.pipeline.build import open_coded, open_tracker
from rtface.pipeline.persons import open_guard, open_persons
from rtface.pipeline.runtime import (
    engine_request,
    may_take_gpu,
    open_cpu_then_gpu,
    open_runtime,
)
from rtface.pipeline.threads import EngineThreads, Threads
from rtface.protocols import Tracker
from rtface.stats import Stats


def frame_parts(
    options: EnhanceOptions, stats: Stats, stack: ExitStack, *, analysis: bool, wait: bool
) -> tuple[Tracker, FrameEnhancer]:
    """Builds the parts of `rtface.Enhancer`. `analysis` and `wait` are explained there.

    If a GPU is lost, the CPU takes over. Raises the errors of `film_networks`.
    """
    request, threads = engine_request(options), EngineThreads(options.threads)
    switch = _switch(request, request, options.device, threads, stats, stack, wait=wait)
    tracker, persons = open_tracker(options, stack), open_persons(options, stats)
    helpers = Helpers(LIGHT, persons, open_coded(stats, threads.engine), open_guard(options, stats))
    return tracker, FrameEnhancer(switch, options, stats, analysis=analysis, helpers=helpers)


def live_tracker_and_runtime(options: EnhanceOptions, stats: Stats, stack: ExitStack) -> tuple[Tracker, RuntimeSwitch]:
    """Loads a live run's tracker and engines, while its source opens.

    The run starts on the CPU, and moves to the GPU when the GPU is ready. If a GPU is lost, the CPU
    takes over. Raises the errors of `film_networks`.
    """
    request, threads = engine_request(options), Threads.for_live(options.threads).engines
    request = replace(request, name=live_engine(options))
    fallback = replace(request, name=LIGHT) if request.name == "default" else request
    switch = _switch(request, fallback, options.device, threads, stats, stack, wait=False)
    tracker = open_tracker(options, stack)
    open_light(switch.runtime.engines)  # loaded now, so that the governor need not load it during a call
    return tracker, switch


def live_engine(options: QualityOptions) -> str:
    """Returns the engine of a live run. Without a GPU, the default is the light engine, so that a call has
    some time left on two cores."""
    return LIGHT if options.engine == "default" and not may_take_gpu(options.device) else options.engine


def _switch(
    request: EngineRequest,
    fallback: EngineRequest,
    device: str,
    threads: EngineThreads,
    stats: Stats,
    stack: ExitStack,
    *,
    wait: bool,
) -> RuntimeSwitch:
    """Opens a runtime with the CPU as fallback. Without `wait`, the GPU takes over when it is ready."""
    upgrade = None
    if wait:
        runtime = open_runtime(request, device, stack, threads=threads, warn=stats.warn)
    else:
        runtime, upgrade = open_cpu_then_gpu(request, device, stack, threads=threads, warn=stats.warn)
    return RuntimeSwitch(
        runtime,
        stats,
        upgrade=upgrade,
        fallback=lambda: open_runtime(fallback, "cpu", stack, threads=threads, warn=stats.warn),
    )
