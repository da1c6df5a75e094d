"""Runs the kernels of a .cu file on the host: the file itself, compiled by g++ behind a header of a few lines.

    host = compile_kernels(source, KERNELS)     # or the fixture of conftest.py
    host.launch("crop", (17, 17, 1), (32, 8, 1), np.uint64(address))

Addresses are those of numpy arrays (`array.ctypes.data`). Threads run one after the other; the file may use
blockIdx, threadIdx, blockDim, gridDim and plain C++ only. CXX names another compiler.
"""

import ctypes
import hashlib
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

_SHIM = """
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#define __global__
#define __device__
#define __constant__ const
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };
static thread_local uint3 blockIdx, threadIdx;
static thread_local dim3 blockDim, gridDim;
"""

_RUNNER = """
template <typename... P, std::size_t... I>
static void host_call(void (*kernel)(P...), void** args, std::index_sequence<I...>) {
    kernel(*(std::remove_reference_t<P>*)args[I]...);
}
template <typename... P> static void host_run(void (*kernel)(P...), const unsigned* grid, const unsigned* block,
                                              void** args) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    for (unsigned z = 0; z < grid[2]; ++z) for (unsigned y = 0; y < grid[1]; ++y) for (unsigned x = 0; x < grid[0]; ++x)
    for (unsigned k = 0; k < block[2]; ++k) for (unsigned j = 0; j < block[1]; ++j)
    for (unsigned i = 0; i < block[0]; ++i) {
        blockIdx = {x, y, z};
        threadIdx = {i, j, k};
        host_call(kernel, args, std::index_sequence_for<P...>{});
    }
}
template <typename... P> static int host_sizes(void (*)(P...), int* into) {
    int sizes[] = {(int)sizeof(P)..., 0};
    for (std::size_t i = 0; i < sizeof...(P); ++i) into[i] = sizes[i];
    return (int)sizeof...(P);
}
"""

Kernels = Mapping[str, tuple[type[np.generic], ...]]


def compiler() -> str:
    """g++, or what CXX names; the test is skipped where there is none, unless RTFACE_REQUIRE_CXX is 1."""
    name = os.environ.get("CXX", "g++")
    found = shutil.which(name.split()[0])
    if found is None:
        if os.environ.get("RTFACE_REQUIRE_CXX") == "1":
            pytest.fail(f"RTFACE_REQUIRE_CXX=1, and no compiler {name} is on the PATH")
        pytest.skip(f"no C++ compiler {name} on the PATH to run the kernels on the host (CXX names another)")
    return found


Grid = tuple[int, int, int]


class Runner(Protocol):
    """What runs kernels for a test: the host, or a GPU (tests/gpu)."""

    def hold(self, array: np.ndarray) -> np.ndarray:
        """The same values, C-contiguous, where kernels read and write them by `ctypes.data`; aligned no worse."""

    def launch(self, name: str, grid: Grid, block: Grid, *args: Any) -> None:
        """Runs a kernel to its end. Raises TypeError where an argument is not of the type that its table names."""


def checked(kernels: Kernels, name: str, grid: Grid, block: Grid, args: Sequence[Any]) -> None:
    """Raises where a launch is none that a GPU could do."""
    if math.prod(block) > 1024 or min(*grid, *block) < 1 or max(grid[1:]) > 65535:
        raise ValueError(f"{name}: no GPU runs a grid {grid} of blocks {block}")
    if tuple(map(type, args)) != kernels[name]:
        raise TypeError(f"{name} takes {[t.__name__ for t in kernels[name]]}, not {[type(a).__name__ for a in args]}")


class HostKernels:
    """The kernels of one file, compiled for the host (`Runner`)."""

    def __init__(self, path: Path, kernels: Kernels) -> None:
        self.path, self.kernels = path, kernels
        self._library = library = ctypes.CDLL(str(path))
        for name, types in kernels.items():
            sizes = (ctypes.c_int * 64)()
            count = getattr(library, f"host_sizes_{name}")(sizes)
            wanted = [np.dtype(t).itemsize for t in types]
            assert list(sizes[:count]) == wanted, f"{name} takes arguments of {list(sizes[:count])} bytes, not {wanted}"

    def launch(self, name: str, grid: Grid, block: Grid, *args: Any) -> None:
        checked(self.kernels, name, grid, block, args)
        held = [np.array([arg]) for arg in args]
        pointers = (ctypes.c_void_p * max(1, len(held)))(*[a.ctypes.data for a in held])
        three = ctypes.c_uint * 3
        getattr(self._library, f"host_{name}")(three(*grid), three(*block), pointers)

    def hold(self, array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array)


def kept() -> Path:
    """A folder of this user for what compilers made: all processes of a test run, and the next runs, share it."""
    folder = Path(tempfile.gettempdir()) / f"rtface-tests-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def compiled(name: str, source: str, *flags: str) -> Path:
    """A shared library of C++, compiled where it is not kept."""
    command = [compiler(), "-std=c++17", "-shared", "-fPIC", *flags]
    key = hashlib.sha256(repr((command, source)).encode()).hexdigest()[:20]
    library = kept() / f"{name}-{key}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=kept()) as work:
            unit, made = Path(work) / f"{name}.cpp", Path(work) / library.name
            unit.write_text(source)
            line = [*command[:1], str(unit), "-o", str(made), *command[1:]]
            done = subprocess.run(line, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[:4000]
            made.replace(library)
    return library


def compile_kernels(source: Path, kernels: Kernels, structs: Mapping[str, np.dtype[Any]] | None = None) -> HostKernels:
    """Compiles a .cu file.

    Args:
        source: the file.
        kernels: argument types by kernel.
        structs: dtypes that the file's structs are laid out as.
    """
    lines = ["#include <type_traits>", "#include <utility>", _SHIM, source.read_text(), _RUNNER]
    for name in kernels:
        lines.append(
            f'extern "C" void host_{name}(const unsigned* g, const unsigned* b, void** a) '
            f"{{ host_run({name}, g, b, a); }}"
        )
        lines.append(f'extern "C" int host_sizes_{name}(int* into) {{ return host_sizes({name}, into); }}')
    for name, dtype in (structs or {}).items():
        lines.append(f"static_assert(sizeof({name}) == {dtype.itemsize});")
        for field, (_, at, *_) in (dtype.fields or {}).items():
            lines.append(f"static_assert(offsetof({name}, {field}) == {at});")
    # The processor's own instructions: fmaf as a library call is many times slower.
    flags = "-O2", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-w"
    return HostKernels(compiled(source.stem, "\n".join(lines) + "\n", *flags), kernels)
