"""Live sources that need no server: films, stand-ins for devices, and what is handed over."""

from __future__ import annotations

import gc
import queue
import socket
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from rtface.concurrency.threads import start_thread
from rtface.config.addresses import LiveAddress
from rtface.errors import InputError, InputMissing
from rtface.frame import Frame
from rtface.live.devices import capture, v4l2
from rtface.live.devices.v4l2 import CameraMode, choose
from rtface.live.messages import SourceRequest
from rtface.live.protocols import SoundPacket
from rtface.live.sources.open_source import open_live_source
from rtface.live.sources.open_stream import open_stream, plausible
from rtface.live.sources.playback_pace import PlaybackPace, repeated
from rtface.media.read.container import open_container
from rtface.stats import Stats
from tests.live.publish import film, read_stamp, stamped_image
from tests.live.watching import Watched


def test_what_arrives_is_what_was_there(tmp_path: Path):
    kept: queue.Queue[Frame] = queue.Queue()
    path = film(tmp_path / "film.mkv", 0.5, codec="ffv1", sound="none")
    source = open_live_source(LiveAddress("file", str(path)))
    with av.open(path) as box:
        true = [image.to_ndarray() for image in box.decode(video=0)]
    source.start(kept.put, lambda _: None)
    frames = [kept.get(timeout=20) for _ in true]
    source.close()
    assert source.sound_format is None and kept.empty()
    assert all(np.array_equal(frame.image.to_ndarray(), image) for frame, image in zip(frames, true, strict=True))


def test_a_film_in_place_of_a_camera_begins_again(tmp_path: Path):
    kept: queue.Queue[Frame] = queue.Queue()
    sounds: list[SoundPacket] = []
    path = film(tmp_path / "film.mkv", 0.4, codec="ffv1")
    with av.open(path) as box:
        true = [image.to_ndarray() for image in box.decode(video=0)]
    source = open_live_source(LiveAddress("file", str(path)), loop=True)
    source.start(kept.put, sounds.append)
    frames = [kept.get(timeout=20) for _ in range(3 * len(true) + 1)]
    health = source.health
    source.close()
    assert not source.ended and (health.state, health.reopened) == ("live", 0)
    steps = np.diff([frame.pts for frame in frames])
    assert np.allclose(steps, steps[0], atol=1)
    assert all(np.array_equal(frame.image.to_ndarray(), true[n % len(true)]) for n, frame in enumerate(frames))
    again = [later.time for sound, later in pairwise(sounds) if abs(later.time - sound.time - sound.duration) > 0.01]
    assert len(again) >= 3 and np.allclose(np.diff(again), len(true) * steps[0] / 1e6, atol=0.002)  # with the picture


def _film_of_b_frames(path: Path) -> Path:
    with av.open(path, "w") as box:
        video = box.add_stream("libx264", rate=20, options={"bf": "2", "b-adapt": "0"})
        video.width, video.height, video.pix_fmt = 320, 48, "yuv420p"
        for number in range(12):
            image = stamped_image(320, 48, float(number))
            image.pts, image.time_base = number, Fraction(1, 20)
            box.mux(video.encode(image))
        box.mux(video.encode(None))
    return path


def test_a_matroska_film_with_b_frames_is_decoded_in_order(tmp_path: Path):
    kept: queue.Queue[Frame] = queue.Queue()
    path, stats = _film_of_b_frames(tmp_path / "film.mkv"), Stats()
    source = open_live_source(LiveAddress("file", str(path)), loop=True, stats=stats)
    source.start(kept.put, lambda _: None)
    frames = [kept.get(timeout=20) for _ in range(30)]
    source.close()
    shown = [round(read_stamp(frame.image)) for frame in frames]  # late ones may be dropped
    assert sum(later <= one for one, later in pairwise(shown)) <= 3
    assert not stats.counters["frames_corrupt"]


def test_no_frame_is_kept_back_where_a_film_begins_again(tmp_path: Path):
    path = _film_of_b_frames(tmp_path / "film.mp4")
    container = open_container(path)
    images = (one for packet in repeated(str(path), container, container.streams.video[0]) for one in packet.decode())
    shown = [(image.time, read_stamp(image)) for image in islice(images, 30)]
    assert shown == [(pytest.approx(number / 20), number % 12) for number in range(30)]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
def test_a_film_that_begins_again_leaves_no_file_open(tmp_path: Path):
    path = _film_of_b_frames(tmp_path / "film.mp4")
    container = open_container(path)
    packets = repeated(str(path), container, container.streams.video[0])
    gc.disable()  # collects them, but late
    try:
        assert all(packet.size for packet in islice(packets, 12 * 20))
        links = Path("/proc/self/fd").iterdir()
        assert sum(link.is_symlink() and link.readlink() == path for link in links) <= 2
    finally:
        gc.enable()


def test_a_film_of_sound_alone_is_refused(tmp_path: Path):
    with av.open(str(tmp_path / "sound.mka"), "w", format="matroska") as box:
        stream: Any = box.add_stream("aac", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.float32), "fltp", "mono")
        frame.sample_rate = 48_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            box.mux(packet)
    with pytest.raises(InputError, match="has no video"), Watched(str(tmp_path / "sound.mka")):
        pass


@pytest.mark.parametrize("opened", [open_container, lambda url: open_stream(SourceRequest("stream", url))])
def test_what_an_address_sends_opens_no_file(opened: Callable[[str], object], tmp_path: Path):
    private = film(tmp_path / "private.mkv", 0.2, codec="ffv1", sound="none")
    lines = f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:1,\n{private.as_uri()}\n#EXT-X-ENDLIST\n"

    def answer() -> None:
        with suppress(OSError):
            while True:
                peer, _ = server.accept()
                with peer:
                    peer.sendall(lines.encode())

    with socket.create_server(("127.0.0.1", 0)) as server:
        start_thread("answer", answer)
        with pytest.raises(InputError):
            opened(f"tcp://127.0.0.1:{server.getsockname()[1]}/live.m3u8")


def mode(format: str, width: int, height: int, *rates: int) -> CameraMode:
    fractions = tuple(Fraction(r) for r in sorted(rates, reverse=True))
    return CameraMode(format, width, height, Fraction(max(rates)), fractions)


# A usual webcam: raw only up to 640×480, or slowly; JPEG for the rest.
WEBCAM = [
    mode("mjpeg", 1920, 1080, 30, 15),
    mode("mjpeg", 1280, 720, 60, 30),
    mode("mjpeg", 640, 480, 30),
    mode("yuyv422", 640, 480, 30, 15),
    mode("yuyv422", 1280, 720, 10, 5),
    mode("yuyv422", 1920, 1080, 5),
]


@pytest.mark.parametrize(
    ("size", "rate", "want"),
    [
        (None, None, "1280×720 mjpeg at 60 fps"),  # the raw one is too slow
        ((640, 480), None, "640×480 yuyv422 at 30 fps"),
        ((1280, 720), 30, "1280×720 mjpeg at 60 fps"),
        ((1280, 720), 10, "1280×720 yuyv422 at 10 fps"),
        ((1920, 1080), 60, "1920×1080 mjpeg at 30 fps"),
        ((1270, 700), None, "1280×720 mjpeg at 60 fps"),
        (None, 60, "1280×720 mjpeg at 60 fps"),
    ],
)
def test_the_mode_of_a_camera_is_raw_where_that_is_fast_enough(
    size: tuple[int, int] | None, rate: int | None, want: str
):
    mode = choose(WEBCAM, size, None if rate is None else Fraction(rate))
    assert mode is not None and f"{mode.width}×{mode.height} {mode.format} at {float(mode.rate):g} fps" == want


def test_the_rate_that_is_asked_for_is_the_slowest_that_suits():
    assert WEBCAM[1].nearest(Fraction(30)) == 30
    assert WEBCAM[1].nearest(Fraction(30_000, 1001)) == 30
    assert WEBCAM[1].nearest(Fraction(90)) == 60
    assert choose([], None, None) is None


def test_what_is_no_camera_has_no_modes():
    with Path("/dev/null").open("rb") as file:
        assert v4l2.modes(file.fileno()) == []


def test_a_camera_that_may_not_be_opened_names_the_group(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(capture.os, "open", refuse)
    monkeypatch.setattr(capture.sys, "platform", "linux")
    with pytest.raises(InputMissing, match=r"camera 3: you have no permission to open it; .*usermod -aG video"):
        capture.open_camera(SourceRequest("camera", "3"))


@pytest.mark.parametrize(
    ("rate", "want"),
    [
        (Fraction("29.83"), 30),
        (Fraction("29.97"), Fraction(30_000, 1001)),
        (Fraction(30_000, 1001),) * 2,
        (30, 30),
        (Fraction("24.9"), 25),
        (Fraction("12.5"), Fraction("12.5")),
        (1000, 30),
        (0, 30),
        (Fraction("59.5"), 60),
    ],
)
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
    assert due(5.2, 103.0) == pytest.approx(102.2)  # sound that stands behind its frames in the file
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


@pytest.mark.parametrize("options", [{}, {"codec": "ffv1"}])
def test_quantisers_come_with_the_frames(options: dict[str, str], tmp_path: Path):
    kept: queue.Queue[Frame] = queue.Queue()
    path = film(tmp_path / "film.mkv", 0.5, sound="none", **options)
    source = open_live_source(LiveAddress("file", str(path)))
    source.start(kept.put, lambda _: None)
    frame = kept.get(timeout=20)
    source.close()
    if options:
        assert frame.quantisers is None
    else:
        assert frame.quantisers is not None and frame.quantisers.steps.shape == (23, 40)
