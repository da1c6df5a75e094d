"""Reads untrusted files and values safely: rejects pipes and devices, checks types."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar

import msgspec
from msgspec import Meta

T = TypeVar("T")
Text = Annotated[str, Meta(pattern=r"\A[^\ud800-\udfff]*\Z")]
"""Text that can be encoded as UTF-8."""
FilePath = Annotated[str, Meta(pattern=r"\A[^\0\ud800-\udc7f\udd00-\udfff]+\Z")]
"""A file's path; bytes that are not UTF-8 are escaped as by `os.fsdecode`."""
Count = Annotated[int, Meta(ge=0, lt=1 << 31)]
"""A count or an index."""


def open_regular(path: Path) -> BinaryIO:
    """Opens a file for reading.

    Raises:
        OSError: the file cannot be opened, or is a pipe or device.
    """
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(number, "rb")


def read_regular(path: Path) -> bytes:
    """Reads a whole file. Raises OSError like `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def first_line(path: Path) -> str:
    """Reads a secret: the first line of a file or pipe (``<(…)``).

    Raises:
        OSError: the file cannot be read, or its first line is empty or not text.
    """
    with path.open("rb") as file:
        line = file.readline().decode(errors="replace").strip()
    if not line or "\ufffd" in line:
        raise OSError(errno.EINVAL, f"its first line is {'not text' if line else 'empty'}")
    return line


def converted(value: Any, kind: type[T]) -> T:
    """Converts a JSON value to a type, such as a dataclass. Keys that the type does not have are dropped.

    Raises:
        ValueError: the value does not fit; the message contains the path of the faulty element.
    """
    try:  # JSON stores fractions and paths as text, from which `dec_hook` makes them
        return msgspec.convert(value, kind, str_keys=True, dec_hook=lambda other, text: other(text))
    except (msgspec.ValidationError, ArithmeticError) as error:
        why = str(error).replace("`$.", "`")
        raise ValueError(why[:1].lower() + why[1:]) from None


def fits(value: Any, kind: Any) -> bool:
    """Checks whether a JSON value fits a type."""
    try:
        converted(value, kind)
    except ValueError:
        return False
    return True
