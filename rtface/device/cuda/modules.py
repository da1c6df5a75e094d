"""All kernels of rtface: their sources, compiled for a GPU, and their names."""

from __future__ import annotations

from rtface.device.cuda import batch, kernels, nvrtc, shaping
from rtface.device.cuda.nvidia import NvidiaGpu

# Each file is a program of its own: they name helpers alike.
_SOURCES = (kernels.CODE, shaping.CODE, batch.CODE)
KERNELS = (*kernels.KERNELS, *shaping.KERNELS, *batch.KERNELS)


def open_gpu(ordinal: int = 0) -> NvidiaGpu:
    """A GPU with every kernel loaded; compiled when they are not in the cache, which takes seconds.

    Raises MissingComponent: no driver, no such GPU, or a package is not installed; EngineError: a kernel does not
    compile.
    """

    def compiled(capability: tuple[int, int]) -> list[bytes]:
        return [nvrtc.compile(path.read_text(encoding="utf-8"), capability) for path in _SOURCES]

    return NvidiaGpu(ordinal, compiled, KERNELS)
