"""The virtual camera without one: devices of a kernel, and pyvirtualcam, are stood in for."""

from __future__ import annotations

import os
import select
import sys
import time

import numpy as np
import pytest

if sys.platform != "linux":
    pytest.skip("V4L2 is Linux's", allow_module_level=True)

from tests.live.devices.fake_video import FakeVideo
from tests.live.sinks.camera_rig import descriptor, form, frame
from tests.live.sinks.test_camera_buffer import samples


def until(true, seconds=3.0):
    stop = time.monotonic() + seconds
    while not true() and time.monotonic() < stop:
        time.sleep(0.01)
    return true()


def test_a_device_that_fails_is_away_and_comes_back(video, opened):
    path = video.add(10, "rtface")
    sink = opened()
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, descriptor(path))
    os.close(full)
    device = video.devices[str(path)]
    device.streams = True  # it cannot be had for now
    begin = time.monotonic()
    for _ in range(5):
        sink.write(frame())
    assert time.monotonic() - begin < 0.2
    assert sink.health.state == "away" and "No space left" in sink.health.detail
    assert sink.health.dropped == 5
    assert until(lambda: "in use by another writer" in sink.health.detail)
    device.streams = False
    assert until(lambda: sink.health.state == "live")
    assert sink.health.reopened == 1
    sink.write(frame(seed=9))
    assert np.array_equal(np.frombuffer(path.read_bytes(), np.uint8)[-64 * 72 :], samples(frame(seed=9).image))
    assert (sink.health.frames, sink.health.dropped) == (6, 5)


def test_work_is_wanted_while_somebody_reads(video, opened):
    path, other = video.add(10, "rtface"), video.add(11, "other")
    sink = opened()
    assert until(lambda: not sink.wanted)
    video.process(77, "firefox", other)
    video.module(opens=2)
    time.sleep(0.6)
    assert not sink.wanted  # it is the other that is read
    video.process(78, "zoom", path)
    video.module(opens=3)
    begin = time.monotonic()
    assert until(lambda: sink.wanted)
    assert time.monotonic() - begin < 1
    video.module(opens=1)
    assert until(lambda: not sink.wanted)
    video.module(opens=5)  # more than can be seen: somebody else's
    assert until(lambda: sink.wanted)


def test_a_driver_that_tells_of_readers_is_believed(tmp_path, monkeypatch, opened):
    video = FakeVideo(tmp_path, monkeypatch, new=True)
    video.module(version="0.15.4", opens=1)
    video.add(10, "rtface")
    video.usage = [0]

    class Poll:
        def register(self, fd, events):
            assert events == select.POLLPRI

        def poll(self, milliseconds):
            time.sleep(0.02)
            return [1] if video.usage else []

    monkeypatch.setattr("select.poll", Poll)
    sink = opened()
    assert until(lambda: not sink.wanted)
    video.usage = [0, 1]
    assert until(lambda: sink.wanted)
    video.usage = [0]
    assert until(lambda: not sink.wanted)


def test_elsewhere_frames_go_through_pyvirtualcam_as_they_are(elsewhere, opened):
    module = elsewhere("Windows")
    sink = opened("obs", form())
    sink.write(frame())
    camera = module.made[0]
    assert camera.asked == (64, 48, 30.0, "I420", None, "obs")
    assert camera.sent[-1].dtype == np.uint8
    assert np.array_equal(camera.sent[-1], samples(frame().image))
    assert "only one virtual camera" in sink.notes[0]
    assert sink.wanted is None
    module.fails = True
    sink.write(frame())
    assert sink.health.state == "away" and "the queue is gone" in sink.health.detail
    module.fails = False
    assert until(lambda: sink.health.state == "live")
    assert camera.closed
    sink.close()
    assert all(made.closed for made in module.made)
