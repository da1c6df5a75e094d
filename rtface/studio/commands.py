"""Runs commands of rtface in separate processes: what is slow or may crash never stops the server."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rtface.errors import RtfaceError

_LAST = 3
"""Lines of a command's messages that its error holds."""


async def run_command(*words: str, said: Callable[[str], None] = lambda line: None, accept: tuple[int, ...] = (0,)
                      ) -> str:
    """What ``rtface WORDS`` writes to its output. The process ends with the task that waits for it.

    Args:
        words: the command and its options.
        said: gets each line that the command says while it runs.
        accept: exit codes that are no failure.

    Raises:
        RtfaceError: another exit code; with the command's last message.
    """
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "rtface", *words, stdin=DEVNULL, stdout=PIPE,
                                                   stderr=PIPE, limit=1 << 20)
    lines = list[str]()

    async def listen() -> None:
        assert process.stderr is not None
        while raw := await process.stderr.readline():
            if line := raw.decode("utf-8", "replace").strip().removeprefix("rtface: "):
                lines.append(line)
                said(line)

    try:
        assert process.stdout is not None
        out, _ = await asyncio.gather(process.stdout.read(), listen())
        code = await process.wait()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if code not in accept:
        raise RtfaceError(" ".join(lines[-_LAST:]) or f"rtface {words[0]} ended with code {code}; try it in a terminal")
    return out.decode("utf-8", "replace")


async def json_of(*words: str, accept: tuple[int, ...] = (0,), said: Callable[[str], None] = lambda line: None) -> Any:
    """The JSON that ``rtface WORDS --json`` prints; arguments and errors as of `run_command`."""
    end = words.index("--") if "--" in words else len(words)
    text = await run_command(*words[:end], "--json", *words[end:], accept=accept, said=said)
    try:
        return json.loads(text)
    except ValueError:
        raise RtfaceError(f"rtface {words[0]} --json printed no JSON; try it in a terminal") from None
