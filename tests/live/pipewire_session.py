"""A user's session with PipeWire and WirePlumber, and programs that read its cameras."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PIPEWIRE = os.environ.get("RTFACE_TEST_PIPEWIRE", "")
DBUS = os.environ.get("RTFACE_TEST_DBUS", "")
WIDTH, HEIGHT = 320, 240
BITS = 16

_READER = """
import queue
from rtface.live.devices.pipewire import INPUT, PipewireStream
from rtface.live.devices.pipewire_formats import any_format
frames = queue.Queue(8)
form = any_format((320, 240), (30, 1))
stream = PipewireStream(INPUT, {"target.object": "rtface", "media.type": "Video"}, form, received=frames)
while True:
    data, stride = frames.get()[0]
    row = data[8 * stride:]
    print(sum(1 << bit for bit in range(16) if row[bit * 16 + 8] > 128), flush=True)
"""


class Session:
    """The programs of a session; each can be ended and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.programs = folder, dict[str, subprocess.Popen[bytes]]()

    def start(self, *names: str) -> None:
        for name in names:
            command = [DBUS, "--session", f"--address=unix:path={self.folder}/bus", "--nofork"]
            if name != "bus":
                command = [PIPEWIRE if name == "pipewire" else name]
            self.programs[name] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if name == "wireplumber":
                wait_for(lambda: b"WirePlumber" in subprocess.run(["pw-dump"], capture_output=True).stdout)
            else:
                wait_for((self.folder / {"bus": "bus", "pipewire": "pipewire-0"}[name]).is_socket)

    def end(self, *names: str) -> None:
        for name in names:
            self.programs[name].kill()
            self.programs.pop(name).wait()


@contextmanager
def session() -> Iterator[Session]:
    """A session, which this process' environment names."""
    with tempfile.TemporaryDirectory(prefix="pw", dir="/tmp") as name, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", name)
        patch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={name}/bus")
        patch.setenv("XDG_STATE_HOME", name)
        running = Session(Path(name))
        try:
            running.start("bus", "pipewire", "wireplumber")
            yield running
        finally:
            running.end(*list(running.programs))


@contextmanager
def reader() -> Iterator[subprocess.Popen[str]]:
    """A program that prints the number of each frame of the camera *rtface*. It is killed at the end."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", _READER], stdin=pipe, stdout=pipe, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def numbers(process: subprocess.Popen[str], count: int) -> list[int]:
    """The numbers of the next frames that a reader prints."""
    assert process.stdout is not None
    return [int(process.stdout.readline()) for _ in range(count)]


def numbered(number: int) -> np.ndarray:
    """An I420 frame with a number."""
    frame = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    for bit in range(BITS):
        frame[:16, bit * 16 : bit * 16 + 16] = 255 * (number >> bit & 1)
    return frame


def wait_for(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Waits until a condition holds. Fails after some seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)
