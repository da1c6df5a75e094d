"""Runs commands of rtface in separate processes: what is slow or may crash never stops the server."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from rtface.errors import RtfaceError

T = TypeVar("T")
_LAST = 3
"""Lines of a command's messages that its error holds."""


class Shared(Generic[T]):
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


async def run_command(*words: str, said: Callable[[str], None] = lambda line: None, accept: tuple[int, ...] = (0,)
                      ) -> str:
    """What ``rtface WORDS`` writes to its output. The process ends with the task that waits for it.

    Args:
        words: the command and its options.
        said: gets each line that the command says while it runs, on another thread.
        accept: exit codes that are no failure.

    Raises:
        RtfaceError: another exit code; with the command's last message.
    """
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen([sys.executable, "-P", "-m", "rtface", *words], stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=subprocess.PIPE)
        try:
            lines = await asyncio.to_thread(_follow, process, said)
        finally:
            process.kill()  # the thread ends with it
        if process.returncode not in accept:
            raise RtfaceError(" ".join(lines[-_LAST:]) or
                              f"rtface {words[0]} ended with code {process.returncode}; try it in a terminal")
        out.seek(0)
        return out.read().decode("utf-8", "replace")


def _follow(process: subprocess.Popen[bytes], said: Callable[[str], None]) -> list[str]:
    """The lines of a process's messages, once it has ended."""
    lines = list[str]()
    assert process.stderr is not None
    with process.stderr as messages:
        for raw in messages:
            if line := raw.decode("utf-8", "replace").strip().removeprefix("rtface: ").removeprefix("error: "):
                lines.append(line)
                said(line)
    process.wait()
    return lines


async def json_of(*words: str, accept: tuple[int, ...] = (0,), said: Callable[[str], None] = lambda line: None) -> Any:
    """The JSON that ``rtface WORDS --json`` prints; arguments and errors as of `run_command`."""
    end = words.index("--") if "--" in words else len(words)
    text = await run_command(*words[:end], "--json", *words[end:], accept=accept, said=said)
    try:
        return json.loads(text)
    except ValueError:
        raise RtfaceError(f"rtface {words[0]} --json printed no JSON; try it in a terminal") from None
