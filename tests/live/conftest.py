"""Fixtures that fast and whole live tests share."""

from __future__ import annotations

import os
import sys

import pytest

from rtface.errors import MissingComponent
from rtface.live.sources import srt


@pytest.fixture
def video(tmp_path, monkeypatch):
    from tests.live.devices.fake_video import FakeVideo

    made = FakeVideo(tmp_path, monkeypatch)
    made.module()
    return made


@pytest.fixture
def opened():
    from tests.live.sinks.camera_rig import camera, form

    made = []

    def build(name="", like=None):
        sink = camera(name)
        made.append(sink)
        sink.open(like or form(), sound=None)
        return sink

    yield build
    for sink in made:
        sink.close()


@pytest.fixture
def elsewhere(monkeypatch):
    from tests.live.sinks.camera_rig import StandIn

    def build(system, complaint=""):
        monkeypatch.setattr("rtface.live.sinks.virtual_camera.platform.system", lambda: system)
        module = StandIn(complaint)
        monkeypatch.setitem(sys.modules, "pyvirtualcam", module)
        return module

    return build


@pytest.fixture
def terminal():
    """A pseudo terminal: our end, and a stream on the other."""
    import pty

    ours, theirs = pty.openpty()
    with open(theirs, closefd=False) as stream:
        yield ours, stream
    os.close(ours)
    os.close(theirs)


@pytest.fixture(scope="session")
def srt_library() -> None:
    """The system's libsrt is there; else the test is skipped."""
    try:
        srt.library()
    except MissingComponent as missing:
        pytest.skip(str(missing))
