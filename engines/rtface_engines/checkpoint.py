"""Reads names, shapes and types of tensors in a file, without torch.

A PyTorch file contains a pickle, and a pickle is a program. A restricted unpickler runs it: it resolves a few names to
objects of this module and rejects all other names.
"""

from __future__ import annotations

import io
import math
import pickle
import stat
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from rtface.errors import InputError, InputMissing
from rtface.util.toml_dataclass import parse_json

_LEGACY = 0x1950A86A20F9469CFC6C  # first value of PyTorch files before 1.6
TRAINERS = ("pytorch_lightning.", "lightning.", "omegaconf.", "numpy.")
"""Modules whose objects training frameworks store with tensors. An inert placeholder replaces these objects."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Shape and type (such as "float32") of a tensor."""

    shape: tuple[int, ...]
    dtype: str


Contents = Mapping[str, Any]
"""The values in the file by name: `Tensor`s, nested tables, and other values."""


def read_contents(path: Path) -> Contents:
    """Reads a PyTorch or safetensors file. The content determines the format.

    Raises InputMissing if there is no file, and InputError if the file is unusable.
    """
    head = file_head(path)
    with path.open("rb") as file:
        if head[:1] == b"\x80":
            return _legacy(path, file)
        if head[:4] == b"PK\x03\x04":
            return _zipped(path)
        if head[8:9] == b"{":
            return _safetensors(path, file)
    if head[257:262] == b"ustar":
        raise InputError(
            "{path} was saved by a PyTorch older than 0.2; load it there and save it again with torch.save",
            code="checkpoint_old",
            path=path,
        )
    raise InputError(
        "{path} is not a weights file in a known format (.pth, .ckpt, .safetensors, .onnx)",
        code="checkpoint_kind",
        path=path,
    )


def file_head(path: Path) -> bytes:
    """Reads the first 512 bytes of a possible weights file.

    Raises InputMissing if there is no file; InputError for a folder, pipe, empty file, web page or Git LFS pointer.
    """
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise InputError("{path} is a folder; give the weights file in it", code="checkpoint_folder", path=path)
        if not stat.S_ISREG(kind):  # reading a pipe would block
            raise InputError(
                "{path} is not a regular file; give the weights file", code="checkpoint_special", path=path
            )
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError as error:
        raise InputMissing("{path} does not exist", code="checkpoint_gone", path=path) from error
    except OSError as error:
        raise InputMissing(
            "{path} cannot be read: {why}", code="offer_unreadable", path=path, why=error.strerror
        ) from error
    if not head:
        raise InputError("{path} is empty; download it again", code="checkpoint_empty", path=path)
    if head.lstrip()[:1] == b"<" and b"\0" not in head[:8]:  # a safetensors file may also start with <
        raise InputError(
            "{path} is a web page, not a weights file; download it again", code="checkpoint_page", path=path
        )
    if head.startswith(b"version https://git-lfs"):
        raise InputError(
            "{path} is only a Git LFS pointer to the weights; download the file itself",
            code="checkpoint_lfs",
            path=path,
        )
    return head


def _damaged(path: Path, why: object) -> NoReturn:
    text = " ".join(str(why).split()) or type(why).__name__
    raise InputError(
        "{path} is damaged or incomplete ({why}); download it again", code="checkpoint_damaged", path=path, why=text
    )


def _zipped(path: Path) -> Contents:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info for info in archive.infolist() if info.filename.endswith("/data.pkl")]
            if not names:
                raise InputError(
                    "{path} is a zip file without PyTorch weights; if it contains a weights file, unpack it",
                    code="checkpoint_zip",
                    path=path,
                )
            data = archive.read(names[0])
    except InputError:
        raise
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        _damaged(path, error)
    return _unpickled(path, io.BytesIO(data))


def _legacy(path: Path, file: BinaryIO) -> Contents:
    """Reads a file of PyTorch before 1.6: four pickles (magic number, version, system, contents), then the data."""
    file.seek(0)
    try:
        if _load(file) != _LEGACY:
            raise InputError("{path} is a pickle, but not from PyTorch", code="checkpoint_pickle", path=path)
        for _ in range(2):
            _load(file)
    except _Unsafe as error:
        raise InputError("{path} is a pickle, but not from PyTorch", code="checkpoint_pickle", path=path) from error
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  a damaged pickle fails in any way
        _damaged(path, error)
    return _unpickled(path, file)


def _unpickled(path: Path, file: BinaryIO | io.BytesIO) -> Contents:
    try:
        contents: object = _load(file)
    except _Unsafe as error:
        raise InputError(
            "{path} contains {what}, which could run code, so it is not read; save only the weights, as with "
            "torch.save(model.state_dict(), …)",
            code="checkpoint_code",
            path=path,
            what=error,
        ) from error
    except Exception as error:  # noqa: BLE001  a damaged pickle fails in any way
        _damaged(path, error)
    if not isinstance(contents, Mapping):
        raise InputError(
            "{path} contains a {type}, not named weights; save only its state_dict()",
            code="checkpoint_unnamed",
            path=path,
            type=type(contents).__name__,
        )
    return contents


def _load(file: BinaryIO | io.BytesIO) -> Any:
    """Reads the next pickle. Raises _Unsafe for a forbidden name. A damaged pickle can raise any exception."""
    return _Unpickler(file).load()


class _Unsafe(Exception):
    """A pickle refers to a forbidden object."""


class _Placeholder:
    """A placeholder for a training framework's object; its methods do nothing."""

    def __new__(cls, *_: Any, **__: Any) -> _Placeholder:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass

    def __setitem__(self, _: Any, __: Any) -> None:
        pass

    def append(self, _: Any) -> None:
        pass

    def extend(self, _: Any) -> None:
        pass


def _rebuild_tensor(storage: Any, offset: int, size: tuple[int, ...], *_: Any) -> Tensor:
    if not isinstance(storage, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError("a tensor without type")
    return Tensor(tuple(size), storage)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


_STORAGES = {
    "Float": "float32",
    "Double": "float64",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
}
_ALLOWED: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch.Size": tuple,
    "torch.storage.UntypedStorage": "bytes",
    "torch.device": _Placeholder,
    **{f"torch.{kind}Storage": dtype for kind, dtype in _STORAGES.items()},
    **{f"torch.{dtype}": dtype for dtype in _STORAGES.values()},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        name = f"{module_name}.{global_name}"
        if name in _ALLOWED:
            return _ALLOWED[name]
        if name.startswith(TRAINERS):
            return _Placeholder
        raise _Unsafe(name)

    def persistent_load(self, pid: Any) -> Any:
        """Returns the type from a storage's ID: ("storage", type, key, device, number of values, …)."""
        return pid[1]


_DTYPES = {
    8: ("F64", "I64", "U64"),
    4: ("F32", "I32", "U32"),
    2: ("F16", "BF16", "I16", "U16"),
    1: ("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"),
}
_BYTES = {dtype: size for size, dtypes in _DTYPES.items() for dtype in dtypes}


def _safetensors(path: Path, file: BinaryIO) -> Contents:
    """Reads a safetensors file's header, a JSON table (https://github.com/huggingface/safetensors)."""
    file.seek(0, 2)
    file_bytes = file.tell()
    file.seek(0)
    (length,) = struct.unpack("<Q", file.read(8))
    if length > file_bytes - 8:
        _damaged(path, f"its header would fill {length} of {file_bytes} bytes")
    table_tensors: dict[str, Tensor] = {}
    try:
        table = parse_json(file.read(length), dict[str, Any])
        for name, entry in table.items():
            if name == "__metadata__":
                continue
            start, end = entry["data_offsets"]
            if not 0 <= start <= end <= file_bytes - 8 - length:
                _damaged(path, f"{name[:80]} lies beyond the end")
            shape, dtype = tuple(map(int, entry["shape"])), str(entry["dtype"])[:16]
            if end - start != math.prod(shape) * _BYTES.get(dtype, math.nan):
                fault = "of the wrong length" if dtype in _BYTES else f"of type {dtype}"
                _damaged(path, f"{name[:80]} is {fault}")
            table_tensors[name] = Tensor(shape, dtype)
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        _damaged(path, error)
    return table_tensors


def tensors(contents: Contents, states: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Returns the tensor shapes under the first of `states` that exists. If none exists, returns all shapes. In a flat
    file, `states` are name prefixes. The converter reads files in the same way."""
    for state in filter(None, states):
        if isinstance(inner := contents.get(state), Mapping):
            return _shapes(inner)
        if flat := {str(k).removeprefix(f"{state}."): v for k, v in contents.items() if str(k).startswith(f"{state}.")}:
            return _shapes(flat)
    return _shapes(contents)


def _shapes(table: Contents) -> dict[str, tuple[int, ...]]:
    return {str(name): value.shape for name, value in table.items() if isinstance(value, Tensor)}
