"""Cameras of PipeWire in a session of their own: read by several programs, lost and back, and read by rtface."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rtface.config.addresses import LiveAddress
from rtface.errors import InputMissing, MissingComponent
from rtface.frame import Color, Frame
from rtface.live.devices.capture import open_camera
from rtface.live.devices.listing import devices
from rtface.live.devices.pipewire import OUTPUT, PipewireStream
from rtface.live.devices.pipewire_formats import FORMATS, PIXEL_FORMAT, RATE, SIZE, fixed_format, read_object
from rtface.live.messages import SourceRequest
from rtface.live.protocols import TIME_BASE, VideoFormat
from rtface.live.sinks.pipewire_output import PipewireOutput
from rtface.live.sinks.virtual_camera import VirtualCamera
from tests.live.pipewire_session import (
    DBUS,
    HEIGHT,
    PIPEWIRE,
    WIDTH,
    Session,
    numbered,
    numbers,
    reader,
    session,
    wait_for,
)

needs_pipewire = pytest.mark.skipif(
    not (PIPEWIRE and DBUS), reason="RTFACE_TEST_PIPEWIRE and RTFACE_TEST_DBUS do not name pipewire and dbus-daemon"
)
COLOR = Color("bt601")


@pytest.fixture(scope="module")
def running() -> Iterator[Session]:
    with session() as programs:
        yield programs


@contextmanager
def feeding(write, rate: float = 60.0) -> Iterator[None]:
    """Writes numbered frames until the end."""
    stop = threading.Event()

    def feed() -> None:
        number = 0
        while not stop.wait(1 / rate):
            write(number)
            number += 1

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def camera() -> Iterator[PipewireOutput]:
    output = PipewireOutput(WIDTH, HEIGHT, Fraction(30))
    try:
        yield output
    finally:
        output.close()


@needs_pipewire
@pytest.mark.usefixtures("running")
def test_two_programs_read_every_frame_at_once() -> None:
    with camera() as output, feeding(lambda number: output.write(numbered(number))), reader() as one, reader() as two:
        for process in (one, two):
            got = numbers(process, 60)[5:]
            assert np.diff(got).max() <= 2 and np.diff(got).min() >= 1 and (np.diff(got) == 1).mean() > 0.9


@needs_pipewire
@pytest.mark.usefixtures("running")
def test_killed_readers_leave_room_for_the_next() -> None:
    with camera() as output, feeding(lambda number: output.write(numbered(number))):
        for _ in range(20):
            with reader() as process:
                assert len(numbers(process, 8)) == 8
        stop = threading.Event()
        wait_for(lambda: not output.watch(0.1, stop))
        with reader() as staying, ExitStack() as killed:
            killed.enter_context(reader())
            wait_for(lambda: output.watch(0.1, stop))
            killed.close()
            assert len(numbers(staying, 60)) == 60


@needs_pipewire
def test_the_sink_rests_and_returns_after_a_crash(running: Session) -> None:
    sink = VirtualCamera(LiveAddress("vcam", "pipewire"))
    sink.open(VideoFormat(WIDTH, HEIGHT, "yuv420p", Fraction(30), COLOR), sound=None)
    assert "PipeWire" in sink.described and sink.health.size == (WIDTH, HEIGHT)

    def write(number: int) -> None:
        image = av.VideoFrame.from_ndarray(numbered(number), "yuv420p")
        sink.write(Frame(image, 0, TIME_BASE, color=COLOR, captured_at=time.monotonic()))

    with feeding(write):
        wait_for(lambda: sink.wanted is False)
        with reader() as process:
            numbers(process, 5)
            wait_for(lambda: sink.wanted)
        wait_for(lambda: sink.wanted is False)
        running.end("wireplumber", "pipewire")
        wait_for(lambda: sink.health.state == "away")
        running.start("pipewire", "wireplumber")
        wait_for(lambda: sink.health.state == "live")
        with reader() as process:
            assert len(numbers(process, 5)) == 5
        assert sink.health.reopened == 1
    sink.close()


@needs_pipewire
@pytest.mark.usefixtures("running")
@pytest.mark.parametrize("pixel_format", ["yuv420p", "nv12", "yuyv422", "rgb24"])
def test_a_camera_that_only_pipewire_has_is_listed_and_read(pixel_format: str) -> None:
    width = 321 if pixel_format in ("nv12", "yuyv422") else 322
    height, name = 242, f"Kamera {pixel_format}"  # rows are padded
    picture = np.tile(np.linspace(40, 210, width).astype(np.uint8)[None, :, None], (height, 1, 3))
    image = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pixel_format)
    rows = [np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size) for plane in image.planes]
    stride = 3 * 352 if pixel_format == "rgb24" else 2 * 352 if pixel_format == "yuyv422" else 352
    strides = [stride, stride // 2, stride // 2] if pixel_format == "yuv420p" else [stride, stride]
    planes = [np.zeros((len(plane), step), np.uint8) for plane, step in zip(rows, strides, strict=False)]
    for plane, source in zip(planes, rows, strict=True):
        width_of = min(plane.shape[1], source.shape[1])
        plane[:, :width_of] = source[:, :width_of]
    data = np.concatenate([plane.ravel() for plane in planes])
    properties = {"media.class": "Video/Source", "media.role": "Camera", "node.name": f"cam-{pixel_format}"}
    properties |= {"application.name": "another", "node.description": name}
    stream = PipewireStream(OUTPUT, properties, fixed_format(pixel_format, width, height, (30, 1)), (data.size, stride))
    with feeding(lambda _: stream.write(data, stride)):
        assert f"camera:{name}" in [device.address for device in devices()[0]]
        opened = open_camera(SourceRequest("camera", name))
        frame = next(opened.container.decode(opened.video))
        assert (frame.width, frame.height, frame.format.name, opened.label) == (width, height, pixel_format, name)
        assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - picture)[2:-2, 2:-2].mean() < 4
        opened.container.close()
        with pytest.raises(InputMissing, match="there is no camera 3"):
            open_camera(SourceRequest("camera", "3"))
    stream.close()
    with pytest.raises(InputMissing, match="there is no camera"):
        open_camera(SourceRequest("camera", "no such camera"))


def test_formats_are_encoded_as_they_are_read() -> None:
    values = read_object(fixed_format("nv12", 1280, 720, (30000, 1001)))
    assert values[PIXEL_FORMAT] == (FORMATS["nv12"],)
    assert (values[SIZE], values[RATE]) == ((1280, 720), (30000, 1001))


def test_without_pipewire_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("PIPEWIRE_RUNTIME_DIR", raising=False)
    with pytest.raises(MissingComponent, match="PipeWire does not run here; start it with: systemctl"):
        VirtualCamera(LiveAddress("vcam", "pipewire")).open(
            VideoFormat(WIDTH, HEIGHT, "yuv420p", Fraction(30), COLOR), sound=None
        )
    assert not [device for device in devices()[0] if "PipeWire" in device.name]
