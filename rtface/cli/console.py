"""Writes the commands' output: progress, warnings and errors to stderr, tables and JSON to stdout."""

from __future__ import annotations

import json
import logging
import os
import re
import select
import shutil
import sys
import threading
import traceback
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TextIO

from rtface._version import __version__
from rtface.errors import Message
from rtface.pipeline.progress import Pace
from rtface.redaction import redacted, redacted_values
from rtface.util.events import SCHEMA
from rtface.util.text import printable, printable_paint

_COLOURS = {"warning": "33", "error": "31", "fault": "31", "warn": "33", "ok": "32"}
_PAINT = re.compile("\x1b\\[[0-9;]*m")


def _visible_width(line: str) -> int:
    """Returns the visible columns of a line. The colour codes of `Console.paint` do not count."""
    return len(_PAINT.sub("", line))


def discard_output(stream: TextIO) -> None:
    """Discards the output of a stream whose reader has closed it. Otherwise Python complains when it flushes the buffer
    at exit."""
    with suppress(OSError, ValueError):  # a stream without descriptor has no buffer
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


class Console:
    """Writes messages and the status line to stderr. After a broken pipe it writes nothing.

    Args:
        verbosity: -1 errors only, 0 warnings, 1 decisions, 2 everything.
        stream: where to write; stderr by default.
        environ: environment variables; ``NO_COLOR``, ``TERM`` and ``WT_SESSION`` are used.
        events: whether to write events (lines of JSON) instead of text.

    Attributes:
        live: whether the status may be updated often: on a terminal, which overwrites the line, or with events.
    """

    def __init__(
        self,
        verbosity: int = 0,
        stream: TextIO | None = None,
        environ: Mapping[str, str] = os.environ,
        *,
        events: bool = False,
    ) -> None:
        self.verbosity = verbosity
        self._broken, self.events = False, events
        self._stream = stream or sys.stderr
        self.live = events or (self._stream.isatty() and environ.get("TERM") != "dumb")
        # The classic Windows console shows escapes as text; newer terminals set WT_SESSION.
        supports_colour = os.name != "nt" or "WT_SESSION" in environ
        self._coloured = self.live and supports_colour and not environ.get("NO_COLOR") and not events
        self._drawn_width = 0
        self._lock = threading.RLock()
        self.event("start", schema=SCHEMA, rtface=__version__)

    def paint(self, kind: str, text: str) -> str:
        """Returns `text` in the colour of "warning", "error", "ok" …, if enabled."""
        return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m" if self._coloured and kind in _COLOURS else text

    def event(self, kind: str, message: str | None = None, /, **facts: object) -> None:
        """Writes an event, if enabled; `facts` are JSON values."""
        if self.events:
            table = {"event": kind, **({} if message is None else Message(message).to_dict()), **facts}
            with self._lock:
                self._write(json.dumps(redacted_values(table)) + "\n")

    def status(self, line: str, **facts: object) -> None:
        """Shows the status line. On a terminal it replaces the previous one. With events, writes `facts`, or the
        line if there are none."""
        if self.verbosity < 0:
            return
        if self.events:
            if self._has_room():
                self.event("progress", None if facts else line, **facts)
            return
        if not self.live:
            self.log(_PAINT.sub("", line))
            return
        line = redacted(printable_paint(line))
        width = shutil.get_terminal_size().columns - 1
        if _visible_width(line) > width:
            line = _PAINT.sub("", line)[: max(0, width - 3)] + "..."
        with self._lock:
            self._write("\r" + line + " " * max(0, self._drawn_width - _visible_width(line)))
            self._drawn_width = _visible_width(line)

    def _has_room(self) -> bool:
        """Checks whether a write would not block. A slow reader gets fewer progress lines, but delays nothing."""
        try:
            return sys.platform == "win32" or bool(select.select([], [self._stream], [], 0)[1])
        except (OSError, ValueError):  # there is no descriptor, or it is above 1023
            return True

    def building(self, what: str, done: float) -> None:
        """Shows the progress of building networks before the first frame. `done` is the share done (0…1)."""
        if self.live:
            self.status(f"building {what}, {done:.0%}", building=what, share=done)

    def clear(self) -> None:
        """Removes the status line."""
        with self._lock:
            if self._drawn_width:
                self._write("\r" + " " * self._drawn_width + "\r")
                self._drawn_width = 0

    def _write(self, text: str) -> None:
        if self._broken:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError) as error:
            if isinstance(error, UnicodeError):
                raise
            self._broken = True
            discard_output(self._stream)

    def log(self, text: str, kind: str = "info", *, lines: bool = False) -> None:
        """Writes a message; line breaks are escaped unless `lines`. ``-q`` shows only errors."""
        if self.verbosity < 0 and kind != "error":
            return
        if self.events:
            self.event(kind, text)
            return
        with self._lock:
            self.clear()
            label = f"{self.paint(kind, kind)}: " if kind in ("warning", "error") else ""
            self._write(f"rtface: {label}{redacted(printable(text, lines=lines))}\n")


class SteadyStatus:
    """Shows status lines, but only as often as a `Pace` allows."""

    def __init__(self, console: Console) -> None:
        self._console, self._pace = console, Pace(console)

    def __call__(self, line: str) -> None:
        if self._pace.due():
            self._console.status(line)


class _Handler(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        kinds = ((logging.ERROR, "error"), (logging.WARNING, "warning"))
        kind = next((name for level, name in kinds if record.levelno >= level), "info")
        # A library's or plugin's message becomes one line. The traceback of a debug message follows on separate lines.
        text = printable(record.getMessage())
        argument = record.args[0] if isinstance(record.args, tuple) and len(record.args) == 1 else None
        if isinstance(argument, Message) and record.msg == "%s":
            text = Message.of(argument.to_dict() | {"message": text})
        if record.exc_info and record.exc_info[0] is not None:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        self._console.log(text, kind, lines=True)


@contextmanager
def log_to(console: Console) -> Generator[None]:
    """Shows the library's log on `console` inside the block."""
    logger = logging.getLogger("rtface")
    handler, level, propagate = _Handler(console), logger.level, logger.propagate
    logger.setLevel({-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(console.verbosity, logging.DEBUG))
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def print_json(value: object, *, indent: int | None = None) -> None:
    """Writes one JSON value to stdout. It is ASCII only, so that no terminal or file name can break it."""
    sys.stdout.write(json.dumps(redacted_values(value), indent=indent) + "\n")
    sys.stdout.flush()


def print_text(*lines: str) -> None:
    """Writes lines to stdout. Line breaks in names are escaped."""
    sys.stdout.write("".join(redacted(printable(line)) + "\n" for line in lines))


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Writes rows to stdout in columns; the first row is the heading."""
    rows = [[redacted(printable(cell)) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")
