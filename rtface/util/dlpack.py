"""Memory handed to another library without a copy: one plane of samples as a DLPack tensor (the unversioned protocol).

https://dmlc.github.io/dlpack: a capsule named "dltensor" holds a DLManagedTensor. Who takes it renames the capsule and
calls the deleter once when done, on whatever thread, without the GIL; a capsule that nobody took calls it when it goes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

CPU, CUDA = 1, 2  # DLDeviceType
_UNSIGNED = 1  # DLDataTypeCode
_NAME = b"dltensor"


class _DLTensor(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
                ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8),
                ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64))


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _DLManagedTensor(ctypes.Structure):
    _fields_ = (("tensor", _DLTensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))


# Prototypes of our own: those of ctypes.pythonapi's attributes are shared with every other user of it.
_Destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_new_capsule: Callable[..., Any] = ctypes.PYFUNCTYPE(
    ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _Destructor)(("PyCapsule_New", ctypes.pythonapi))
_is_valid = ctypes.PYFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_pointer = ctypes.PYFUNCTYPE(
    ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))

# What was handed out and not given back, by its number: the structures that the consumer reads, and the owner.
_lent: dict[int, tuple[Any, ...]] = {}
_numbers = count(1)


@_Deleter
def _delete(managed: int) -> None:
    number = ctypes.cast(managed, ctypes.POINTER(_DLManagedTensor)).contents.context
    _lent.pop(number, None)


@_Destructor
def _destroy(capsule: int) -> None:
    if _is_valid(capsule, _NAME):  # nobody took it: its name would be another
        _delete(_pointer(capsule, _NAME))


def lent() -> int:
    """How many planes are out."""
    return len(_lent)


@dataclass(frozen=True, slots=True)
class Plane:
    """A plane of unsigned samples in memory of the host or of a GPU.

    Attributes:
        address: of its first sample.
        shape: rows and columns, with a third dimension for interleaved components.
        strides: steps between samples in each dimension, in samples.
        bits: of a stored sample, 8 or 16.
        owner: kept alive until the consumer lets go.
        device: number of the CUDA device, None for memory of the host.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    bits: int
    owner: object
    device: int | None = None

    def __dlpack_device__(self) -> tuple[int, int]:
        return (CPU, 0) if self.device is None else (CUDA, self.device)

    def __dlpack__(self, *, stream: object = None, **wanted: object) -> Any:
        """The capsule. Work on the memory must have ended; `stream` and what newer consumers ask for is not needed.

        Raises:
            BufferError: the consumer wants a copy, or another device.
        """
        where = wanted.get("dl_device")
        if wanted.get("copy") or where not in (None, self.__dlpack_device__()):
            raise BufferError("this plane is handed over as it is: no copy, no other device")
        sizes = (ctypes.c_int64 * len(self.shape))(*self.shape)
        steps = (ctypes.c_int64 * len(self.strides))(*self.strides)
        kind, device = self.__dlpack_device__()
        number = next(_numbers)
        managed = _DLManagedTensor(
            _DLTensor(self.address, kind, device, len(self.shape), _UNSIGNED, self.bits, 1, sizes, steps, 0),
            number, _delete)
        _lent[number] = (managed, sizes, steps, self.owner)
        return _new_capsule(ctypes.addressof(managed), _NAME, _destroy)
