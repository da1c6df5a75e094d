"""Live sources that need no server: films, stand-ins for devices, and what is handed over."""

from __future__ import annotations

import os
import signal
import statistics
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from rtface.errors import InputError, InputMissing, UsageError
from rtface.frame import Frame
from rtface.live.addresses import LiveAddress
from rtface.live.devices import camera, camera_modes
from rtface.live.devices.camera_modes import CameraMode, choose
from rtface.live.messages import SourceRequest
from rtface.live.sources.open_stream import plausible
from rtface.live.sources.playback_pace import PlaybackPace
from rtface.live.sources.reconnecting_source import ReconnectingSource, open_live_source
from rtface.stats import Stats
from tests.live.publish import publish
from tests.live.watching import Watched, reader_of


def film(path: Path, seconds: float, **options: str) -> Path:
    """A film whose pictures carry the times at which they were made."""
    publish(str(path), path.suffix[1:].replace("mkv", "matroska"), {"seconds": str(seconds), "fps": "20", **options})
    return path


def test_a_film_is_played_in_real_time_to_its_end(tmp_path: Path):
    with Watched(str(film(tmp_path / "film.mkv", 2)), stamped=True) as watched:
        assert watched.source.described.endswith("film.mkv, 640×360 h264, 20 fps, sound aac")
        watched.until(lambda: watched.source.ended, 6)
        health = watched.source.health
    assert (health.state, health.detail, health.dropped) == ("closed", "it came to its end", 0)
    assert len(watched.frames) in (40, 41)
    # As far apart as they were made, and no picture missed.
    apart = [at - made for (at, _), made in zip(watched.frames, watched.made, strict=True)]
    assert max(apart) - min(apart) < 0.15
    assert 85 <= len(watched.sounds) <= 98
    assert all(abs(f.time - (f.captured_at or 0)) < 0.1 for _, f in watched.frames)


def test_a_film_with_its_sound_last_plays_at_its_pace(tmp_path: Path):
    whole, path = film(tmp_path / "film.mkv", 3), tmp_path / "apart.mp4"
    with av.open(whole) as box, av.open(path, "w", container_options={"max_interleave_delta": "1"}) as out:
        streams = [out.add_stream_from_template(s) for s in (box.streams.video[0], box.streams.audio[0])]
        packets = [p for p in box.demux() if p.dts is not None]
        for kind, stream in zip(("video", "audio"), streams, strict=True):
            for packet in [p for p in packets if p.stream.type == kind]:
                packet.stream = stream
                out.mux_one(packet)
    with Watched(str(path), stamped=True) as watched:
        watched.until(lambda: watched.source.ended, 8)
    apart = [at - made for (at, _), made in zip(watched.frames, watched.made, strict=True)]
    assert len(watched.frames) >= 58 and max(apart) - min(apart) < 0.3
    late = [at - sound.time for at, sound in watched.sounds]
    assert len(late) > 130 and max(late) - min(late) < 0.3


def test_what_arrives_is_what_was_there(tmp_path: Path):
    kept: list[Frame] = []
    path = film(tmp_path / "film.mkv", 0.5, codec="ffv1", sound="none")
    source = open_live_source(LiveAddress("file", str(path)))
    source.start(kept.append, lambda _: None)
    while not source.ended:
        time.sleep(0.02)
    source.close()
    assert source.sound_format is None
    with av.open(path) as box:
        true = [image.to_ndarray() for image in box.decode(video=0)]
    assert len(kept) == len(true)
    assert all(np.array_equal(frame.image.to_ndarray(), image) for frame, image in zip(kept, true, strict=True))


def test_a_film_goes_on_where_its_reading_process_died(tmp_path: Path):
    with Watched(str(film(tmp_path / "film.mkv", 3)), stamped=True) as watched:
        watched.more(30, 5)
        reached = watched.made[-1]
        os.kill(reader_of(os.getpid()), signal.SIGKILL)
        watched.state("away", 2)
        watched.until(lambda: watched.source.ended, 8)
    again = [made for (at, _), made in zip(watched.frames, watched.made, strict=True)][30:]
    assert min(again) > reached - 1.3  # from the key frame before
    assert watched.made[-1] - watched.made[0] > 2.9


def stand_in(name: str, **options: Any) -> ReconnectingSource:
    """A camera that is FFmpeg's own test picture, by the code that reads cameras."""
    return ReconnectingSource(SourceRequest("camera", name, format="lavfi", **options), "camera 0", stats=Stats())


def test_a_camera_gives_its_pictures_at_once():
    with Watched(stand_in("testsrc2=size=640x360:rate=30,realtime", fps=Fraction(60))) as watched:
        watched.more(60, 6)
        assert watched.source.notes == ["camera 0: the camera gives 640×360 at 30 fps; 60 fps was asked for"]
        assert watched.source.health.bytes is None
    late = [at - (f.captured_at or 0) for at, f in watched.frames]
    assert statistics.median(late) < 0.02
    assert watched.source.video_format.rate == 30


def test_one_that_is_faster_than_the_machine_does_not_queue_up():
    # As fast as it can be made: 1080p, far more than anybody takes.
    with Watched(stand_in("testsrc2=size=1920x1080:rate=1000")) as watched:
        watched.more(50, 10)
        time.sleep(1)
        assert max(at - (f.captured_at or 0) for at, f in watched.frames[5:]) < 1.0


def test_a_source_that_cannot_be_is_refused():
    with pytest.raises(UsageError, match="vcam:x is an output"):
        open_live_source(LiveAddress("vcam", "x"))
    with pytest.raises(InputMissing, match="there is no such file"), Watched("/nowhere/film.mkv"):
        pass


def test_a_film_of_sound_alone_is_refused(tmp_path: Path):
    with av.open(str(tmp_path / "sound.mka"), "w", format="matroska") as box:
        stream: Any = box.add_stream("aac", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.float32), "fltp", "mono")
        frame.sample_rate = 48_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            box.mux(packet)
    with pytest.raises(InputError, match="has no video"), Watched(str(tmp_path / "sound.mka")):
        pass


def test_closing_before_starting_is_no_fault():
    source = open_live_source(LiveAddress("camera", "0"))
    source.close()
    source.close()
    assert source.health.state == "closed"


def mode(format: str, width: int, height: int, *rates: int) -> CameraMode:
    fractions = tuple(Fraction(r) for r in sorted(rates, reverse=True))
    return CameraMode(format, width, height, Fraction(max(rates)), fractions)


# A usual webcam: raw only up to 640×480, or slowly; JPEG for the rest.
WEBCAM = [mode("mjpeg", 1920, 1080, 30, 15), mode("mjpeg", 1280, 720, 60, 30), mode("mjpeg", 640, 480, 30),
          mode("yuyv422", 640, 480, 30, 15), mode("yuyv422", 1280, 720, 10, 5), mode("yuyv422", 1920, 1080, 5)]


@pytest.mark.parametrize(("size", "rate", "want"), [
    (None, None, "1280×720 mjpeg at 60 fps"),  # the raw one is too slow
    ((640, 480), None, "640×480 yuyv422 at 30 fps"),
    ((1280, 720), 30, "1280×720 mjpeg at 60 fps"),
    ((1280, 720), 10, "1280×720 yuyv422 at 10 fps"),
    ((1920, 1080), 60, "1920×1080 mjpeg at 30 fps"),
    ((1270, 700), None, "1280×720 mjpeg at 60 fps"),
    (None, 60, "1280×720 mjpeg at 60 fps"),
])
def test_the_mode_of_a_camera_is_raw_where_that_is_fast_enough(size: tuple[int, int] | None, rate: int | None,
                                                             want: str):
    assert str(choose(WEBCAM, size, None if rate is None else Fraction(rate))) == want


def test_the_rate_that_is_asked_for_is_the_slowest_that_suits():
    assert WEBCAM[1].nearest(Fraction(30)) == 30
    assert WEBCAM[1].nearest(Fraction(30_000, 1001)) == 30
    assert WEBCAM[1].nearest(Fraction(90)) == 60
    assert choose([], None, None) is None


def test_what_is_no_camera_has_no_modes():
    with Path("/dev/null").open("rb") as file:
        assert camera_modes.modes(file.fileno()) == []


def test_a_camera_that_may_not_be_opened_names_the_group(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(camera.os, "open", refuse)
    monkeypatch.setattr(camera.sys, "platform", "linux")
    with pytest.raises(InputMissing, match=r"camera 3: may not be opened; .*usermod -aG video"):
        camera.open_camera(SourceRequest("camera", "3"))


@pytest.mark.parametrize(("rate", "want"), [
    (Fraction("29.83"), 30), (Fraction("29.97"), Fraction(30_000, 1001)), (Fraction(30_000, 1001),) * 2, (30, 30),
    (Fraction("24.9"), 25), (Fraction("12.5"), Fraction("12.5")), (1000, 30), (0, 30), (Fraction("59.5"), 60),
])
def test_the_rate_of_a_stream_is_the_one_that_was_meant(rate: Fraction, want: Fraction):
    assert plausible(Fraction(rate), True) == want
    assert plausible(Fraction(rate), False) == 30


def test_a_paced_source_goes_on_after_a_jump_and_after_a_pause():
    pace = PlaybackPace()

    def due(stamp: float, now: float) -> float:
        packet: av.Packet[Any] = av.Packet(b"x")
        packet.time_base, packet.dts = Fraction(1, 1000), round(stamp * 1000)
        return pace.due(packet, now)

    assert due(5.0, 100.0) == 100.0
    assert due(5.5, 100.0) == pytest.approx(100.5)
    assert due(5.6, 100.9) == pytest.approx(100.6)  # a little late
    assert due(6.0, 103.0) == pytest.approx(103.0)  # it stood still
    assert due(5.2, 103.0) == pytest.approx(102.2)  # sound that stands behind its pictures in the file
    assert due(6.1, 103.0) == pytest.approx(103.1)
    assert due(900.0, 103.1) == pytest.approx(103.1)  # its clock was set
    assert due(900.04, 103.1) == pytest.approx(103.14)


def test_a_late_playlist_is_played_later():
    pace, late = PlaybackPace(0.5), []
    for piece in range(5):  # of a second each, there 0.3 s after they are due at the beginning
        for number in range(30):
            packet: av.Packet[Any] = av.Packet(b"x")
            packet.time_base, packet.dts = Fraction(1, 30), piece * 30 + number
            there = 100.0 + piece * 1.0 + 0.3 * (piece > 0)
            late.append(max(0.0, there - pace.due(packet, there)))
    assert not any(late)
    assert pace.due(packet, there) == pytest.approx(100 + 149 / 30 + 0.8)
