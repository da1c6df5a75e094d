"""Defines the errors that rtface raises, their messages, and the log.

RtfaceError
├── UsageError (ValueError)            an option, argument or configuration value that cannot be used
├── Closed (ValueError)                use of an object after it was closed
├── InputError (ValueError)            the input is empty, damaged beyond use, or contains no video
│   └── InputMissing (FileNotFoundError)
├── OutputError (OSError)              the output cannot be opened, written or finished
├── DownloadError (OSError)            a file cannot be fetched, or differs from the published one
├── MissingComponent (ImportError)     a package, model file or device that this job needs is missing
└── EngineError (RuntimeError)         an engine's result is unusable (golden gate failed)
    ├── OutOfDeviceMemory (MemoryError) the GPU has too little free memory
    └── DeviceLost                     the GPU stopped responding; this process cannot use it any more
Interrupted (KeyboardInterrupt)        stopped by a signal; finished work is on disk; not an Exception

Each is also a subclass of the builtin exception that a Python programmer would catch. The message says what happened,
where, and what to do next, in one line for users, without a traceback. `code` and `values` are for programs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, TypedDict

from rtface.redaction import redacted, redacted_values

log = logging.getLogger("rtface")


class OptionFlag(str):
    """The name of an option in a message, such as "--max-faces".

    A template writes it as ``{--max-faces}``, or ``{--max-faces:2}`` with a value; a switch is written as
    ``{--overwrite=True}``.
    """

    def __format__(self, value: str) -> str:
        flag = self.removesuffix("=True")
        return f"{flag} {value}" if value else flag


class _Placeholders(dict[str, object]):
    """Supplies the values and option flags of a template."""

    def __missing__(self, name: str) -> OptionFlag:
        if not name.startswith("--"):
            raise KeyError(name)
        return OptionFlag(name)


class MessageTable(TypedDict):
    """Holds a `Message` as a JSON object."""

    code: str
    values: dict[str, Any]
    message: str


class Message(str):
    """A line for the user, with a code for programs. Secrets of URLs are removed from the line and its values.

    Args:
        template: the line, with a {placeholder} for each value and each option (`OptionFlag`); without a code and
            values it is used verbatim. If it is a `Message`, its code and values are preserved.
        code: code that no other template has; "" for none.
        values: values of placeholders, and additional values for programs. Numbers stay numbers (None if not finite),
            an error or a message with a code becomes the table of its `to_dict`, and everything else becomes text.
    """

    code: str
    values: dict[str, Any]

    def __new__(cls, template: str = "", /, *, code: str = "", **values: object) -> Message:
        is_template = values or (code and not isinstance(template, Message))
        line = super().__new__(cls, redacted(template.format_map(_Placeholders(values)) if is_template else template))
        line.code = code or getattr(template, "code", "")
        line.values = getattr(template, "values", {}) | {name: _json_value(value) for name, value in values.items()}
        return line

    def __add__(self, more: str) -> Message:
        """Appends text. Code and values are preserved, and the text is added to the list `values["more"]`."""
        appended = {"more": [*self.values.get("more", ()), _json_value(more)]} if more else {}
        return Message.of({"code": self.code, "values": self.values | appended, "message": f"{self}{more}"})

    def one_line(self) -> Message:
        """Joins the message into one line. File names and other programs may have added line breaks."""
        return Message.of(self.to_dict() | {"message": " ".join(self.split())})

    def to_dict(self) -> MessageTable:
        """Returns the line as a table; `of` is the inverse."""
        return {"code": self.code, "values": self.values, "message": str(self)}

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Message:
        """Makes a message from a table of `to_dict`."""
        line = cls(table.get("message", ""))
        line.code, line.values = table.get("code", ""), table.get("values", {})
        return line


def reason(error: BaseException) -> str:
    """Returns type and message of any error, even without a readable message."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a plugin's error may raise anything
        text = "(it has no readable message)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _json_value(value: object) -> Any:
    """Converts a value to JSON."""
    message = getattr(value, "message", None)  # rtface's errors have a message, and other objects may
    value = message if isinstance(message, Message) else value
    if isinstance(value, Message) and value.code:
        return value.to_dict()
    # A dictionary is a message that was converted already.
    return redacted_values(value if isinstance(value, int | float | dict) else str(value))


class _EndsRun(BaseException):
    """Base of everything that ends a run. For arguments see `Message`.

    Attributes:
        message: what happened, where, and what to do next. Callers may append to it.
        partial: path of the finished and playable part of the output, or None.
        resume_at: seconds into the input from which to continue (``--start``), or None if nothing was done.
        hint: next step for users of the command line, shown after the message.
    """

    partial: str | None = None
    resume_at: float | None = None
    hint: str = ""

    def __init__(self, message: str = "", /, *, code: str = "", **values: object) -> None:
        self.message = Message(message, code=code, **values)
        super().__init__(self.message)

    def __str__(self) -> str:  # OSError's own __str__ would drop a single-argument message on some versions
        return f"{self.message}{self.hint}"

    @property
    def code(self) -> str:
        """The message's code; the class name if there is none."""
        return self.message.code or type(self).__name__

    @property
    def values(self) -> dict[str, Any]:
        """The message's values, by name."""
        return self.message.values


def message_of(error: BaseException) -> Message:
    """Returns the message of any error in one line. Errors of rtface have a code."""
    if isinstance(error, _EndsRun):
        return Message(error.message + error.hint, code=error.code).one_line()
    if isinstance(error, OSError) and error.filename is not None:
        return Message("{path}: {why}", code="os", path=error.filename, why=error.strerror).one_line()
    return Message(str(error)).one_line()


class RtfaceError(_EndsRun, Exception):
    """Base of every error that rtface raises on purpose, except `Interrupted`."""


class UsageError(RtfaceError, ValueError):
    """An option, argument or configuration value that cannot be used."""


class RestartNeeded(UsageError):
    """A change that a live run can only make after a restart."""


class Closed(RtfaceError, ValueError):
    """Use of an object after it was closed."""


class InputError(RtfaceError, ValueError):
    """The input is empty, damaged beyond use, or contains no video."""


class InputMissing(InputError, FileNotFoundError):
    """The input does not exist or may not be read."""

    def __new__(cls, message: str = "", /, *, code: str = "", **values: object) -> InputMissing:
        return FileNotFoundError.__new__(cls, message)  # InputError's `__new__` rejects subclasses of OSError


class OutputError(RtfaceError, OSError):
    """The output cannot be opened, written or finished."""


class DownloadError(RtfaceError, OSError):
    """A file cannot be fetched, or differs from the published one."""


class MissingComponent(RtfaceError, ImportError):
    """A package, model file or device that this job needs is missing."""


class EngineError(RtfaceError, RuntimeError):
    """An engine's result is unusable: its golden gate failed, or its shape is wrong."""


class OutOfDeviceMemory(EngineError, MemoryError):
    """The GPU has too little free memory; a smaller batch may fit."""


class DeviceLost(EngineError):
    """The GPU stopped responding (reset, unplugged, failed kernel) and is unusable."""


class Interrupted(_EndsRun, KeyboardInterrupt):
    """Stopped by a signal. This is not an `Exception`, because a program must not continue after it.

    The message says which part was finished and how to continue.

    Attributes:
        signum: the signal's number (2 SIGINT, 15 SIGTERM); the exit code is ``128 + signum``.
    """

    def __init__(
        self,
        message: str = Message("interrupted", code="interrupted"),
        /,
        *,
        signum: int = 2,
        code: str = "",
        **values: object,
    ) -> None:
        super().__init__(message, code=code, **values)
        self.signum = signum
