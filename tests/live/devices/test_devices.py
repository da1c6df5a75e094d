"""``rtface devices`` and what ``rtface doctor`` says of them, with devices and systems stood in for."""

from __future__ import annotations

import json
import os
import sys
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from rtface.cli.app import app
from rtface.cli.doctor_checks import check_live
from rtface.errors import InputMissing, MissingComponent, UsageError
from rtface.live.devices import listing, v4l2
from rtface.live.devices.capture import device_of
from rtface.live.devices.listing import devices
from rtface.live.sinks import v4l2_loopback
from rtface.live.sources import srt

if sys.platform != "linux":
    pytest.skip("V4L2 is Linux's", allow_module_level=True)

from tests.entry_points import registered
from tests.live.devices.fake_video import FakeVideo

FRONT = (("MJPG", (1280, 720), 30), ("YUYV", (1280, 720), 10), ("YUYV", (640, 480), 30))


def findings():
    return {finding.name: finding for finding in check_live()}


@pytest.fixture
def video(tmp_path, monkeypatch):
    made = FakeVideo(tmp_path, monkeypatch)
    monkeypatch.setattr(listing, "ASOUND", tmp_path / "asound")
    (tmp_path / "asound").mkdir()
    return made


@pytest.mark.parametrize("name", ["", "0", "front"])
def test_the_first_camera_is_no_virtual_one(video, name):
    video.module()
    assert device_of("0") == str(video.folder / "dev" / "video0")  # there is none: then its opening says so
    with pytest.raises(InputMissing, match="there is no camera; connect one"):
        device_of("")
    video.add(0, "rtface", captures=True, offered=FRONT)
    video.add(1, "Front: statistics", driver="uvcvideo", outputs=False)
    camera = video.add(20, "Front", driver="uvcvideo", captures=True, outputs=False, offered=FRONT)
    assert device_of(name) == str(camera)
    assert device_of("1").endswith("video1")


def test_the_tray_holds_the_first_camera_by_its_name(video, monkeypatch, tmp_path):
    video.module()
    video.add(0, "rtface", captures=True, offered=FRONT)
    video.add(20, "Front", driver="uvcvideo", captures=True, outputs=False, offered=FRONT)
    planned = []

    def plan(source, *_):
        planned.append(source.name)
        raise UsageError("far enough")

    monkeypatch.setattr("rtface_studio.live_run.LivePlan", plan)
    with registered(tmp_path, "rtface-studio"):
        for words in ([], ["camera:"], ["camera:20"]):
            assert CliRunner().invoke(app, ["tray", *words]).exit_code
    assert planned == ["Front", "Front", "20"]
    elsewhere = video.add(3, "Front", driver="uvcvideo", captures=True, outputs=False, offered=FRONT)
    assert device_of(planned[0]) == str(elsewhere)


def test_cameras_and_virtual_cameras_say_what_to_type(video):
    video.module()
    camera = video.add(0, "Integrated Camera", driver="uvcvideo", captures=True, outputs=False, offered=FRONT)
    video.add(1, "Integrated Camera: statistics", driver="uvcvideo", outputs=False)
    video.add(2, "codec of the board", driver="bcm2835-codec", outputs=False, offered=FRONT)  # memory to memory
    free, busy = video.add(10, "rtface"), video.add(11, "OBS", captures=True, outputs=False)
    video.add(12, "stuck", outputs=False)
    twins = [video.add(n, "twin") for n in (13, 14)]
    video.process(9, "obs", busy)
    video.process(8, "zoom", camera)
    found = {device.address: device for device in devices()[0]}
    assert list(found) == ["camera:0", "vcam:rtface", "vcam:OBS", "vcam:stuck", *(f"vcam:{node}" for node in twins)]
    mine = found["camera:0"]
    assert (mine.kind, mine.name, mine.node, mine.state) == ("camera", "Integrated Camera", str(camera), "in use")
    assert mine.users == ("zoom (pid 8)",)
    assert mine.modes == ("mjpeg: 1280×720 (30 fps)", "yuyv422: 1280×720 (10 fps), 640×480 (30 fps)")
    assert (found["vcam:rtface"].node, found["vcam:rtface"].state) == (str(free), "free")
    assert (found["vcam:OBS"].state, found["vcam:OBS"].users) == ("in use", ("obs (pid 9)",))
    assert found["vcam:stuck"].state.startswith("stuck")


def test_microphones_are_those_that_record(video, tmp_path):
    (tmp_path / "asound" / "pcm").write_text(
        "00-00: ALC257 Analog : ALC257 Analog : playback 1 : capture 1\n00-03: HDMI 0 : HDMI 0 : playback 1\n"
        "01-00: USB Audio : USB Audio : capture 1\n"
    )
    found = devices()[0]
    assert [(d.kind, d.address, d.name) for d in found] == [
        ("microphone", "hw:0,0", "ALC257 Analog"),
        ("microphone", "hw:1,0", "USB Audio"),
    ]


def test_the_command_lists_in_words_and_in_json(video, tmp_path, monkeypatch):
    video.module()
    path = video.add(10, "rtface")
    result = CliRunner().invoke(app, ["devices"])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "cameras: none; connect one, or give a film instead",
        "virtual cameras:",
        f"  vcam:rtface  rtface ({path}, free)",
        "microphones: none",
    ]
    listed = json.loads(CliRunner().invoke(app, ["devices", "--json"]).stdout)
    assert [(d["address"], d["state"]) for d in listed] == [("vcam:rtface", "free")]


@pytest.mark.parametrize(
    ("system", "format_name", "expected"),
    [
        ("Darwin", "avfoundation", ["camera:0", "camera:1"]),
        ("Windows", "dshow", ["camera:FaceTime", "camera:OBS Virtual Camera"]),
    ],
)
def test_elsewhere_ffmpeg_lists_them(monkeypatch, system, format_name, expected):
    import av

    listed = [
        SimpleNamespace(name="0", description="FaceTime", media_types=["video"]),
        SimpleNamespace(name="1", description="OBS Virtual Camera", media_types=["video"]),
        SimpleNamespace(name="0", description="MacBook Microphone", media_types=["audio"]),
    ]
    monkeypatch.setattr(listing.platform, "system", lambda: system)
    monkeypatch.setattr(av, "enumerate_input_devices", lambda name: listed if name == format_name else [])
    assert [d.address for d in devices()[0]] == [*expected, "MacBook Microphone", "vcam:obs"]
    assert findings()["vcam:obs"].state == "ok"
    listed.clear()
    assert "install OBS Studio" in findings()["vcam"].repair


def test_doctor_says_how_to_get_a_virtual_camera(video, tmp_path, monkeypatch):
    monkeypatch.setattr(v4l2_loopback, "MODULES", tmp_path)
    found = findings()["vcam"]
    assert found.state == "ok"  # files and streams go without
    assert all(line in found.repair for line in ("v4l2loopback-dkms", v4l2_loopback.CREATE, "start pipewire"))
    folder = tmp_path / os.uname().release
    folder.mkdir()
    (folder / "modules.dep").write_text("updates/dkms/v4l2loopback.ko.xz: kernel/drivers/media/videodev.ko\n")
    assert findings()["vcam"].to_dict()["command"] == v4l2_loopback.CREATE
    video.module()
    assert findings()["vcam"].to_dict()["command"] == v4l2_loopback.RELOAD
    assert v4l2_loopback.RELOAD in CliRunner().invoke(app, ["devices"]).stderr


@pytest.mark.parametrize(
    ("what", "exclusive", "state", "said", "repair"),
    [
        ({}, "Y", "ok", ": free", ""),
        ({"captures": True, "outputs": False}, "Y", "warn", ": in use, open in obs (pid 9)", "close that program"),
        ({"outputs": False}, "Y", "warn", ": stuck", "rtface repairs it by writing to it"),
        ({"captures": True}, "N", "warn", "exclusive_caps=0): browsers may not list it", "exclusive_caps=1"),
        ({"captures": True}, "Y", "ok", ": free, open in obs (pid 9)", ""),  # its writer left, a reader is there
    ],
)
def test_doctor_on_each_state_of_a_virtual_camera(video, what, exclusive, state, said, repair):
    video.module(exclusive=exclusive)
    path = video.add(10, "rtface", **what)
    if what.get("captures"):
        video.process(9, "obs", path)
    found = findings()["vcam:rtface"]
    assert (found.state, said in found.detail) == (state, True), found
    assert repair in found.repair and bool(found.repair) == (state == "warn")


def test_doctor_on_a_device_that_may_not_be_opened(video, monkeypatch):
    video.module()
    video.add(0, "Front", driver="uvcvideo", captures=True, outputs=False)
    video.add(10, "rtface")

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    found = [finding for finding in check_live() if finding.repair == v4l2.JOIN]
    assert {finding.name for finding in found} == {"camera:0", "vcam:rtface"}
    monkeypatch.undo()


PLUGIN = """
from rtface.live.protocols import LiveSink, MediaDevice


class Wall(LiveSink):
    @classmethod
    def list(cls):
        return [MediaDevice("output", "wall:hall", "the wall in the hall", state="free")]


class Broken(Wall):
    @classmethod
    def why_unusable(cls):
        return "no projector is there; switch it on"


class Faulty(Wall):
    @classmethod
    def list(cls):
        yield MediaDevice("output", "wall:stairs", "not all of it")
        raise RuntimeError("a bug")
"""


def test_outputs_of_plugins_are_listed(video, tmp_path, monkeypatch):
    (tmp_path / "walls.py").write_text(PLUGIN)
    info = tmp_path / "walls-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: walls\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[rtface.sinks]\nwall = walls:Wall\nbroken = walls:Broken\nfaulty = walls:Faulty\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    video.module()
    video.add(10, "rtface")
    result = CliRunner().invoke(app, ["devices"])
    assert result.stdout.endswith("outputs of plugins:\n  wall:hall  the wall in the hall (free)\n")
    assert [line.partition(": ")[2] for line in result.stderr.splitlines()[-2:]] == [
        "broken: no projector is there; switch it on",
        "faulty: a bug",
    ]
    found = findings()
    assert (found["wall:hall"].state, found["wall:hall"].detail) == ("ok", "the wall in the hall: free")
    assert (found["broken"].state, found["broken"].repair) == ("warn", "no projector is there; switch it on")
    listed = json.loads(CliRunner().invoke(app, ["devices", "--json"]).stdout)
    assert [device["address"] for device in listed] == ["vcam:rtface", "wall:hall"]


def test_doctor_on_srt(video, monkeypatch):
    def missing():
        raise MissingComponent("srt:// needs SRT's library: {how}", how="sudo apt install libsrt1.5-openssl")

    monkeypatch.setattr(srt, "library", missing)
    finding = findings()["srt"]
    assert finding.state == "ok"
    assert "only srt:// addresses need it" in finding.detail
    assert finding.repair == "sudo apt install libsrt1.5-openssl"
    monkeypatch.setattr(srt, "library", lambda: None)
    assert findings()["srt"].detail == "libsrt is installed"
