"""Finds the NVIDIA driver, its GPUs, and the packages for CUDA engines."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import sys
from dataclasses import dataclass

from rtface.device.cuda.stream_thread import StreamThread
from rtface.errors import MissingComponent
from rtface.util.install import extra_line

NEEDED = {"cuda.core": "cuda-core", "cuda.bindings": "cuda-bindings", "onnx": "onnx"}
TENSORRT = {"tensorrt_rtx": "tensorrt-rtx-cu13-bindings", "tensorrt": "tensorrt-cu13"}
"""Packages by the modules that they provide. One package of `TENSORRT` suffices."""


@dataclass(frozen=True, slots=True)
class Driver:
    """The NVIDIA driver: its newest CUDA version ("13.1"), and GPU names in CUDA's order."""

    cuda: str
    gpus: tuple[str, ...]


@functools.cache
def driver() -> Driver:
    """Queries the driver through ctypes. Raises MissingComponent with the missing part in its message."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        raise MissingComponent(
            "there is no NVIDIA driver ({name} was not found)", code="no_driver", name=library
        ) from None
    number = ctypes.c_int()

    def call(name: str, *arguments: object) -> None:
        if status := getattr(cuda, name)(*arguments):
            raise MissingComponent(
                "{function} of the NVIDIA driver returned error {status}",
                code="driver_error",
                function=name,
                status=status,
            )

    call("cuInit", 0)
    call("cuDriverGetVersion", ctypes.byref(number))
    version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    call("cuDeviceGetCount", ctypes.byref(number))
    gpus: list[str] = []
    for i in range(number.value):
        text = ctypes.create_string_buffer(256)
        call("cuDeviceGetName", text, len(text), i)
        gpus.append(text.value.decode(errors="replace"))
    if not gpus:
        raise MissingComponent("the NVIDIA driver finds no GPU", code="driver_no_gpu")
    return Driver(version, tuple(gpus))


def missing() -> list[str]:
    """Lists packages that CUDA engines need and that are not installed."""
    absent = [package for module, package in NEEDED.items() if not installed(module)]
    if not any(map(installed, TENSORRT)):
        absent.append(" or ".join(TENSORRT.values()))
    return absent


def installed(module: str) -> bool:
    """Returns whether a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False


def unusable(number: int) -> str | None:
    """Returns why GPU `number` (CUDA's order) is unusable; None if usable."""
    try:
        gpus = driver().gpus
    except MissingComponent as error:
        return str(error)
    if number >= len(gpus):
        return f"there is no GPU {number}; available: {', '.join(f'cuda:{i} ({name})' for i, name in enumerate(gpus))}"
    if absent := missing():
        return (
            f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed; get it with: {extra_line('rtx')}"
        )
    return None


def check(number: int) -> None:
    """Raises MissingComponent if GPU `number` is unusable."""
    if (reason := unusable(number)) is not None:
        raise MissingComponent("CUDA is not usable here because {why}", code="cuda_reason", why=reason)


def take(device: str) -> tuple[StreamThread, int]:
    """Opens a GPU ("cuda" or "cuda:1") with all kernels. The caller must close the returned thread.

    Raises MissingComponent if the GPU is unusable, and EngineError if a kernel does not compile.
    """
    number = int(device.partition(":")[2] or 0)
    check(number)
    from rtface.device.cuda.modules import open_gpu  # needs cuda-python, an optional package

    return StreamThread(lambda: open_gpu(number)), number
