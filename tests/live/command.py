"""`rtface run` as a process of its own, as its user has it, and what can be seen of it from outside."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]


class Command:
    """``rtface run ARGUMENTS…``; killed with all its children when the block ends.

    Args:
        folder: for its output, cache and working files.
        arguments: of ``run``.
        environ: more variables.
        tty: it stands on a terminal (`type` presses its keys).
        patience: seconds to wait for what is expected of it, where nothing else is said.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: object,
        environ: dict[str, str] | None = None,
        tty: bool = False,
        patience: float = 40,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.scratch = folder / "scratch"
        self.scratch.mkdir(exist_ok=True)
        self._out, self._err = folder / "out.txt", folder / "err.txt"
        self._command = [sys.executable, "-m", "rtface", "run", *map(str, arguments)]
        own = {k: v for k, v in os.environ.items() if not k.startswith("RTFACE_")}
        cache = os.environ.get("RTFACE_CACHE", str(folder / "cache"))
        self._environ = own | {
            "RTFACE_CONFIG_DIR": os.devnull,
            "RTFACE_CACHE": cache,
            "TMPDIR": str(self.scratch),
            "COLUMNS": "200",
            **(environ or {}),
        }
        self._tty, self._patience = tty, patience
        self._terminal = -1
        self._typed = b""

    def __enter__(self) -> Command:
        out = self._out.open("wb")
        if self._tty:
            self._terminal, side = pty.openpty()
            os.set_blocking(self._terminal, False)
            ends = {"stdin": side, "stderr": side}
        else:
            ends = {"stdin": subprocess.DEVNULL, "stderr": self._err.open("wb")}
        self.process = subprocess.Popen(
            self._command, stdout=out, cwd=_ROOT, env=self._environ, start_new_session=True, **ends
        )
        if self._tty:
            os.close(side)
        return self

    def __exit__(self, *_: object) -> None:
        for pid in [self.process.pid, *self.children()]:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        if self._terminal >= 0:
            os.close(self._terminal)

    @property
    def said(self) -> str:
        """What stands on stderr so far."""
        if not self._tty:
            return self._err.read_text(errors="replace")
        while True:
            try:
                self._typed += os.read(self._terminal, 65536)
            except OSError:  # nothing more for now
                return self._typed.decode(errors="replace")

    @property
    def printed(self) -> str:
        """What stands on stdout so far."""
        return self._out.read_text(errors="replace")

    @property
    def json(self) -> dict[str, Any]:
        """What ``--json`` printed."""
        return json.loads(self.printed.splitlines()[-1])

    def until(self, condition: Callable[[], Any], seconds: float | None = None) -> Any:
        """Waits for something true, gives it; fails after the time, or when the process ended before. Without a time of
        its own the patience counts, and what its processes wait for the processor comes on top."""
        end, kept = time.monotonic() + (seconds or self._patience), 0.0 if seconds else self._kept_waiting()
        while not (found := condition()):
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.said}{self.printed}"
            if time.monotonic() > end:
                more = 0.0 if seconds else self._kept_waiting() - kept
                assert time.monotonic() < end + more, f"not within {seconds or self._patience} s: {self.said}"
            time.sleep(0.05)
        return found

    def _kept_waiting(self) -> float:
        """Seconds that its processes were ready and others had the processor: on a busy machine, most of the time."""
        waited = 0
        for pid in [self.process.pid, *self.children()]:
            with suppress(OSError, IndexError):
                waited += int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])
        return waited / 1e9

    def says(self, text: str, seconds: float | None = None) -> re.Match[str]:
        """Waits until stderr has a place that matches."""
        return self.until(lambda: re.search(text, self.said), seconds)

    @property
    def control(self) -> str:
        """Address of the control endpoint."""
        return self.says(r"control: (http://[\d.:]+)")[1]

    def status(self) -> dict[str, Any]:
        """GET /status; needs ``--control``."""
        return json.loads(get(f"{self.control}/status"))

    def post(self, path: str) -> dict[str, Any]:
        """POST to the control endpoint."""
        return json.loads(get(f"{self.control}{path}", b""))

    def until_status(self, condition: Callable[[dict[str, Any]], Any], seconds: float | None = None) -> dict[str, Any]:
        """Waits until the status is like that, and gives it; before that, until the run has begun, which takes a busy
        machine long."""
        _ = self.control
        return self.until(lambda: status if condition(status := self.status()) else None, seconds)

    def gives(self, frames: int) -> None:
        """Waits until the first sink has taken so many more frames."""
        taken = self.status()["sinks"][0]["frames"] + frames
        self.until_status(lambda s: s["sinks"][0]["frames"] >= taken)

    def runs(self, frames: int = 5, seconds: float | None = None) -> None:
        """Waits until so many frames went out, and the first sink has taken some."""
        self.until_status(lambda s: s["frames_out"] >= frames and s["sinks"][0]["frames"], seconds)

    def type(self, keys: str) -> None:
        """Presses keys."""
        os.write(self._terminal, keys.encode())

    def children(self) -> list[int]:
        """All processes below it."""
        parents: dict[int, list[int]] = {}
        for process in Path("/proc").glob("[0-9]*"):  # "[0-9]*/stat" raises where one ends meanwhile
            try:
                fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(process.name))
        found, todo = [], [self.process.pid]
        while todo:
            below = parents.get(todo.pop(), [])
            found += below
            todo += below
        return found

    def end(self, number: int = signal.SIGTERM) -> float:
        """Sends a signal; seconds until the process was gone."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(20)
        return time.monotonic() - began


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be fetched does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def command_line(pid: int) -> str:
    """As others see it in the process list."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def get(url: str, body: bytes | None = None) -> bytes:
    """What an HTTP server of this machine answers; a body makes it a POST."""
    with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=10) as answer:
        return answer.read()
