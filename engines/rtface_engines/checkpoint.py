"""Names, shapes and types of the tensors in a file of weights, without torch: only what says so is read.

A file of PyTorch is a pickle, and a pickle is a program. This one is run by an unpickler that knows a handful of names,
all of them ours, and builds nothing else.
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

_LEGACY = 0x1950A86A20F9469CFC6C  # what files of PyTorch before 1.6 begin with
TRAINERS = ("pytorch_lightning.", "lightning.", "omegaconf.", "numpy.")
"""Where the objects come from that trainers leave beside the tensors: something empty stands in for them."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Shape and type ("float32") of a tensor."""

    shape: tuple[int, ...]
    dtype: str


Contents = Mapping[str, Any]
"""`Tensor`s and further tables by name; whatever else a file holds may be among them."""


def read_contents(path: Path) -> Contents:
    """What a file of weights holds: ``.pth``, ``.pt``, ``.ckpt`` or ``.safetensors``, whatever it is called.

    Raises InputMissing, and InputError saying what is wrong with the file and what to do.
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
            "{path} is of a PyTorch older than 0.2; load it there and save it anew with torch.save",
            code="checkpoint_old",
            path=path,
        )
    raise InputError(
        "{path} is no file of weights that rtface knows (.pth, .ckpt, .safetensors, .onnx)",
        code="checkpoint_kind",
        path=path,
    )


def file_head(path: Path) -> bytes:
    """The first 512 bytes of a file that may hold weights, of whatever kind.

    Raises InputMissing; InputError for what holds none: a folder, a pipe, nothing at all, a web page, a pointer.
    """
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise InputError("{path} is a folder; give the file of weights in it", code="checkpoint_folder", path=path)
        if not stat.S_ISREG(kind):  # a pipe would be waited for
            raise InputError(
                "{path} is no ordinary file; give the file of weights", code="checkpoint_special", path=path
            )
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError as error:
        raise InputMissing("{path} is not there", code="checkpoint_gone", path=path) from error
    except OSError as error:
        raise InputMissing(
            "{path} cannot be read: {why}", code="offer_unreadable", path=path, why=error.strerror
        ) from error
    if not head:
        raise InputError("{path} is empty; get it again", code="checkpoint_empty", path=path)
    if head.lstrip()[:1] == b"<" and b"\0" not in head[:8]:  # the length of a table may begin so, too
        raise InputError(
            "{path} is a web page, not a file of weights; download it again", code="checkpoint_page", path=path
        )
    if head.startswith(b"version https://git-lfs"):
        raise InputError(
            "{path} only says where the weights lie (Git LFS); get the file itself", code="checkpoint_lfs", path=path
        )
    return head


def _damaged(path: Path, why: object) -> NoReturn:
    text = " ".join(str(why).split()) or type(why).__name__
    raise InputError(
        "{path} is damaged or not whole ({why}); get it again", code="checkpoint_damaged", path=path, why=text
    )


def _zipped(path: Path) -> Contents:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info for info in archive.infolist() if info.filename.endswith("/data.pkl")]
            if not names:
                raise InputError(
                    "{path} is a zip without weights of PyTorch in it; unpack it, if they are inside",
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
    """Four pickles, one behind the other: what it is, its version, the machine, the contents; then the storages."""
    file.seek(0)
    try:
        if _load(file) != _LEGACY:
            raise InputError("{path} is a pickle, but not of PyTorch", code="checkpoint_pickle", path=path)
        for _ in range(2):
            _load(file)
    except _Unsafe as error:
        raise InputError("{path} is a pickle, but not of PyTorch", code="checkpoint_pickle", path=path) from error
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  a damaged pickle fails in any way
        _damaged(path, error)
    return _unpickled(path, file)


def _unpickled(path: Path, file: BinaryIO | io.BytesIO) -> Contents:
    try:
        found: object = _load(file)
    except _Unsafe as error:
        raise InputError(
            "{path} holds {what}, which could run code, so it is not read; save the weights alone, as with "
            "torch.save(model.state_dict(), …)",
            code="checkpoint_code",
            path=path,
            what=error,
        ) from error
    except Exception as error:  # noqa: BLE001  a damaged pickle fails in any way
        _damaged(path, error)
    if not isinstance(found, Mapping):
        raise InputError(
            "{path} holds a {type}, not named weights; save its state_dict() alone",
            code="checkpoint_unnamed",
            path=path,
            type=type(found).__name__,
        )
    return found


def _load(file: BinaryIO | io.BytesIO) -> Any:
    """The next pickle. Raises _Unsafe for one that would build what is not ours, anything where it is damaged."""
    return _Unpickler(file).load()


class _Unsafe(Exception):
    """Names what a pickle wants to build."""


class _Left:
    """Stands for a trainer's object: whatever is done to it, nothing happens."""

    def __new__(cls, *_: Any, **__: Any) -> _Left:
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
_KNOWN: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch.Size": tuple,
    "torch.storage.UntypedStorage": "bytes",
    "torch.device": _Left,
    **{f"torch.{kind}Storage": dtype for kind, dtype in _STORAGES.items()},
    **{f"torch.{dtype}": dtype for dtype in _STORAGES.values()},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        name = f"{module_name}.{global_name}"
        if name in _KNOWN:
            return _KNOWN[name]
        if name.startswith(TRAINERS):
            return _Left
        raise _Unsafe(name)

    def persistent_load(self, pid: Any) -> Any:
        """A storage, of which only the type matters: ("storage", type, key, device, number of values, …)."""
        return pid[1]


_DTYPES = {
    8: ("F64", "I64", "U64"),
    4: ("F32", "I32", "U32"),
    2: ("F16", "BF16", "I16", "U16"),
    1: ("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"),
}
_BYTES = {dtype: size for size, dtypes in _DTYPES.items() for dtype in dtypes}


def _safetensors(path: Path, file: BinaryIO) -> Contents:
    """A length, a table in JSON, the values (https://github.com/huggingface/safetensors)."""
    file.seek(0, 2)
    whole = file.tell()
    file.seek(0)
    (length,) = struct.unpack("<Q", file.read(8))
    if length > whole - 8:
        _damaged(path, f"its table would take {length} of {whole} bytes")
    found: dict[str, Tensor] = {}
    try:
        table = parse_json(file.read(length), dict[str, Any])
        for name, entry in table.items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            if not 0 <= begin <= end <= whole - 8 - length:
                _damaged(path, f"{name[:80]} lies beyond its end")
            shape, dtype = tuple(map(int, entry["shape"])), str(entry["dtype"])[:16]
            if end - begin != math.prod(shape) * _BYTES.get(dtype, math.nan):
                wrong = "not as long as it says" if dtype in _BYTES else f"of type {dtype}"
                _damaged(path, f"{name[:80]} is {wrong}")
            found[name] = Tensor(shape, dtype)
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        _damaged(path, error)
    return found


def tensors(contents: Contents, states: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors under the first of `states` that is there; of a flat file those whose names begin so, else
    all. The converter reads a file in the same way."""
    for state in filter(None, states):
        if isinstance(inner := contents.get(state), Mapping):
            return _shapes(inner)
        if flat := {str(k).removeprefix(f"{state}."): v for k, v in contents.items() if str(k).startswith(f"{state}.")}:
            return _shapes(flat)
    return _shapes(contents)


def _shapes(table: Contents) -> dict[str, tuple[int, ...]]:
    return {str(name): value.shape for name, value in table.items() if isinstance(value, Tensor)}
