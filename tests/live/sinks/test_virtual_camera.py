"""The virtual camera without one: devices of a kernel, and pyvirtualcam, are stood in for."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np
import pytest

from rtface.errors import MissingComponent, OutputError, RtfaceError, UsageError
from rtface.live.devices import v4l2

if sys.platform != "linux":
    pytest.skip("V4L2 is Linux's", allow_module_level=True)

from tests.live.sinks.camera_rig import camera, descriptor, form, frame
from tests.live.sinks.test_camera_buffer import samples


def test_the_device_gets_black_and_then_every_sample(video, opened):
    path = video.add(10, "rtface")
    sink = opened(like=form(rate=25))
    sink.write(frame())
    black, first = np.split(np.frombuffer(path.read_bytes(), np.uint8), 2)
    assert set(black[: 64 * 48]) == {16} and set(black[64 * 48 :]) == {128}
    assert np.array_equal(first, samples(frame().image))
    assert sink.described == f"virtual camera rtface ({path}), 64×48"
    assert (sink.health.state, sink.health.frames, sink.health.dropped) == ("live", 1, 0)
    assert video.devices[str(path)].rate == (1, 25)  # seconds a frame, as a fraction
    assert sink.notes == []


def test_a_device_labelled_rtface_is_first_a_busy_one_skipped(video, opened):
    video.add(3, "Other")
    mine, second = video.add(10, "rtface"), video.add(11, "rtface-2")
    assert str(mine) in opened().described
    assert str(second) in opened().described  # the first holds its lock
    assert "video3" in opened().described
    assert f"rtface ({mine}) is in use by another writer" in str(refusal())


@pytest.mark.parametrize("name", ["RTFACE", "10", "{dev}/video10"])
def test_a_device_is_named_by_label_number_or_path(video, opened, name):
    video.add(3, "Other")
    video.add(10, "rtface")
    assert "video10" in opened(name.format(dev=v4l2.DEVICES)).described


def refusal(name="", like=None):
    with pytest.raises(RtfaceError) as caught:
        camera(name).open(like or form(), sound=None)
    assert "\n" not in str(caught.value)
    return caught.value


def test_what_is_wrong_comes_with_what_to_do(video):
    error = refusal()
    assert isinstance(error, MissingComponent)
    assert "sudo modprobe v4l2loopback devices=1 video_nr=10 exclusive_caps=1 card_label=rtface" in str(error)
    video.add(0, "Integrated", driver="uvcvideo", captures=True, outputs=False)
    stuck = video.add(9, "stuck", outputs=False, stubborn=True)
    assert "is stuck (a known fault" in str(refusal("stuck")) and "modprobe -r" in str(refusal("stuck"))
    assert not video.devices[str(stuck)].outputs
    for name in ("nobody", "0"):
        error = refusal(name)
        assert isinstance(error, UsageError) and f"no virtual camera {name}, only vcam:stuck ({stuck})" in str(error)
    held = video.add(10, "held", held=(64, 48, b"YUYV"))
    video.process(321, "zoom", held)
    assert "fixed to the format YUYV by a program that reads it, open in zoom (pid 321)" in str(refusal("held"))


def test_a_device_that_may_not_be_opened_names_the_group(video, monkeypatch):
    video.add(10, "rtface")

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("rtface.live.sinks.v4l2_loopback.os.open", refuse)
    assert "/dev/video10): sudo usermod -aG video $USER, then log in again" in str(refusal())


@pytest.mark.parametrize(
    "what",
    [
        {"captures": True, "outputs": False},  # exclusive_caps=1: a writer is there
        {"streams": True},  # 0.14: the driver refuses
    ],
)
def test_a_foreign_writer_is_named(video, what):
    path = video.add(10, "rtface", **what)
    video.process(4711, "obs", path)
    assert f"rtface ({path}) is in use by another writer, open in obs (pid 4711); close that" in str(refusal())


def test_a_stuck_device_is_repaired(video, opened):
    path = video.add(10, "rtface", outputs=False)  # as 0.12 forgets it
    assert opened().health.state == "live"
    assert video.devices[str(path)].outputs


def test_a_second_writer_could_mix_in_and_that_is_said(video, opened):
    video.module(exclusive="N")
    path = video.add(10, "rtface", captures=True)
    video.process(5, "obs", path)
    (note,) = opened().notes
    assert "exclusive_caps=0" in note and "modprobe -r" in note


def test_what_a_reader_holds_stays_and_frames_are_fitted_in(video, opened):
    path = video.add(10, "rtface", captures=True, held=(32, 64, b"YU12"))
    video.process(5, "zoom", path)
    sink = opened()
    assert "32×64" in sink.described
    assert (
        "fixed to 32×64 by a program that reads it, open in zoom (pid 5): frames of 64×48 are scaled to fit"
        in sink.notes[0]
    )
    sink.write(frame())
    assert sink.health.dropped == 0
    written = np.frombuffer(path.read_bytes(), np.uint8)[-32 * 96 :]
    luma = written[: 32 * 64].reshape(64, 32)
    assert (luma[:20] == 16).all() and (luma[-20:] == 16).all() and luma[20:-20].std() > 10


def test_odd_and_anamorphic_frames_are_fitted(video, opened):
    video.add(10, "rtface")
    assert "64×48" in opened(like=form(63, 47)).described
    video.add(11, "rtface")
    assert "64×48" in opened(like=form(48, 48, aspect="4/3")).described


def test_it_ends_at_once_though_the_device_is_away(video, opened):
    path = video.add(10, "rtface")
    sink = opened()
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, descriptor(path))
    os.close(full)
    sink.write(frame())
    sink.close()
    sink.close()
    assert "rtface-vcam" not in [thread.name for thread in threading.enumerate()]
    assert sink.health.state == "closed"
    sink.write(frame())  # after the end it is only given up
    assert sink.health.dropped == 2


def test_a_name_is_a_backend_or_a_camera(elsewhere, opened):
    module = elsewhere("Windows")
    for name, device, backend in (
        ("", None, None),
        ("Unity Capture", None, "unitycapture"),
        ("Unity Video Capture #2", "Unity Video Capture #2", None),
    ):
        opened(name)
        assert module.made[-1].asked[4:] == (device, backend)


@pytest.mark.parametrize(("system", "said"), [("Windows", "install OBS Studio"), ("Darwin", "allow it in System")])
def test_a_complaint_elsewhere_comes_with_what_to_do(elsewhere, system, said):
    elsewhere(system, "'obs' backend: no device\n'unitycapture' backend: none")
    error = refusal()
    assert isinstance(error, OutputError)
    assert "('obs' backend: no device; 'unitycapture' backend: none)" in str(error)
    assert said in str(error) and "click 'Stop Virtual Camera' in OBS" in str(error)


def test_a_system_without_virtual_cameras_and_a_missing_package(elsewhere, monkeypatch):
    elsewhere("FreeBSD")
    assert "no virtual cameras for FreeBSD" in str(refusal())
    elsewhere("Windows")
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    assert "python -m pip install pyvirtualcam" in str(refusal())
