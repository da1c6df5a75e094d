"""Runs rtface commands in separate processes, so that none blocks the server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from rtface.errors import Message, RtfaceError
from rtface.util.events import TO_STDERR, Event, read_events

T = TypeVar("T")


class SharedResult(Generic[T]):
    """Shares one run of a coroutine between all simultaneous callers.

    Args:
        work: function that creates the coroutine.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._work = work
        self._task: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        """Returns the result of the current run, or of a new one."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        return await asyncio.shield(self._task)


async def run_command(
    *words: str,
    receive: Callable[[Event], object] = lambda _: None,
    accept: tuple[int, ...] = (0,),
    tidy: bool = False,
) -> str:
    """Runs ``rtface WORDS`` and returns its output. If the waiting task is cancelled, the process ends.

    Args:
        words: command and its options.
        receive: called with each event of the command, on another thread.
        accept: exit codes that do not count as failure.
        tidy: whether a cancelled process is terminated, so that it can clean up, instead of killed.

    Raises:
        RtfaceError: the command failed; has the command's error.
    """
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "rtface", *_with(TO_STDERR, words)],
            stdin=subprocess.PIPE,  # the studio's end closes the pipe, which ends the command
            stdout=out,
            stderr=subprocess.PIPE,
            env={**os.environ, "RTFACE_STUDIO_PARENT": "stdin"},
        )
        try:
            error = await asyncio.to_thread(_follow, process, receive)
        finally:
            (process.terminate if tidy else process.kill)()  # the thread ends with the process
        if process.returncode not in accept:
            raise RtfaceError(error or f"rtface {words[0]} ended with code {process.returncode}; try it in a terminal")
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
    *words: str,
    receive: Callable[[Event], object] = lambda _: None,
    accept: tuple[int, ...] = (0,),
    tidy: bool = False,
) -> Any:
    """Returns the JSON of ``rtface WORDS --json``. Arguments and errors are as in `run_command`."""
    text = await run_command(*_with("--json", words), receive=receive, accept=accept, tidy=tidy)
    try:
        return json.loads(text)
    except ValueError:
        raise RtfaceError(
            "rtface {command} --json printed no JSON; try it in a terminal", code="no_json", command=words[0]
        ) from None


def _with(option: str, words: tuple[str, ...]) -> list[str]:
    """Adds an option to the words of a command, before ``--``."""
    end = words.index("--") if "--" in words else len(words)
    return [*words[:end], option, *words[end:]]
