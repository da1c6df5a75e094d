"""The line of progress: what it says, and how often."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rtface.cli.app import app
from rtface.cli.command import explain
from rtface.cli.console import Console, log_to
from rtface.errors import InputError, Message, OutputError
from rtface.pipeline.progress import Progress, ProgressLine, SpeedMeter, describe, eta, share
from rtface.util.events import SCHEMA, read_events


class Screen:
    def __init__(self, live):
        self.live, self.lines = live, []

    def status(self, line, **facts):
        self.lines.append(line)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def at(seconds, duration=10.0):
    return Progress(frames=int(25 * seconds), seconds_done=seconds, duration_s=duration, fps=25.0, faces=2)


def test_line_has_share_rate_faces_and_time_left():
    line = describe("a.mp4", at(2.5), 5.0, bar=False)
    assert line == "a.mp4: 25 %, 25.0 fps, 2 faces, 0:00:15 left"
    bar = describe("a.mp4", at(2.5), 5.0, bar=True)
    assert "[#####---------------]" in bar
    assert "0:00:15 left" in bar


def test_unknown_duration_shows_frames_instead():
    assert describe("a", at(2.0, None), 5.0, bar=False) == "a: 50 frames, 25.0 fps, 2 faces"
    assert share(at(2.0, 0.0)) is None
    assert eta(at(0.0), 5.0) is None
    assert eta(at(1.0, 600.0), 5.0) is None  # that was the loading of engines


@pytest.fixture
def now(monkeypatch):
    """The time, in a list."""
    now = [0.0]
    monkeypatch.setattr("rtface.pipeline.progress.monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("live", "step", "least", "most"), [(False, 0.1, 3, 3), (True, 0.01, 17, 19), (True, 9, 350, 350)]
)
def test_lines_come_at_a_pace(now, live, step, least, most):
    screen = Screen(live)
    meter = ProgressLine(screen, "a")
    for number in range(350):
        now[0] = step * number
        meter(at(now[0]))
    assert least <= len(screen.lines) <= most


def test_the_speed_does_not_count_a_halt(now):
    meter = SpeedMeter()
    for _ in range(30):
        now[0] += 0.1
        meter.tick()
    now[0] += 60.0
    meter.leave_out()
    now[0] += 0.1
    assert meter.tick() == pytest.approx(10.0)


def test_terminal_line_is_written_over_and_taken_away():
    stream = Terminal()
    console = Console(stream=stream, environ={})
    console.status("a longer line")
    console.status("short")
    console.log("done")
    text = stream.getvalue()
    assert text.split("\r")[1:3] == ["a longer line", "short        "]
    assert text.endswith("\rrtface: done\n")
    assert text.count("\n") == 1


def test_colour_only_on_a_terminal_without_no_color():
    def written(stream, environ):
        Console(stream=stream, environ=environ).log("careful", "warning")
        return stream.getvalue()

    assert "\x1b[" in written(Terminal(), {"WT_SESSION": "1"})
    assert "\x1b[" not in written(Terminal(), {"NO_COLOR": "1", "WT_SESSION": "1"})
    assert "\x1b[" not in written(Terminal(), {"TERM": "dumb", "WT_SESSION": "1"})
    assert "\x1b[" not in written(io.StringIO(), {})


def test_events_in_place_of_text():
    stream = io.StringIO()
    console = Console(stream=stream, environ={}, events=True)
    ProgressLine(console, "a.mp4")(at(2.5))
    with log_to(console):
        logging.getLogger("rtface").warning("%s", Message("{name} is large", code="large", name="rtmp://host/app/key"))
    explain(OutputError("{path}: exists", code="there", path="b.mp4"), console)
    explain(InputError("unreadable"), console)
    start, progress, warning, *errors = map(json.loads, stream.getvalue().splitlines())
    assert (start["event"], start["schema"]) == ("start", SCHEMA)
    assert progress["event"] == "progress" and progress["share"] == 0.25 and progress["frames"] == 62
    assert warning == {
        "event": "warning",
        "code": "large",
        "values": {"name": "rtmp://host/app/…"},
        "message": "rtmp://host/app/… is large",
    }
    assert errors == [
        {"event": "error", "code": "there", "values": {"path": "b.mp4"}, "message": "b.mp4: exists"},
        {"event": "error", "code": "InputError", "values": {}, "message": "unreadable"},
    ]
    found = []
    assert read_events(stream.getvalue().encode().splitlines(), found.append).code == "InputError" and len(found) == 5
    assert read_events([b"Segmentation fault\n"]) == "Segmentation fault"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PermissionError(13, "Permission denied", "a.mp4"), "os"),
        (ZeroDivisionError("here"), "fault"),
        (KeyboardInterrupt(), "interrupted"),
        (MemoryError(), "memory"),
    ],
)
def test_what_ends_a_command_has_a_code(error, code):
    stream = io.StringIO()
    explain(error, Console(stream=stream, environ={}, events=True))
    assert read_events(stream.getvalue().encode().splitlines()).code == code


def test_quiet_lets_only_errors_through():
    stream = Terminal()
    console = Console(-1, stream, {})
    console.status("progress")
    console.log("note")
    console.log("careful", "warning")
    assert stream.getvalue() == ""
    console.log("broken", "error")
    assert "broken" in stream.getvalue()


def test_events_need_a_descriptor_for_writing(tmp_path: Path):
    (tmp_path / "file").touch()
    with (tmp_path / "file").open("rb") as reading:
        for number in (-1, 1 << 70, reading.fileno()):
            result = CliRunner().invoke(app, ["plugins", f"--events={number}"])
            assert result.exit_code == 2 and "is not open for writing" in result.output


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe cannot be asked there")
def test_who_reads_no_events_halts_nothing():
    reading, writing = os.pipe()
    console = Console(stream=os.fdopen(writing, "w"), environ={}, events=True)
    showing = threading.Thread(target=lambda: [console.status("x" * 99) for _ in range(2000)], daemon=True)
    showing.start()
    showing.join(10)
    halted = showing.is_alive()
    os.set_blocking(reading, False)
    first, *lines = os.read(reading, 1 << 20).splitlines()
    os.close(reading)
    assert not halted and json.loads(first)["event"] == "start"
    assert {json.loads(line)["message"] for line in lines} == {"x" * 99}
