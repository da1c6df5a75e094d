"""First runs of foreign networks, in a child process: they may never end, fill the memory or crash.

That process has a limit of time and memory, and is ended with this one, by Ctrl-C or by SIGTERM at once.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from rtface import errors
from rtface.concurrency.child_main import ParentProcess
from rtface.concurrency.child_process import ChildProcess
from rtface.engine.host_engine import HostEngine
from rtface.engine.recipe import Recipe
from rtface.errors import EngineError, RtfaceError, log, reason
from rtface_engines import generic_onnx

LIMIT_S = 3600.0
"""Seconds that one step may take: the slowest published network needs half of it on two cores."""
_LEAST_BYTES = 4 << 30


@dataclass(frozen=True, slots=True)
class TrialResult:
    """How an engine runs here: the attributes of `HostEngine` of these names."""

    device: str
    backend: str
    precision: str
    psnr: float
    ms: float


def inspect(path: Path, *, limit: float = LIMIT_S) -> generic_onnx.GenericNetwork:
    """`rtface_engines.generic_onnx.inspect` in a child process. Raises as that, and as `write_golden`."""
    return _apart("inspect_apart", path, str(path), limit)


def write_golden(recipe: Recipe, threads: int, *, limit: float = LIMIT_S) -> None:
    """`rtface_engines.generic_onnx.write_golden` in a child process. Raises EngineError as that, and where the
    process takes too long, needs too much memory, or crashes."""
    _apart("golden_apart", (recipe, threads), f"engine {recipe.name}", limit)


def check(recipe: Recipe, threads: int | None, *, limit: float = LIMIT_S) -> TrialResult:
    """Opens the engine, which passes its golden gate by that. Raises as `write_golden`."""
    return _apart("check_apart", (recipe, threads), f"engine {recipe.name}", limit)


def inspect_apart(parent: ParentProcess, given: Path) -> None:
    """What the process does for `inspect`."""
    _send_result(parent, lambda: generic_onnx.inspect(given))


def golden_apart(parent: ParentProcess, given: tuple[Recipe, int]) -> None:
    """What the process does for `write_golden`."""
    _send_result(parent, lambda: generic_onnx.write_golden(*given))


def check_apart(parent: ParentProcess, given: tuple[Recipe, int | None]) -> None:
    """What the process does for `check`."""

    def work() -> TrialResult:
        recipe, threads = given
        engine = HostEngine(recipe, threads=threads)
        engine.close()
        return TrialResult(engine.device, engine.backend, engine.precision, engine.psnr, engine.ms)

    _send_result(parent, work)


class _LogForwarder(logging.Handler):
    """Hands log records on to the parent process."""

    def __init__(self, parent: ParentProcess) -> None:
        super().__init__()
        self._parent = parent

    def emit(self, record: logging.LogRecord) -> None:
        self._parent.send(("log", record.levelno, record.getMessage()))


def _send_result(parent: ParentProcess, work: Callable[[], object]) -> None:
    log.addHandler(_LogForwarder(parent))
    log.setLevel(logging.INFO)
    log.propagate = False
    _limit_memory()
    try:
        parent.send(("answer", work()))
    except RtfaceError as error:
        parent.send(("error", type(error).__name__, error.message))
    except MemoryError:
        parent.send(("error", "EngineError", "it needs more memory than there is"))


def _limit_memory() -> None:
    """No more than three quarters of what is free, so that the system does not end somebody else for it."""
    if sys.platform != "linux":
        return
    import resource

    free = next(
        (
            int(line.split()[1]) << 10
            for line in Path("/proc/meminfo").read_text().splitlines()
            if line.startswith("MemAvailable")
        ),
        0,
    )
    most = max(_LEAST_BYTES, free * 3 // 4)
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard == resource.RLIM_INFINITY or hard > most:
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _apart(work: str, given: object, what: str, limit: float) -> Any:
    results: list[object] = []
    failures: list[RtfaceError] = []
    how: list[str] = []
    ended = threading.Event()

    def receive(message: tuple[Any, ...]) -> None:
        if message[0] == "log":
            log.log(message[1], "%s", message[2])
        elif message[0] == "answer":
            results.append(message[1])
        else:
            kind: type[RtfaceError] = getattr(errors, message[1], EngineError)
            failures.append(kind(message[2]))

    def over(why: str) -> None:
        how.append(why)
        ended.set()

    began = monotonic()
    process = ChildProcess(f"{__name__}:{work}", given, name=f"trial of {what}", on_message=receive, on_end=over)
    try:
        while not ended.wait(0.2):  # in slices, so that signals are seen
            if monotonic() - began > limit:
                raise EngineError(
                    "{engine} was given up: reading or running it took longer than {limit:g} s",
                    code="trial_slow",
                    engine=what,
                    limit=limit,
                )
    except BaseException as error:
        log.debug("the trial of %s is ended: %s", what, reason(error))
        process.kill(0.0)
        raise
    if failures:
        raise failures[0]
    if not results:
        why = how[0] or "it gave no answer"
        raise EngineError(
            "{engine} cannot be used here ({why}); it may need more memory than there is, or be damaged",
            code="trial_failed",
            engine=what,
            why=why,
        )
    return results[0]
