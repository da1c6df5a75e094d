"""Calls the CUDA driver's library for FFmpeg's codecs. Needs no packages."""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache

from rtface.errors import DeviceLost

_NAMES = {"win32": "nvcuda.dll"}
# CU_CTX_SCHED_BLOCKING_SYNC: waiting threads sleep. FFmpeg requires this flag of a context that it shares.
_BLOCKING_SYNC = 4


@lru_cache(maxsize=1)
def _driver() -> ctypes.CDLL | str:
    """Loads and initialises the driver's library. Returns the reason if that fails."""
    name = _NAMES.get(sys.platform, "libcuda.so.1")
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return f"there is no CUDA driver here ({name})"
    code = driver.cuInit(0)
    return f"the CUDA driver finds no usable GPU (error {code})" if code else driver


def absent(device: int = 0) -> str | None:
    """Returns the reason why a GPU is unusable, in a few words. Returns None if it is usable."""
    driver = _driver()
    if isinstance(driver, str):
        return driver
    count = ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)) or device >= count.value:
        return f"there is no GPU {device} (the CUDA driver reports {count.value})"
    return None


def error_text(error: BaseException) -> str:
    """Describes an error of FFmpeg's GPU codecs in a few words."""
    if isinstance(error, PermissionError):  # FFmpeg could not load a library
        return "a library of the driver is missing or too old"
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    return text[:1].lower() + text[1:] or type(error).__name__


def share_primary_context(device: int) -> None:
    """Sets the flag that FFmpeg requires to share a device's primary context.

    The context may be in use already, because the flag only changes how host threads wait. Without a driver, this does
    nothing, and later calls report the reason.
    """
    driver = _driver()
    if not isinstance(driver, str):
        driver.cuDevicePrimaryCtxSetFlags_v2(device, _BLOCKING_SYNC)


def settle(device: int) -> None:
    """Waits for FFmpeg's work in the default stream of the primary context.

    Otherwise a new frame could be read while it is still being copied.

    Raises:
        DeviceLost: the GPU does not respond.
    """
    driver, context = _driver(), _primary_context(device)
    if isinstance(driver, str) or context is None:
        raise DeviceLost(
            "GPU {device} provides no context; {--decode:software} works without it", code="gpu_context", device=device
        )
    popped = ctypes.c_void_p()
    driver.cuCtxPushCurrent_v2(context)
    code = driver.cuStreamSynchronize(None)
    driver.cuCtxPopCurrent_v2(ctypes.byref(popped))
    if code:
        raise DeviceLost(
            "GPU {device} has failed (CUDA error {status}); {--decode:software} decodes without a GPU",
            code="gpu_context_failed",
            device=device,
            status=code,
        )


@lru_cache(maxsize=8)
def _primary_context(device: int) -> ctypes.c_void_p | None:
    """Retains the primary context until the process ends. Other libraries do the same."""
    driver, context = _driver(), ctypes.c_void_p()
    if isinstance(driver, str) or driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device):
        return None
    return context
