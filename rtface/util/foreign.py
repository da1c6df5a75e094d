"""Reading what somebody else may have written: no file is waited for or fills the memory, values have their shape."""

from __future__ import annotations

import errno
import math
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from rtface.util.text import brief

LARGEST = 1 << 30
"""Bytes of a file that is read as a whole; the sidecar of a film of ten hours has a tenth of that."""
_LINE = 1 << 16  # characters of an address or a password
_LONGEST = 255  # bytes of a name, in the file systems of Linux, macOS and Windows

Shape: TypeAlias = "Callable[[Any], bool] | list[Shape] | dict[str, Shape]"
"""What a value has to be: what a function agrees to, a list of such, or a table with these keys (and any others). A key
with a question mark at its end may be missing."""


def open_regular(path: Path) -> BinaryIO:
    """Opens a file for reading.

    Raises:
        OSError: it cannot be opened, or is a pipe or device.
    """
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(number, "rb")


def read_regular(path: Path, largest: int = LARGEST) -> bytes:
    """All of a file; OSError as `open_regular`, and where it is larger than that."""
    with open_regular(path) as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise OSError(errno.EFBIG, f"it is larger than {largest >> 20} MiB", str(path))
    return data


def first_line(path: Path) -> str:
    """The first line of a file that holds a secret, or of a pipe (a shell's ``<(…)``).

    Raises:
        OSError: it cannot be read, or its first line is empty, no text or too long.
    """
    with path.open("rb") as file:
        line = file.readline(_LINE + 1).decode(errors="replace").strip()
    if not line or "\ufffd" in line or len(line) > _LINE:
        why = "longer than 64 KiB" if len(line) > _LINE else "no text" if line else "empty"
        raise OSError(errno.EINVAL, f"its first line is {why}")
    return line


def check_shape(value: Any, shape: Shape, where: str = "") -> None:
    """Raises ValueError, with the place, where a value is not what it has to be."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise ValueError(f"{where or 'it'} is no table")
        table = cast("dict[str, object]", value)
        for key, inner in shape.items():
            name = key.removesuffix("?")
            if name in table:
                check_shape(table[name], inner, f"{where}.{name}" if where else name)
            elif key == name:
                raise ValueError(f"{where + '.' if where else ''}{name} is missing")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise ValueError(f"{where or 'it'} is no list")
        for number, entry in enumerate(cast("list[Any]", value)):
            check_shape(entry, shape[0], f"{where}[{number}]")
    elif not shape(value):
        raise ValueError(f"{where or 'it'} is {brief(value)}")


def text(value: Any) -> bool:
    """A text that can be written as UTF-8."""
    return isinstance(value, str) and not any("\ud800" <= sign <= "\udfff" for sign in value)


def whole(value: Any) -> bool:
    """A number that a signed integer of 64 bits holds."""
    return isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63


def number(value: Any) -> bool:
    """A finite number."""
    return whole(value) or (isinstance(value, float) and math.isfinite(value))


def count(value: Any) -> bool:
    """A number of things, or of one of them: a whole number of 31 bits that is not negative."""
    return whole(value) and 0 <= value < 1 << 31


def file_path(value: Any) -> bool:
    """The path of a file; its bytes that are not UTF-8 are those of `os.fsdecode`."""
    try:
        return isinstance(value, str) and bool(os.fsencode(value)) and "\0" not in value
    except UnicodeEncodeError:
        return False


def file_name(value: Any) -> bool:
    """The name of a file in a folder that is known; a backslash is a sign like others where it parts no folders."""
    return (
        file_path(value)
        and value != ".."
        and Path(value).name == value
        and len(value.encode("utf-8", "replace")) <= _LONGEST
    )


def flag(value: Any) -> bool:
    """True or False."""
    return isinstance(value, bool)


def none_or(shape: Shape) -> Callable[[Any], bool]:
    """None, or a value of a shape."""
    return lambda value: value is None or fits(value, shape)


def row(*shapes: Shape) -> Callable[[Any], bool]:
    """A list of as many values as there are shapes."""
    return lambda value: (
        isinstance(value, list | tuple)
        and len(cast("list[Any]", value)) == len(shapes)
        and all(fits(entry, shape) for entry, shape in zip(cast("list[Any]", value), shapes, strict=True))
    )


def fits(value: Any, shape: Shape) -> bool:
    """True if a value has a shape."""
    try:
        check_shape(value, shape)
    except ValueError:
        return False
    return True
