"""A loaded engine on the host: a recipe, plans that passed the gate, and worker threads."""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import Any, cast
from weakref import WeakSet

import numpy as np

from rtface.engine.backends.choose import open_engine
from rtface.engine.base import EngineBase
from rtface.engine.crop_runner import CropRunner
from rtface.engine.golden import remember
from rtface.engine.plan import Plan
from rtface.engine.recipe import Recipe
from rtface.frame import Float32, PixelsT
from rtface.protocols import Restored
from rtface.util.machine import cores

_CLOSE_S = 0.5
_BACKGROUND_NICENESS = 10


class HostEngine(EngineBase):
    """A loaded restorer (`rtface.protocols.Engine`) that answers requests in order.

    Args:
        recipe: recipe of the engine.
        device: device name, as for `rtface.engine.engine_set.load_engine`.
        threads: cores per crop; None means all cores of this process.
        at_once: number of worker threads, each with its own plan.
        deferred: whether the first crop may wait for the network. If so, a network that passed its check earlier is
            compiled for that crop.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        device: str = "auto",
        threads: int | None = None,
        at_once: int = 1,
        deferred: bool = False,
    ) -> None:
        recipe.check_weights()
        threads = threads or cores()
        open_plan = partial(open_engine, recipe, device, threads, deferred=deferred)
        backend, self._plan, verdict, why = open_plan()
        identity = self._plan.identity
        placement = f"{threads} thread{'s' * (threads > 1)}" if backend.threads else identity.device
        super().__init__(recipe, identity, verdict, backend.device, f", {placement}", why)
        thread_independent = identity.backend == "openvino" and identity.precision in ("int8", "f32")
        self.threads, self._verdict = placement if backend.threads and not thread_independent else "", verdict
        restorer = CropRunner(recipe, self._plan)
        gray_crop = np.full((1, 3, self.size, self.size), 0.5, np.float32)
        answer: Restored[Float32] | None = None
        times = list[float]()
        for _ in range(0 if deferred else 3):  # the first runs allocate memory, which the first frame must not wait for
            start = time.perf_counter()
            answer = restorer.restore(gray_crop, answer)
            times.append(round(1e3 * (time.perf_counter() - start), 3))
        # Other work on the machine can only slow the engine down, so the minimum is the best estimate.
        self.ms = min((verdict.ms, *times))
        # Additional plans have the same identity as the plan that just passed the gate, so they are not judged again.
        extra_plans = [open_plan()[1] for _ in range(at_once - 1)] if backend.threads else []
        self._idle = SimpleQueue[tuple[CropRunner, Plan]]()
        self._idle.put((restorer, self._plan))
        for plan in extra_plans:
            self._idle.put((CropRunner(recipe, plan), plan))
        self._plans = 1 + len(extra_plans)
        self._niceness, self._thread_ids = 0, list[int]()
        self._workers = ThreadPoolExecutor(self._plans, f"rtface-engine-{recipe.name}", self._register_thread)
        self._submitted = WeakSet[Future[Restored[Float32]]]()
        self._closing: list[Future[None]] = []

    def submit(self, crops: PixelsT, after: Future[Restored[PixelsT]] | None = None) -> Future[Restored[PixelsT]]:
        """Restores float32 N×3×S×S RGB 0…1. `after` is the future for the same faces' previous frame.

        Do not change `crops` before the future is done. The answer's `pixels` are a new array that belongs to the
        caller. The future raises EngineError if the network fails; the next request then starts without memory.
        """
        pixels: Any = crops
        future = self._workers.submit(self._infer, pixels, cast("Any", after))
        self._submitted.add(future)
        return cast("Any", future)

    def _infer(self, crops: Float32, after: Future[Restored[Float32]] | None) -> Restored[Float32]:
        restorer, plan = self._idle.get()  # before waiting for `after`, because `close` frees idle plans
        try:
            # Workers start in order, so earlier requests are done, or another worker is processing them.
            before = after.result() if after is not None and self.recurrent and after.exception() is None else None
            return restorer.restore(crops, before)
        finally:
            self._idle.put((restorer, plan))

    def stand_back(self) -> None:
        """Lowers the priority of the engine's worker threads. Does nothing on systems other than Linux."""
        self._niceness = _BACKGROUND_NICENESS
        for thread in tuple(self._thread_ids):
            self._set_priority(thread)

    def _register_thread(self) -> None:
        self._thread_ids.append(threading.get_native_id())
        self._set_priority(self._thread_ids[-1])

    def _set_priority(self, thread: int) -> None:
        if self._niceness and sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, thread, self._niceness)

    def measure(self, runs: int = 20) -> float:
        """Measures and caches the minimum milliseconds of a crop, for `list_engines`. Stops after `runs` runs or two
        seconds."""
        crop = np.random.default_rng(0).random((1, 3, self.size, self.size), np.float32)
        times = list[float]()
        answer: Future[Restored[Float32]] | None = None
        for _ in range(runs):
            start = time.perf_counter()
            answer = self.submit(crop, answer)
            answer.result()
            times.append(time.perf_counter() - start)
            if len(times) >= 3 and sum(times) > 2.0:
                break
        self.ms = round(1e3 * min(times), 3)
        remember(self._plan.identity, replace(self._verdict, ms=self.ms))
        return self.ms

    def close(self) -> None:
        """Drops queued crops, and frees the network after the current crop. Waits for at most half a second, because
        a heavy engine takes minutes per crop. Safe to call twice."""
        if not self._closing:
            for future in list(self._submitted):
                future.cancel()
            self._closing = [self._workers.submit(self._free_plan) for _ in range(self._plans)]
            self._workers.shutdown(wait=False)
        wait(self._closing, _CLOSE_S)

    def _free_plan(self) -> None:
        _, plan = self._idle.get()
        plan.close()
