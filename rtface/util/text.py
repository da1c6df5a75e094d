"""Text for display: numbers of things, and foreign text with control characters escaped. Foreign text comes from media,
servers, plugins and options."""

from __future__ import annotations

import re
import unicodedata

# Controls (Cc), and format characters that reorder or hide their neighbours (Cf: bidirectional overrides, zero
# widths), and line separators. Joiners that scripts and emoji need are kept.
_KEPT = "\u200c\u200d\ufeff"
_ESCAPES = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in range(0x2070)
    if (unicodedata.category(chr(code)) in ("Cc", "Cf", "Zl", "Zp")) and chr(code) not in _KEPT + "\u00ad"
}
_ESCAPED = _ESCAPES | {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}
_IN_LINES = {code: text for code, text in _ESCAPED.items() if chr(code) not in "\n\t"}


def printable(text: str, *, lines: bool = False) -> str:
    """Escapes control characters. Such text can neither control a terminal nor imitate another line. `lines` keeps line
    feeds and tabs."""
    return text.translate(_IN_LINES if lines else _ESCAPED)


_BYTES = {code: f"\\x{code & 0xFF:02x}" for code in range(0xDC80, 0xDD00)}


def encodable(text: str) -> str:
    """Escapes bytes of file names that are not UTF-8. They are lone surrogates, which OpenCV and FFmpeg refuse."""
    return text.translate(_BYTES)


def brief(value: object, most: int = 80) -> str:
    """Returns the `repr` of a value, cut to `most` characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # numbers of more than 4300 digits
        return f"something ({type(value).__name__}) that is too long to show"
    return text if len(text) <= most else text[: most - 1] + "…"


def counted(number: int, one: str = "frame", several: str = "") -> str:
    """Returns a number of things with the word for one or `several`. The plural adds an s by default."""
    return f"1 {one}" if number == 1 else f"{number} {several or f'{one}s'}"


_PAINT = re.compile("(\x1b\\[(?:0|3[0-7])m)")


def printable_paint(line: str) -> str:
    """Escapes a line as `printable`, but keeps its colour codes."""
    return "".join(part if n % 2 else printable(part) for n, part in enumerate(_PAINT.split(line)))
