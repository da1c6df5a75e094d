"""Every error rtface raises on purpose, in one file.

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
to do next; it is one line, fit to be shown to a user without a traceback.
"""

from __future__ import annotations

from rtface.redaction import redacted


def reason(error: BaseException) -> str:
    """Type and message of an error of any origin, also of one whose own text cannot be read."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a plugin's error may do anything
        text = "(it has no readable message)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _EndsRun(BaseException):
    """What may end a run. Its message shows no secret of a URL.

    Attributes:
        partial: path of the whole, playable part that was left, or None.
        resume_at: seconds into the input from which to go on (``--start``), or None where nothing was done.
    """

    partial: str | None = None
    resume_at: float | None = None

    def __init__(self, *args: object) -> None:
        super().__init__(*(redacted(arg) if isinstance(arg, str) else arg for arg in args))


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

    __new__ = FileNotFoundError.__new__  # the first base's refuses a class that is an OSError, too

    def __str__(self) -> str:  # OSError's own __str__ would drop a single-argument message on some versions
        return str(self.args[0]) if self.args else "input missing"


class OutputError(RtfaceError, OSError):
    """The output cannot be opened, written or finished."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "output failed"


class DownloadError(RtfaceError, OSError):
    """A file cannot be fetched, or what came is not what was published."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "download failed"


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

    def __init__(self, message: str = "interrupted", *, signum: int = 2, resume_at: float | None = None,
                 partial: str | None = None) -> None:
        super().__init__(message)
        self.signum = signum
        self.resume_at = resume_at
        self.partial = partial
