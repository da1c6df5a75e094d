"""Runs rtface commands in separate processes, which cannot block the server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

from rtface.errors import Message, RtfaceError
from rtface.util.events import TO_STDERR, Event, read_events

T = TypeVar("T")
_FOR_FILMS = ("analyze", "try", "run")
_processes: set[subprocess.Popen[bytes]] = set()
"""Running commands of `_FOR_FILMS`."""


def halt_films(halted: bool) -> None:
    """Halts the running commands for films, or lets them continue. On Windows, they always continue."""
    if sys.platform != "win32":
        import signal

        for process in tuple(_processes):
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGSTOP if halted else signal.SIGCONT)


class SharedResult(Generic[T]):
    """Shares one run of a coroutine between all simultaneous callers.

    Args:
        work: function that creates the coroutine.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._work = work
        self._task: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        """Returns the result of the current run. Starts a run if there is none."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        return await asyncio.shield(self._task)


async def run_command(
    *args: str,
    receive: Callable[[Event], object] = lambda _: None,
    accept: tuple[int, ...] = (0,),
    tidy: bool = False,
) -> str:
    """Runs ``rtface ARGUMENTS`` and returns its output. If the calling task is cancelled, the process ends, too.

    Args:
        args: command and its arguments.
        receive: called with each event of the command, on another thread.
        accept: exit codes that do not count as failure.
        tidy: whether a cancelled process is terminated, so that it can clean up, rather than killed.

    Raises:
        RtfaceError: the command failed. The message is the command's error.
    """
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "rtface", *_add_option(TO_STDERR, args)],
            stdin=subprocess.PIPE,  # when the studio ends, the pipe closes, and this ends the command
            stdout=out,
            stderr=subprocess.PIPE,
            env={**os.environ, "RTFACE_STUDIO_PARENT": "stdin"},
        )
        if args[0] in _FOR_FILMS:
            _processes.add(process)
        try:
            error = await asyncio.to_thread(_follow, process, receive)
        finally:
            _processes.discard(process)
            (process.terminate if tidy else process.kill)()  # the thread ends with the process
        if process.returncode not in accept:
            raise RtfaceError(error or f"rtface {args[0]} ended with code {process.returncode}; try it in a terminal")
        out.seek(0)
        return out.read().decode("utf-8", "replace")


def _follow(process: subprocess.Popen[bytes], receive: Callable[[Event], object]) -> Message:
    """Reads events until the process ends. Returns the result of `read_events`."""
    assert process.stdin is not None and process.stderr is not None
    with process.stdin, process.stderr as lines:
        error = read_events(lines, receive)
        process.wait()
    return error


async def json_of(
    *args: str,
    receive: Callable[[Event], object] = lambda _: None,
    accept: tuple[int, ...] = (0,),
    tidy: bool = False,
) -> Any:
    """Returns the JSON of ``rtface ARGUMENTS --json``. Parameters and errors are as in `run_command`."""
    text = await run_command(*_add_option("--json", args), receive=receive, accept=accept, tidy=tidy)
    try:
        return json.loads(text)
    except ValueError:
        raise RtfaceError(
            "rtface {command} --json did not print JSON; try it in a terminal", code="no_json", command=args[0]
        ) from None


def _add_option(option: str, args: tuple[str, ...]) -> list[str]:
    """Inserts an option into the arguments of a command, before ``--``."""
    end = args.index("--") if "--" in args else len(args)
    return [*args[:end], option, *args[end:]]
