"""Runs commands of rtface in separate processes: what is slow or may crash never stops the server."""

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
    """Runs a coroutine once for all who ask while it runs.

    Args:
        work: makes the coroutine.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._work = work
        self._task: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        """The result of the run that is under way, or of a new one."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        return await asyncio.shield(self._task)


async def run_command(
    *words: str,
    receive: Callable[[Event], object] = lambda _: None,
    accept: tuple[int, ...] = (0,),
    tidy: bool = False,
) -> str:
    """What ``rtface WORDS`` writes to its output. The process ends with the task that waits for it.

    Args:
        words: the command and its options.
        receive: gets each event of the command while it runs, on another thread.
        accept: exit codes that are no failure.
        tidy: the process is asked to end, so that it removes what it must not leave; without, it is killed.

    Raises:
        RtfaceError: another exit code; with the command's error.
    """
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "rtface", *_with(TO_STDERR, words)],
            stdin=subprocess.PIPE,  # closed when the studio dies, however it dies; the command ends then
            stdout=out,
            stderr=subprocess.PIPE,
            env={**os.environ, "RTFACE_STUDIO_PARENT": "stdin"},
        )
        try:
            error = await asyncio.to_thread(_follow, process, receive)
        finally:
            (process.terminate if tidy else process.kill)()  # the thread ends with it
        if process.returncode not in accept:
            raise RtfaceError(error or f"rtface {words[0]} ended with code {process.returncode}; try it in a terminal")
        out.seek(0)
        return out.read().decode("utf-8", "replace")


def _follow(process: subprocess.Popen[bytes], receive: Callable[[Event], object]) -> Message:
    """Result as of `read_events`, once the process has ended."""
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
    """The JSON that ``rtface WORDS --json`` prints; arguments and errors as of `run_command`."""
    text = await run_command(*_with("--json", words), receive=receive, accept=accept, tidy=tidy)
    try:
        return json.loads(text)
    except ValueError:
        raise RtfaceError(
            "rtface {command} --json printed no JSON; try it in a terminal", code="no_json", command=words[0]
        ) from None


def _with(option: str, words: tuple[str, ...]) -> list[str]:
    """The words of a command with one more option, before ``--``."""
    end = words.index("--") if "--" in words else len(words)
    return [*words[:end], option, *words[end:]]
