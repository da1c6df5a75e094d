"""Formats text for display: numbers with nouns, and foreign text (from media, servers, plugins and options) with
escaped control characters."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import unicodedata
from collections.abc import Sequence

# Controls (Cc), line separators, and format characters that reorder or hide their neighbours (Cf: bidirectional
# overrides, zero widths) are escaped. These joiners are not, because scripts and emoji need them.
_UNESCAPED = "\u200c\u200d\ufeff"
_ESCAPES = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in range(0x2070)
    if (unicodedata.category(chr(code)) in ("Cc", "Cf", "Zl", "Zp")) and chr(code) not in _UNESCAPED + "\u00ad"
}
_ESCAPED = _ESCAPES | {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}
_IN_LINES = {code: text for code, text in _ESCAPED.items() if chr(code) not in "\n\t"}


def shell_line(words: Sequence[str]) -> str:
    """Joins the words of a command for this system's shell."""
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)


def printable(text: str, *, lines: bool = False) -> str:
    """Escapes control characters. The result can neither control a terminal nor imitate another line. With `lines`,
    line feeds and tabs are preserved."""
    return text.translate(_IN_LINES if lines else _ESCAPED)


_BYTES = {code: f"\\x{code & 0xFF:02x}" for code in range(0xDC80, 0xDD00)}


def encodable(text: str) -> str:
    """Escapes bytes of file names that are not UTF-8. Python represents them by lone surrogates, which FFmpeg
    rejects."""
    return text.translate(_BYTES)


def brief(value: object, max_length: int = 80) -> str:
    """Returns the `repr` of a value, cut to `max_length` characters."""
    text = repr(value)
    return text if len(text) <= max_length else text[: max_length - 1] + "…"


def counted(number: int, one: str = "frame", several: str = "") -> str:
    """Returns a number with the word for `one` thing or `several`. By default the plural adds an s."""
    return f"1 {one}" if number == 1 else f"{number} {several or f'{one}s'}"


_PAINT = re.compile("(\x1b\\[(?:0|3[0-7])m)")


def printable_paint(line: str) -> str:
    """Escapes a line like `printable`, but preserves its colour codes."""
    return "".join(part if n % 2 else printable(part) for n, part in enumerate(_PAINT.split(line)))
