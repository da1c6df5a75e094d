"""The camera that has a live run only while a program reads it; the runs are stood in for."""

import threading

import pytest

from rtface.errors import OutputError, UsageError
from rtface_studio.tray.camera_run import CameraRun

POLL_S = 0.001


class Clock:
    """Ten seconds later at each look."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 10.0
        return self.now


class FakeRun:
    """A live run as `LiveRun` shows it."""

    def __init__(self):
        self.watched, self.enabled, self.ended = True, True, None
        self.locked = self.stopped = False
        self.looks = 0

    def state(self):
        self.looks += 1
        if self.ended is not None:
            return {"state": "failed", "status": None, "error": self.ended}
        if self.looks == 1:
            return {"state": "starting", "status": None, "error": None}
        return {
            "state": "running",
            "error": None,
            "status": {"enabled": self.enabled, "watched": self.watched, "sinks": [{"size": [1280, 720]}]},
        }

    def set(self, name, value):
        if self.locked:
            raise UsageError("a policy locks it")
        assert name == "enabled"
        self.enabled = value

    def stop(self):
        self.stopped = True


class Stage:
    """A `CameraRun`, its runs, and the readers of its camera."""

    def __init__(self, *, refuse=None):
        self.runs, self.waits, self.refuse = [], [], refuse
        self.changed, self.reader = threading.Condition(), threading.Event()
        self.camera = CameraRun(self.start, self.wait, poll=POLL_S, retry=(POLL_S,), clock=Clock())
        self.camera.changed = self.notify

    def start(self):
        if self.refuse is not None:
            raise self.refuse
        self.runs.append(FakeRun())
        return self.runs[-1]

    def wait(self, width, height, stop):
        self.waits.append((width, height))
        while not self.reader.wait(POLL_S) and not stop.is_set():
            pass

    def notify(self):
        with self.changed:
            self.changed.notify_all()

    def until(self, condition):
        with self.changed:
            while not condition():
                assert self.changed.wait(5.0) or condition(), (self.camera.state, self.camera.error)


@pytest.fixture
def stage():
    made = Stage()
    made.camera.begin()
    yield made
    made.camera.close()


def test_the_run_ends_when_nobody_watches_and_comes_back(stage):
    stage.until(lambda: stage.camera.state == "running")
    first = stage.runs[0]
    assert stage.waits == []
    first.watched = False
    stage.until(lambda: stage.camera.state == "asleep")
    stage.until(lambda: stage.waits == [(1280, 720)])
    assert first.stopped and len(stage.runs) == 1
    stage.reader.set()
    stage.until(lambda: stage.camera.state == "running")
    assert len(stage.runs) == 2 and not stage.runs[1].stopped


def test_off_lasts_from_run_to_run(stage):
    stage.until(lambda: stage.camera.state == "running")
    stage.camera.toggle()
    assert not stage.runs[0].enabled
    stage.runs[0].watched = False
    stage.until(lambda: stage.camera.state == "asleep")
    stage.reader.set()
    stage.until(lambda: len(stage.runs) == 2 and stage.camera.state == "running")
    assert not stage.runs[1].enabled and not stage.camera.enabled


def test_a_change_on_the_page_is_followed(stage):
    stage.until(lambda: stage.camera.state == "running")
    stage.runs[0].enabled = False
    stage.until(lambda: not stage.camera.enabled)


def test_a_run_that_refuses_keeps_its_own_value(stage):
    stage.until(lambda: stage.camera.state == "running")
    stage.runs[0].locked = True
    stage.camera.toggle()
    stage.until(lambda: stage.camera.enabled)


def test_a_run_that_dies_is_said_and_started_again(stage):
    errors = []
    stage.until(lambda: stage.camera.state == "running")
    stage.camera.changed = lambda: (errors.append(stage.camera.error), stage.notify())
    stage.runs[0].ended = {"code": "camera_used", "values": {}, "message": "camera:0 is in use by zoom (pid 4711)"}
    stage.reader.set()
    stage.until(lambda: len(stage.runs) > 1 and stage.camera.state == "running")
    assert "camera:0 is in use by zoom (pid 4711)" in errors
    assert stage.runs[0].stopped


def test_a_camera_that_cannot_be_held_is_said():
    stage = Stage(refuse=OutputError("there is no virtual camera"))
    stage.camera.begin()
    stage.until(lambda: (stage.camera.state, stage.camera.error) == ("failed", "there is no virtual camera"))
    stage.camera.close()
    assert stage.runs == []
