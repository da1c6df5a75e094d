"""Child processes whose output is read line by line, and that are killed when this process is interrupted."""

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
    """How a child ended: its exit code (negative: the signal), and the last lines that it wrote to standard error."""

    code: int
    errors: list[str]

    @property
    def why(self) -> str:
        """In a few words, for a message."""
        if self.code in (-9, 137):
            return "it was killed, most likely for want of memory"
        if self.code < 0:
            return f"it was ended by {signal.Signals(-self.code).name}"
        return self.errors[-1] if self.errors else f"exit code {self.code}"


def run(
    command: Sequence[str | Path],
    receive: Callable[[str], None],
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> ExitStatus:
    """Runs a command, with `receive` called for each line of its standard output.

    It is killed, with all that it started, when this is interrupted. Raises OSError when it cannot be started.
    """
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(
            [str(part) for part in command],
            # A command that is told so ends when its parent does; others are to find nothing to read.
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
