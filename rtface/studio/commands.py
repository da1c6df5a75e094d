"""Runs commands of rtface in separate processes: what is slow or may crash never stops the server."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from rtface.errors import RtfaceError

_LAST = 3
"""Lines of a command's messages that its error holds."""


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
        process = subprocess.Popen([sys.executable, "-m", "rtface", *words], stdin=subprocess.DEVNULL, stdout=out,
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
            if line := raw.decode("utf-8", "replace").strip().removeprefix("rtface: "):
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
