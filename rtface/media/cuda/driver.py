"""The few things that FFmpeg's codecs need of the CUDA driver itself; no package, the driver's own library."""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache

from rtface.errors import DeviceLost

_NAMES = {"win32": "nvcuda.dll"}
# What FFmpeg insists on for a context that it shares (CU_CTX_SCHED_BLOCKING_SYNC): waiting threads sleep.
_BLOCKING_SYNC = 4


@lru_cache(maxsize=1)
def _driver() -> ctypes.CDLL | str:
    """The driver's library, ready for use, or why there is none."""
    name = _NAMES.get(sys.platform, "libcuda.so.1")
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return f"there is no CUDA driver here ({name})"
    code = driver.cuInit(0)
    return f"the CUDA driver finds no usable GPU (error {code})" if code else driver


def absent(device: int = 0) -> str | None:
    """Why a GPU cannot be used, in a few words, or None where it can."""
    driver = _driver()
    if isinstance(driver, str):
        return driver
    count = ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)) or device >= count.value:
        return f"there is no GPU {device}, the CUDA driver counts {count.value}"
    return None


def told(error: BaseException) -> str:
    """What FFmpeg says of a GPU, in a few words."""
    if isinstance(error, PermissionError):  # its word for a library that it cannot load
        return "a library of the driver is missing or too old"
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    return text[:1].lower() + text[1:] or type(error).__name__


def share_primary_context(device: int) -> None:
    """Gives the device's primary context the flag without which FFmpeg refuses to share it with other libraries.

    It may be in use already: the flag says how host threads wait, and nothing else changes. Does nothing without a
    driver; what comes next then says why.
    """
    driver = _driver()
    if not isinstance(driver, str):
        driver.cuDevicePrimaryCtxSetFlags_v2(device, _BLOCKING_SYNC)


def settle(device: int) -> None:
    """Waits until the work that FFmpeg has put on a device is done: it uses the default stream of the primary context.

    Without that wait a frame that has just been decoded could be read while it is still copied.

    Raises:
        DeviceLost: the GPU does not answer.
    """
    driver, context = _driver(), _primary_context(device)
    if isinstance(driver, str) or context is None:
        raise DeviceLost(
            "GPU {device} gives no context; {--decode:software} does without it", code="gpu_context", device=device
        )
    popped = ctypes.c_void_p()
    driver.cuCtxPushCurrent_v2(context)
    code = driver.cuStreamSynchronize(None)
    driver.cuCtxPopCurrent_v2(ctypes.byref(popped))
    if code:
        raise DeviceLost(
            "GPU {device} has failed (CUDA error {status}); {--decode:software} does without it",
            code="gpu_context_failed",
            device=device,
            status=code,
        )


@lru_cache(maxsize=8)
def _primary_context(device: int) -> ctypes.c_void_p | None:
    """Kept for the life of the process, as other users of the GPU do."""
    driver, context = _driver(), ctypes.c_void_p()
    if isinstance(driver, str) or driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device):
        return None
    return context
