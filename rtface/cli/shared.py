"""Common parts of all commands: flags, options, and the message and exit code of each error."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from rtface.cli.console import Console, discard_output, log_to
from rtface.cli.option_sources import LoadedOptions, load
from rtface.cli.signals import INTERRUPTED, StopRequest
from rtface.errors import Interrupted, RtfaceError, UsageError

FAILED, USAGE = 1, 2


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


def explain(error: BaseException, console: Console, *, signum: int | None = None) -> int:
    """Writes one line about an error, for a fault of rtface itself and ``-v`` also a traceback; gives the exit code."""
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
    """Turns every exception of a command into one line on stderr and an exit code."""
    with log_to(console):
        try:
            yield
        except typer.Exit:
            raise
        except BrokenPipeError:
            discard_output(sys.stdout)
            raise typer.Exit(FAILED) from None
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one place that writes errors
            raise typer.Exit(explain(error, console, signum=stop.signum if stop else None)) from None
        finally:
            console.clear()
