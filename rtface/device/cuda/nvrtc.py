"""Compiles CUDA C++ for a GPU with NVRTC. Caches the result, because compiling takes seconds."""

from __future__ import annotations

import hashlib
import importlib
from io import StringIO
from typing import Any

from rtface.errors import EngineError, MissingComponent
from rtface.util.checksummed_file import read_checksummed, write_checksummed
from rtface.util.install import extra_line
from rtface.util.paths import cache_dir

# Only explicit fmaf calls fuse a product and a sum, so that a GPU rounds like the CPU.
_OPTIONS: dict[str, Any] = {"std": "c++17", "fma": False}


def compile(source: str, capability: tuple[int, int]) -> bytes:
    """Compiles a source to a cubin for one compute capability ((9, 0): sm_90). Needs no GPU.

    Raises:
        MissingComponent: cuda-core, cuda-bindings or NVRTC is not installed.
        EngineError: the source does not compile, or NVRTC does not support the GPU.
    """
    version = _version()
    arch = f"sm_{capability[0]}{capability[1]}"
    key = hashlib.sha256(repr((source, version, arch, sorted(_OPTIONS.items()))).encode()).hexdigest()[:20]
    path = cache_dir() / "kernels" / f"{arch}-{key}.cubin"
    cubin = read_checksummed(path)
    if cubin is None:
        cubin, _ = build(source, arch)
        write_checksummed(path, cubin)
    return cubin


def build(source: str, arch: str, *, verbose: bool = False) -> tuple[bytes, str]:
    """Compiles without the cache. Also returns the log; with `verbose`, it reports registers and spills."""
    try:
        core: Any = importlib.import_module("cuda.core")
    except ImportError as error:
        raise _missing(error) from error
    log = StringIO()
    options = core.ProgramOptions(arch=arch, ptxas_options=["-v"] if verbose else None, **_OPTIONS)
    program = core.Program(source, "c++", options)
    try:
        code: bytes = program.compile("cubin", logs=log).code
    except Exception as error:  # cuda.core's NVRTCError is not public
        text = str(error).partition("compilation log:")[2] or str(error)
        lines = [line.strip() for line in text.replace("\0", "").splitlines() if line.strip()]
        raise EngineError(
            "NVRTC cannot compile the kernels for {arch}: {lines}; try a newer NVRTC: pip install -U nvidia-cuda-nvrtc",
            code="nvrtc_failed",
            arch=arch,
            lines=" | ".join(lines[:4]),
        ) from error
    finally:
        program.close()
    return bytes(code), log.getvalue()


def _version() -> tuple[int, int]:
    try:
        bindings: Any = importlib.import_module("cuda.bindings.nvrtc")
        _, major, minor = bindings.nvrtcVersion()
    except (ImportError, RuntimeError) as error:  # RuntimeError means that NVRTC's library is missing
        raise _missing(error) from error
    return int(major), int(minor)


def _missing(error: Exception) -> MissingComponent:
    first_line = (str(error) or type(error).__name__).splitlines()[0]
    return MissingComponent(
        "kernels for NVIDIA GPUs need cuda-core and NVRTC ({what}); get them with: {repair}",
        code="cuda_core",
        what=first_line,
        repair=extra_line("cuda"),
    )
