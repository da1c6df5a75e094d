"""What follows when the queue is empty: a notification on the desktop, and a command of the user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from rtface.errors import log
from rtface.jobs.queue.runner import RunCounts

_NOTIFY_S = 5.0
# AppleScript takes the text as an argument, so that nothing in it is read as a script.
_APPLE_SCRIPT = ("on run argv", 'display notification (item 1 of argv) with title "rtface"', "end run")


def summary(outcome: RunCounts) -> str:
    """One line about what a runner did, and what is left."""
    parts = [f"{outcome.done} done", f"{outcome.failed} failed"]
    parts += [f"{outcome.cancelled} cancelled"] * (outcome.cancelled > 0)
    parts += [f"{outcome.waiting} waiting"] * (outcome.waiting > 0)
    parts += [f"{outcome.paused} paused"] * (outcome.paused > 0)
    return ", ".join(parts)


def notify(text: str) -> None:
    """Shows a notification on the desktop, where there is a program for it: notify-send on Linux, osascript on macOS.
    Without one nothing happens; Windows has none."""
    if sys.platform == "darwin":
        command = ["osascript", *(part for line in _APPLE_SCRIPT for part in ("-e", line)), text]
    else:
        command = ["notify-send", "--app-name=rtface", "rtface", text]
    program = shutil.which(command[0])
    if program is None:
        log.debug("no notification: there is no %s", command[0])
        return
    try:
        subprocess.run(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_NOTIFY_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        log.debug("no notification: %s", error)


def run_command(command: str, outcome: RunCounts) -> int:
    """Runs a command of the user by the system's shell, and gives its exit code. The variables ``RTFACE_QUEUE_DONE``,
    ``RTFACE_QUEUE_FAILED`` and ``RTFACE_QUEUE_CANCELLED`` hold the counts of the run."""
    counts = {"DONE": outcome.done, "FAILED": outcome.failed, "CANCELLED": outcome.cancelled}
    environment = os.environ | {f"RTFACE_QUEUE_{name}": str(count) for name, count in counts.items()}
    return subprocess.run(command, shell=True, env=environment, check=False).returncode
