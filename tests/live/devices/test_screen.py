"""The screen as a source of live runs, on a virtual X server where there is one."""

from __future__ import annotations

import mmap
import os
import re
import struct
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from rtface.config.addresses import LiveAddress
from rtface.errors import InputError, InputMissing, UsageError
from rtface.live.devices import listing, screen
from rtface.live.devices.screen import ScreenPart, parse_part, why_unusable
from rtface.live.messages import SourceRequest
from rtface.live.sources.reconnecting_source import open_live_source
from tests.live.watching import Watched

XVFB = os.environ.get("RTFACE_TEST_XVFB", "")
needs_screen = pytest.mark.skipif(not XVFB, reason="RTFACE_TEST_XVFB does not name Xvfb")
RED, GREEN = (200, 30, 20), (10, 180, 60)


def test_a_part_is_written_as_x11_does() -> None:
    assert parse_part("") is None
    assert parse_part("1280x720+100+50") == ScreenPart(1280, 720, 100, 50)
    for wrong in ("1", "1280x720", "1280x720+100", "-5x720+0+0", "1280x720+100+50 "):
        with pytest.raises(UsageError, match=re.escape("screen:1280x720+100+50")):
            parse_part(wrong)


@pytest.mark.parametrize(
    ("environ", "platform", "says"),
    [
        ({"DISPLAY": ":0"}, "linux", None),
        ({}, "linux", "DISPLAY is not set"),
        ({"DISPLAY": ":0", "WAYLAND_DISPLAY": "wayland-0"}, "linux", "Wayland"),
        ({}, "darwin", None),
        ({}, "win32", None),
    ],
)
def test_whether_a_session_shows_its_screen(environ: dict[str, str], platform: str, says: str | None) -> None:
    found = why_unusable("screen", environ, platform)
    assert found is None if says is None else found and says in found


def test_a_screen_that_is_away_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":9753")
    monkeypatch.setattr(screen.sys, "platform", "linux")
    with pytest.raises(InputMissing, match="screen: cannot be read"):
        screen.open_screen(SourceRequest("screen", ""))


@pytest.fixture
def desktop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """640×360, red, with a green rectangle of 320×180 in its lower right quarter."""
    read, write = os.pipe()
    server = subprocess.Popen(
        [
            XVFB,
            "-displayfd",
            str(write),
            "-screen",
            "0",
            "640x360x24",
            "-fbdir",
            tmp_path,
            "-noreset",
            "-nolisten",
            "tcp",
        ],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        with os.fdopen(read) as told:
            number = told.readline().strip()
        paint(tmp_path / "Xvfb_screen0")
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        monkeypatch.setenv("DISPLAY", f":{number}")
        yield
    finally:
        server.terminate()
        server.wait(10)


def paint(frame_buffer: Path) -> None:
    """Into the X server's memory, which is a file in the format of xwd."""
    with frame_buffer.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        head = struct.unpack(">25I", memory[:100])
        start, width, height, line = head[0] + head[19] * 12, head[4], head[5], head[12]
        rows = np.frombuffer(memory, np.uint8).copy()
        pixels = rows[start : start + line * height].reshape(height, line)[:, : width * 4].reshape(height, width, 4)
        pixels[..., :3] = RED[::-1]
        pixels[180:, 320:, :3] = GREEN[::-1]
        memory[:] = rows.tobytes()


@needs_screen
def test_the_whole_screen_and_a_part_of_it(desktop: None) -> None:
    for name, size, corner in (("", (640, 360), RED), ("300x160+330+190", (300, 160), GREEN)):
        with Watched(open_live_source(LiveAddress("screen", name), fps=Fraction(20))) as watched:
            watched.more(5, 10)
            image = watched.frames[-1][1].image
            assert (image.width, image.height) == size
            assert tuple(image.to_ndarray(format="rgb24")[5, 5]) == corner
            assert watched.source.video_format.rate == 20
    assert [device.address for device in listing.sources() if device.kind == "screen"] == ["screen:"]


@needs_screen
def test_a_part_outside_the_screen_is_said(desktop: None) -> None:
    with pytest.raises(InputError, match="not within the screen"):
        screen.open_screen(SourceRequest("screen", "640x360+10+0"))
