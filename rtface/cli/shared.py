"""What every command shares: its common flags, its exit code for each error, and how it stops on a signal."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from rtface.cli.console import Console, discard_output, log_to
from rtface.cli.option_sources import LoadedOptions, load
from rtface.errors import Interrupted, RtfaceError, UsageError

FAILED, USAGE, INTERRUPTED = 1, 2, 128
# timeout(1), and a terminal that closes, signal a process twice: by itself and as one of its group.
_SAME_SIGNAL_S = 0.3


Verbose = Annotated[int, typer.Option(
    "-v", "--verbose", count=True, show_default=False, help="Say what is decided; twice: everything.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Read options from this TOML file.")]


def console_for(verbose: int, quiet: bool) -> Console:
    """The console at the verbosity that ``-v`` and ``-q`` ask for."""
    return Console(-1 if quiet else verbose)


def load_options(flags: Mapping[str, object], config: Path | None, console: Console) -> LoadedOptions:
    """Options from the flags that were given, environment, file and defaults; ``-v`` says where each came from."""
    loaded = load(flags, config=config)
    if console.verbosity > 0:
        for key, source in loaded.sources.items():
            if source != "default":
                console.say(f"{key} = {getattr(loaded.options, key)} ({source})")
    return loaded


class StopRequest:
    """Set by the first signal.

    Attributes:
        event: given to whatever works; it ends cleanly when the event is set.
        signum: the signal that set it, None while there was none.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self.signum: int | None = None


@contextmanager
def stop_on_signals(clock: Callable[[], float] = time.monotonic) -> Generator[StopRequest]:
    """Turns the first SIGINT, SIGTERM or SIGHUP into `StopRequest.event`; a second one ends the process at once.

    A file that is being written stays readable up to there either way. Does nothing outside the main thread. SIGHUP
    stays ignored where it was (nohup).
    """
    stop = StopRequest()
    first = 0.0

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal first
        # os.write, because the signal may have come in the middle of a print.
        if stop.event.is_set():
            if clock() - first < _SAME_SIGNAL_S:
                return
            _write_stderr("\nrtface: stopped at once; the next run to the same output names the part that was "
                          "written\n")
            os._exit(INTERRUPTED + signum)
        stop.signum, first = signum, clock()
        stop.event.set()
        _write_stderr("\nrtface: stopping; once more to stop at once\n")

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if sys.platform == "win32":
        numbers.append(signal.SIGBREAK)
    elif signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write_stderr(text: str) -> None:
    try:
        os.write(2, text.encode())
    except OSError:
        return  # nobody listens any more


def explain(error: BaseException, console: Console, *, signum: int | None = None) -> int:
    """Says in one line what went wrong (and with ``-v`` where, for a fault of rtface itself); gives the exit code."""
    if isinstance(error, Interrupted):
        console.say(_one_line(error), "error")
        return INTERRUPTED + (signum or error.signum)
    if isinstance(error, KeyboardInterrupt):
        console.say("interrupted", "error")
        return INTERRUPTED + (signum or signal.SIGINT)
    if isinstance(error, RtfaceError):
        console.say(_one_line(error), "error")
        return USAGE if isinstance(error, UsageError) else FAILED
    if isinstance(error, OSError) and error.filename is not None:
        console.say(f"{error.filename}: {error.strerror}", "error")
        return FAILED
    if isinstance(error, MemoryError):
        console.say("not enough memory; try fewer --threads, a smaller --max-faces or a smaller input", "error")
        return FAILED
    if console.verbosity > 0:
        console.say("".join(traceback.format_exception(error)), "error")
    console.say(f"this is a fault of rtface ({type(error).__name__}: {_one_line(error)}); please report it with what "
                f"the same command says with -v and with 'rtface doctor --json'", "error")
    return FAILED


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


@contextmanager
def boundary(console: Console, *, stop: StopRequest | None = None) -> Generator[None]:
    """No exception passes: each becomes one line on stderr and the exit code that it means."""
    with log_to(console):
        try:
            yield
        except typer.Exit:
            raise
        except BrokenPipeError:
            discard_output(sys.stdout)
            raise typer.Exit(FAILED) from None
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one place where all errors are said
            raise typer.Exit(explain(error, console, signum=stop.signum if stop else None)) from None
        finally:
            console.clear()
