"""Chooses TensorRT or TensorRT for RTX, and receives its log.

Both libraries have nearly the same Python interface. The full TensorRT times its kernels while it builds, so it can
build only on the target GPU. TensorRT for RTX compiles for given compute capabilities, with or without a GPU, and
finishes the kernels on the GPU when a plan is first used.

They are imported on demand, because each import takes a quarter of a second.
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
    """Returns a name such as "sm_89"."""
    return f"sm_{capability[0]}{capability[1]}"


@dataclass(frozen=True, slots=True)
class Library:
    """One TensorRT that can be imported.

    Attributes:
        kind: "full" for TensorRT, "rtx" for TensorRT for RTX.
        version: version such as "1.7.1.116".
        module: the imported package.
        targets: compute capabilities that it compiles for; None for the full library, which builds for the current GPU.
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
    """Lists importable libraries. Logs a warning if an installed one cannot be imported."""
    usable: list[Library] = []
    packages: tuple[tuple[LibraryKind, str], ...] = (("rtx", "tensorrt_rtx_bindings"), ("full", "tensorrt"))
    for kind, package in packages:
        try:
            module: Any = importlib.import_module(package)
            usable.append(Library(kind, str(module.__version__), module, _targets(module) if kind == "rtx" else None))
        except (ImportError, OSError, RuntimeError) as error:
            if not isinstance(error, ModuleNotFoundError) or error.name != package:
                log.warning("%s is installed but cannot be used: %s", package, str(error).strip().splitlines()[0])
    return tuple(usable)


def _targets(module: Any) -> frozenset[Capability]:
    names = [name[2:] for name in module.ComputeCapability.__members__ if name.startswith("SM")]
    return frozenset((int(name[:-1]), int(name[-1])) for name in names)


def choose(capability: Capability, libraries: tuple[Library, ...], gpu: str) -> Library:
    """Chooses the library for a GPU.

    TensorRT for RTX supports only the capabilities that it lists, which do not include sm_90, for example.

    Args:
        capability: compute capability such as (8, 9).
        libraries: libraries to choose from, as from `installed`.
        gpu: the GPU's name.

    Raises:
        MissingComponent: no installed library supports the GPU.
    """
    target = f"{gpu} ({sm(capability)})"
    by_kind = {library.kind: library for library in libraries}
    rtx, full = by_kind.get("rtx"), by_kind.get("full")
    targets: frozenset[Capability] = (rtx.targets if rtx else None) or frozenset()
    if rtx and capability in targets and ("GeForce" in gpu or not full):
        return rtx
    if full:
        return full
    if rtx:
        raise MissingComponent(
            "{name} does not run on {where}: it supports {names}; get the full TensorRT with: {repair}",
            code="tensorrt_gpu",
            name=rtx.name,
            where=target,
            names=", ".join(map(sm, sorted(targets))),
            repair=extra_line("tensorrt"),
        )
    extra = "rtx" if "GeForce" in gpu else "tensorrt"
    raise MissingComponent(
        "{where} needs TensorRT; get it with: {repair}", code="tensorrt_missing", where=target, repair=extra_line(extra)
    )


def precisions(capability: Capability, first: Precision | None = None) -> tuple[Precision, ...]:
    """Lists precisions to try on a GPU, starting with `first` if supported.

    fp16 is first, because it is as fast as bf16 and closer to fp32. int8 is omitted, because no measurement shows a
    gain on GPUs for such small networks.
    """
    order: tuple[Precision, ...] = ("fp16", "bf16", "f32") if capability >= (8, 0) else ("fp16", "f32")
    return order[order.index(first) :] if first in order else order


_LEVELS = {"INTERNAL_ERROR": logging.INFO, "ERROR": logging.INFO, "WARNING": logging.DEBUG, "INFO": logging.DEBUG}


@functools.cache
def logger(library: Library) -> Any:
    """Returns the library's ILogger, which writes to `rtface.tensorrt`. Each process may have only one.

    The logger lowers the library's levels: errors are raised with the library's message (`fault`), and warnings only
    report the library's choices, one line for each operation of a network. `faults` contains the errors since the last
    call of `fault`.
    """
    trt = library.module

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.faults: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if "ERROR" in severity.name and len(self.faults) < 8:
                self.faults.append(msg)
            level = _LEVELS.get(severity.name)  # None for VERBOSE, which is hundreds of lines
            if level is not None and log.isEnabledFor(level):
                log.log(level, "%s", msg.strip())

    return Logger()


def fault(library: Library) -> str:
    """Returns the library's last error in one line, and clears it."""
    faults: list[str] = logger(library).faults
    # The first error is the cause; the library's layers add the others.
    line = " ".join(faults[0].split()) if faults else "no reason given"
    faults.clear()
    return line if len(line) <= 300 else f"{line[:297]}..."
