"""Runs child processes, reads their output, and kills them on interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a child process ended. `code` is its exit code, or minus the signal; `errors` is the end of stderr."""

    code: int
    errors: list[str]

    @property
    def why(self) -> str:
        """Short reason for the failure, for a message."""
        if self.code in (-9, 137):
            return "it was killed, most likely because memory ran out"
        if self.code < 0:
            return f"it was stopped by {signal.Signals(-self.code).name}"
        return self.errors[-1] if self.errors else f"exit code {self.code}"


def run(
    command: Sequence[str | Path],
    receive: Callable[[str], None],
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> ExitStatus:
    """Runs a command and calls `receive` with each line of its output.

    An interruption kills the command and all its children. Raises OSError if it cannot be started.
    """
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(
            [str(part) for part in command],
            # If this variable is set, the command exits when we close the pipe. Otherwise, its input is empty.
            stdin=subprocess.PIPE if "RTFACE_STUDIO_PARENT" in (environment or ()) else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=None if environment is None else dict(environment),
            cwd=cwd,
            start_new_session=True,
        ) as child:
            assert child.stdout is not None
            try:
                for line in child.stdout:
                    receive(line.rstrip("\n"))
                code = child.wait()
            except BaseException:
                _kill(child)
                raise
        errors.seek(0)
        text = errors.read()[-8000:].decode(errors="replace")
    return ExitStatus(code, [line.strip() for line in text.splitlines() if line.strip()][-20:])


def _kill(child: subprocess.Popen[str]) -> None:
    if sys.platform == "win32":
        child.kill()
        return
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
