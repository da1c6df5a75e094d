"""Every error rtface raises on purpose, in one file, and the log for what is no error.

RtfaceError
├── UsageError (ValueError)            an option, argument or configuration value that cannot be used
├── Closed (ValueError)                an object is used after it was closed
├── InputError (ValueError)            the input is empty, damaged beyond use, or holds no video
│   └── InputMissing (FileNotFoundError)
├── OutputError (OSError)              the output cannot be opened, written or finished
├── DownloadError (OSError)            a file cannot be fetched, or what came is not what was published
├── MissingComponent (ImportError)     a package, model file or device that this job needs is not there
└── EngineError (RuntimeError)         an engine gave no usable answer (fails its golden gate)
    ├── OutOfDeviceMemory (MemoryError) the GPU has no room for what was asked
    └── DeviceLost                     the GPU stopped answering; nothing more can be had from it in this process
Interrupted (KeyboardInterrupt)        stopped by a signal; what was done is on disk; not an Exception

Each is also the builtin that a Python programmer would catch. The message says what happened, where, and what
to do next; it is one line, fit to be shown to a user without a traceback. `code` and `values` are for programs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, TypedDict

from rtface.redaction import redacted, redacted_values

log = logging.getLogger("rtface")


class OptionFlag(str):
    """The name of an option, as "--max-faces", in a message.

    A template has it as ``{--max-faces}``, with its value as ``{--max-faces:2}`` and, of one that is on or off, as
    ``{--overwrite=True}``.
    """

    def __format__(self, value: str) -> str:
        flag = self.removesuffix("=True")
        return f"{flag} {value}" if value else flag


class _Placeholders(dict[str, object]):
    """The values of a template, and the flags that stand in it."""

    def __missing__(self, name: str) -> OptionFlag:
        if not name.startswith("--"):
            raise KeyError(name)
        return OptionFlag(name)


class MessageTable(TypedDict):
    """A `Message` as JSON has it."""

    code: str
    values: dict[str, Any]
    message: str


class Message(str):
    """A line for the user, which programs know by its code. Of every URL in it and in its values secrets are removed.

    Args:
        template: the line, with a {placeholder} for each value and each option (`OptionFlag`); without a code and
            values it is the line as it stands. Another `Message` keeps its code and values.
        code: the same for every line of this template, and for no other; "" for none.
        values: those of the placeholders, and what else a program may want to know of it. Numbers stay numbers (None
            where not finite), an error or a message with a code becomes what its `to_dict` gives, and everything else
            text.
    """

    code: str
    values: dict[str, Any]

    def __new__(cls, template: str = "", /, *, code: str = "", **values: object) -> Message:
        filled = values or (code and not isinstance(template, Message))
        line = super().__new__(cls, redacted(template.format_map(_Placeholders(values)) if filled else template))
        line.code = code or getattr(template, "code", "")
        line.values = getattr(template, "values", {}) | {name: _plain(value) for name, value in values.items()}
        return line

    def __add__(self, more: str) -> Message:
        """The line with more behind it; code and values stay, and the list `values["more"]` has what was added."""
        added = {"more": [*self.values.get("more", ()), _plain(more)]} if more else {}
        return Message.of({"code": self.code, "values": self.values | added, "message": f"{self}{more}"})

    def one_line(self) -> Message:
        """Itself without line breaks, which names of files and other programs may bring in."""
        return Message.of(self.to_dict() | {"message": " ".join(self.split())})

    def to_dict(self) -> MessageTable:
        """The line as a table; `of` takes it back."""
        return {"code": self.code, "values": self.values, "message": str(self)}

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Message:
        """What `to_dict` gave."""
        line = cls(table.get("message", ""))
        line.code, line.values = table.get("code", ""), table.get("values", {})
        return line


def reason(error: BaseException) -> str:
    """Type and message of an error of any origin, also of one whose own text cannot be read."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a plugin's error may do anything
        text = "(it has no readable message)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _plain(value: object) -> Any:
    """A value as JSON has it."""
    message = getattr(value, "message", None)  # of an error of ours, and of what else has one
    value = message if isinstance(message, Message) else value
    if isinstance(value, Message) and value.code:
        return value.to_dict()
    # A dictionary is a message that became one before.
    return redacted_values(value if isinstance(value, int | float | dict) else str(value))


class _EndsRun(BaseException):
    """What may end a run; arguments as of `Message`.

    Attributes:
        message: what happened, where, and what to do next. More may be added to it on its way.
        partial: path of the whole, playable part that was left, or None.
        resume_at: seconds into the input from which to go on (``--start``), or None where nothing was done.
        hint: what a command line does next, shown behind the message.
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
        """What programs know the message by; the name of the class where the message has no code."""
        return self.message.code or type(self).__name__

    @property
    def values(self) -> dict[str, Any]:
        """The values in the message, by name."""
        return self.message.values


def message_of(error: BaseException) -> Message:
    """What an error of any origin says, in one line; with a code where it is one of ours."""
    if isinstance(error, _EndsRun):
        return Message(error.message + error.hint, code=error.code).one_line()
    if isinstance(error, OSError) and error.filename is not None:
        return Message("{path}: {why}", code="os", path=error.filename, why=error.strerror).one_line()
    return Message(str(error)).one_line()


class RtfaceError(_EndsRun, Exception):
    """Base of every error that rtface raises on purpose, but for `Interrupted`."""


class UsageError(RtfaceError, ValueError):
    """An option, argument or configuration value that cannot be used."""


class RestartNeeded(UsageError):
    """A live run cannot do it while it runs; started again with the same settings, it can."""


class Closed(RtfaceError, ValueError):
    """An object is used after it was closed."""


class InputError(RtfaceError, ValueError):
    """The input is empty, damaged beyond use, or holds no video."""


class InputMissing(InputError, FileNotFoundError):
    """The input is not there or may not be read."""

    def __new__(cls, message: str = "", /, *, code: str = "", **values: object) -> InputMissing:
        return FileNotFoundError.__new__(cls, message)  # the first base's refuses a class that is an OSError, too


class OutputError(RtfaceError, OSError):
    """The output cannot be opened, written or finished."""


class DownloadError(RtfaceError, OSError):
    """A file cannot be fetched, or what came is not what was published."""


class MissingComponent(RtfaceError, ImportError):
    """A package, model file or device that this job needs is not there."""


class EngineError(RtfaceError, RuntimeError):
    """An engine gave no usable answer: golden gate failed, wrong shape."""


class OutOfDeviceMemory(EngineError, MemoryError):
    """The GPU has no room for what was asked; a smaller batch may fit."""


class DeviceLost(EngineError):
    """The GPU stopped answering (reset, unplugged, a kernel that failed): nothing more can be had from it."""


class Interrupted(_EndsRun, KeyboardInterrupt):
    """Stopped by a signal; no `Exception`, as a program must not go on after it.

    Its message says what was left and how to go on.

    Attributes:
        signum: the signal's number (2 SIGINT, 15 SIGTERM); the exit code is ``128 + signum``.
    """

    def __init__(
        self,
        message: str = Message("interrupted", code="interrupted"),
        /,
        *,
        signum: int = 2,
        resume_at: float | None = None,
        partial: str | None = None,
        code: str = "",
        **values: object,
    ) -> None:
        super().__init__(message, code=code, **values)
        self.signum = signum
        self.resume_at = resume_at
        self.partial = partial
