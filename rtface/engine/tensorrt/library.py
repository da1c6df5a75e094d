"""Chooses the full TensorRT or TensorRT for RTX, by the GPU and by what is installed, and takes over its log.

Both have nearly the same Python interface. The full one times its kernels on the GPU that it builds for, so it builds
on that GPU alone. TensorRT for RTX compiles for named compute capabilities, with or without a GPU, and finishes the
kernels on the GPU when a plan is first used.

Nothing is imported before it is asked for; either package takes a quarter of a second.
"""

from __future__ import annotations

import functools
import importlib
import logging
from dataclasses import dataclass
from typing import Any, Literal

from rtface.engine.recipe_tables import Precision
from rtface.errors import MissingComponent
from rtface.util.install import extra_line

log = logging.getLogger("rtface.tensorrt")

Capability = tuple[int, int]
LibraryKind = Literal["rtx", "full"]


def sm(capability: Capability) -> str:
    """Name such as "sm_89"."""
    return f"sm_{capability[0]}{capability[1]}"


@dataclass(frozen=True, slots=True)
class Library:
    """One TensorRT that can be imported.

    Attributes:
        kind: which of the two.
        version: as "1.7.1.116".
        module: the imported package.
        targets: the compute capabilities that it compiles for by name; None of the full one, which takes the GPU's.
    """

    kind: LibraryKind
    version: str
    module: Any
    targets: frozenset[Capability] | None = None

    @property
    def name(self) -> str:
        return f"TensorRT{' for RTX' * (self.kind == 'rtx')} {'.'.join(self.version.split('.')[:3])}"


@functools.cache
def installed() -> tuple[Library, ...]:
    """The libraries that can be imported here; one that is there and cannot be is in the log."""
    found: list[Library] = []
    packages: tuple[tuple[LibraryKind, str], ...] = (("rtx", "tensorrt_rtx_bindings"), ("full", "tensorrt"))
    for kind, package in packages:
        try:
            module: Any = importlib.import_module(package)
            found.append(Library(kind, str(module.__version__), module, _targets(module) if kind == "rtx" else None))
        except (ImportError, OSError, RuntimeError) as error:
            if not isinstance(error, ModuleNotFoundError) or error.name != package:
                log.warning("%s is installed but cannot be used: %s", package, str(error).strip().splitlines()[0])
    return tuple(found)


def _targets(module: Any) -> frozenset[Capability]:
    names = [name[2:] for name in module.ComputeCapability.__members__ if name.startswith("SM")]
    return frozenset((int(name[:-1]), int(name[-1])) for name in names)


def choose(capability: Capability, libraries: tuple[Library, ...], gpu: str) -> Library:
    """The library for a GPU of that compute capability.

    TensorRT for RTX takes the capabilities that it names; others, as sm_90, it refuses however a plan was compiled.

    Args:
        capability: as (8, 9).
        libraries: see `installed`.
        gpu: the GPU's name.

    Raises:
        MissingComponent: no library that is installed computes on such a GPU.
    """
    where = f"{gpu} ({sm(capability)})"
    found = {library.kind: library for library in libraries}
    rtx, full = found.get("rtx"), found.get("full")
    targets: frozenset[Capability] = (rtx.targets if rtx else None) or frozenset()
    if rtx and capability in targets and ("GeForce" in gpu or not full):
        return rtx
    if full:
        return full
    if rtx:
        raise MissingComponent(
            "{name} does not run on {where}: it takes {names}; get the full TensorRT with: {repair}",
            code="tensorrt_gpu",
            name=rtx.name,
            where=where,
            names=", ".join(map(sm, sorted(targets))),
            repair=extra_line("tensorrt"),
        )
    extra = "rtx" if "GeForce" in gpu else "tensorrt"
    raise MissingComponent(
        "{where} needs TensorRT; get it with: {repair}", code="tensorrt_missing", where=where, repair=extra_line(extra)
    )


def precisions(capability: Capability, wanted: Precision | None = None) -> tuple[Precision, ...]:
    """Precisions to try on such a GPU, in this order, from `wanted` on where that is given and the GPU has it.

    fp16 is first: it is as fast as bf16 and nearer to fp32. Not int8: these networks are small, and nothing that was
    measured says that a GPU gains by it.
    """
    order: tuple[Precision, ...] = ("fp16", "bf16", "f32") if capability >= (8, 0) else ("fp16", "f32")
    return order[order.index(wanted) :] if wanted in order else order


_LEVELS = {"INTERNAL_ERROR": logging.INFO, "ERROR": logging.INFO, "WARNING": logging.DEBUG, "INFO": logging.DEBUG}


@functools.cache
def logger(library: Library) -> Any:
    """The library's ILogger, one for the process as it demands: writes to `rtface.tensorrt`.

    Lower than the library's own levels: what fails is raised, with its words (`fault`), and its warnings are about
    choices of its own, one line for each operation of a network. Its attribute `faults` holds the errors since `fault`
    was last asked.
    """
    trt = library.module

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.faults: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if "ERROR" in severity.name and len(self.faults) < 8:
                self.faults.append(msg)
            level = _LEVELS.get(severity.name)  # VERBOSE: hundreds of lines that nobody reads
            if level is not None and log.isEnabledFor(level):
                log.log(level, "%s", msg.strip())

    return Logger()


def fault(library: Library) -> str:
    """What the library last said about an error, in a few words; forgotten then."""
    faults: list[str] = logger(library).faults
    # The first of several is the cause; the others come up through its layers.
    line = " ".join(faults[0].split()) if faults else "it gives no reason"
    faults.clear()
    return line if len(line) <= 300 else f"{line[:297]}..."
