"""All kernels of rtface: their sources, compiled for a GPU, and their names."""

from __future__ import annotations

from rtface.device.cuda import batch, kernels, shaping
from rtface.device.cuda.gpu import Gpu

# Each file is a program of its own: they name helpers alike.
_PROGRAMS = {kernels.CODE: kernels.KERNELS, shaping.CODE: shaping.KERNELS, batch.CODE: batch.KERNELS}


def open_gpu(ordinal: int = 0) -> Gpu:
    """A GPU with every kernel loaded, compiled when it is not in the cache, which takes seconds; raises as
    `Gpu`."""
    return Gpu(ordinal, {path.read_text(encoding="utf-8"): names for path, names in _PROGRAMS.items()})
