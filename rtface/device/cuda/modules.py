"""Opens a GPU with all kernels of rtface."""

from __future__ import annotations

from rtface.device.cuda import batch, kernels, shaping
from rtface.device.cuda.gpu import Gpu

# Each file is a separate program, because helpers in different files have the same names.
_PROGRAMS = {kernels.CODE: kernels.KERNELS, shaping.CODE: shaping.KERNELS, batch.CODE: batch.KERNELS}


def open_gpu(ordinal: int = 0) -> Gpu:
    """Opens a GPU with all kernels loaded. Compiles uncached kernels, which takes seconds. Raises like `Gpu`."""
    return Gpu(ordinal, {path.read_text(encoding="utf-8"): names for path, names in _PROGRAMS.items()})
