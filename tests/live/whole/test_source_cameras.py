"""Real V4L2 cameras, in a machine that has one (vivid)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.live.servers import program

CASES = Path(__file__).with_name("camera_cases.py")


def results(*cases: str) -> dict[str, dict[str, Any]]:
    """What the cases found. Emulated, such a machine is slow: a reading process needs ten seconds to start there."""
    done = subprocess.run(
        [program("VM_RUN"), "--timeout", "580", "--", sys.executable, str(CASES), *cases],
        capture_output=True,
        text=True,
        check=False,
    )
    found = dict(json.loads(line) for line in done.stdout.splitlines())
    assert set(found) == set(cases), done.stderr
    return found


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_what_is_asked_of_a_camera_and_what_is_got():
    found = results("plain", "number", "name", "slow", "odd")
    for case, form, rate in (
        ("plain", [640, 360, "nv12", 30.0], None),
        ("number", [640, 360, "nv12", 30.0], None),
        ("name", [320, 180, "nv12", 15.0], 15),
        ("slow", [1280, 720, "nv12", 12.5], 12.5),
        ("odd", [640, 360, "nv12", 10.0], 10),
    ):
        got = found[case]
        assert got["form"] == form, got
        assert got["late"] < 1
        assert got["pts"] < 1e-5  # the driver's own time
        assert got["spread"] > 20  # a frame, not a grey field
        if rate is not None:
            assert got["rate"] < rate * 1.1  # how much less depends on what emulates it
    assert found["plain"]["notes"] == found["number"]["notes"] == found["name"]["notes"] == []
    assert found["slow"]["notes"] == ["/dev/video20: the camera delivers 1280×720 at 12.5 fps; 30 fps was requested"]
    assert found["odd"]["notes"] == ["/dev/video20: the camera delivers 640×360 at 10 fps; 641×359 was requested"]
    assert found["name"]["described"] == "camera vivid (vivid-000-vid-cap), 320×180 nv12, 15 fps"


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_camera_that_cannot_be_read_is_explained():
    found = results("missing", "no such name", "nobody writes", "nobody writes to the open one", "in use", "forbidden")
    for case, kind, words in (
        ("missing", "InputMissing", "there is no camera 99; 'rtface devices' lists the available ones"),
        ("no such name", "InputMissing", "there is no camera nobody; 'rtface devices' lists the available ones"),
        ("nobody writes", "InputError", "if it is a virtual camera, start the program that writes to it"),
        (
            "nobody writes to the open one",
            "InputError",
            "if it is a virtual camera, start the program that writes to it",
        ),
        ("in use", "InputError", "/dev/video20: is in use by python"),
        ("forbidden", "InputMissing", "sudo usermod -aG video $USER, then log in again"),
    ):
        assert found[case].get("kind") == kind, found[case]
        assert words in found[case]["error"]


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_camera_that_is_pulled_out_and_put_back():
    found = results("unplugged", "bad cable")
    assert found["unplugged"]["noticed"] < 10
    assert "No such device" in found["unplugged"]["detail"]
    assert found["unplugged"]["reopened"] == 1
    assert found["bad cable"]["reopened"] == 0
