"""A live source is judged by how it comes: by a server and pipes of this machine, and by times that are handed in."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import av
import numpy as np
import pytest

from rtface.errors import InputError, InputMissing
from rtface.frame import Frame
from rtface.live.messages import SourceRequest
from rtface.live.protocols import SoundPacket
from rtface.live.sources import packet_queue
from rtface.live.sources.open_source import open_sound_source
from rtface.live.sources.open_stream import OpenedInput
from rtface.live.sources.packet_queue import PacketQueue
from rtface.live.sources.playback_pace import BurstDetector, longest_wait
from rtface.live.sources.reconnecting_source import ReconnectingSource
from rtface.live.sources.source_times import LONGEST_S, Backlog, JitterBuffer
from rtface.media.read.arrivals import is_sent_at_once, rate_of_arrivals
from rtface.media.read.source import FileSource
from tests.live.publish import film
from tests.live.watching import Watched

RATE = 60


def even(rate: float, seconds: float = 0.6, start: float = 0.0) -> list[float]:
    return [start + n / rate for n in range(int(seconds * rate))]


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize(("rate", "film"), [(5, False), (12, False), (30, False), (120, False), (1000, True)])
def test_what_comes_as_fast_as_it_is_read_is_a_film(rate: int, film: bool, *, timed: bool):
    arrivals = even(rate)
    # FFmpeg counts frames of a format without times at 25 a second, whatever they are.
    stamps = [n / (rate if timed and not film else 25) for n in range(len(arrivals))]
    assert is_sent_at_once(stamps, arrivals, timed=timed) is film


def test_what_a_server_had_kept_is_no_film():
    arrivals = [0.001 * n for n in range(300)] + even(30, start=0.31)
    assert not is_sent_at_once([n / 30 for n in range(len(arrivals))], arrivals, timed=True)


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("pause", [(0.05, 0.3), (0.2, 0.48), (0.25, 0.4)])
def test_a_pause_of_the_network_makes_no_film(pause: tuple[float, float], *, timed: bool):
    made = even(60)
    arrivals = [pause[1] if pause[0] < at < pause[1] else at for at in made]
    assert not is_sent_at_once(made, arrivals, timed=timed)


@pytest.mark.parametrize("rate", [5, 12, 25, 30, 60])
def test_the_rate_is_that_of_the_arrivals(rate: int):
    there = [0.0, 0.0001, 0.0002]
    assert rate_of_arrivals([*there, *even(rate, 0.7, 0.1)]) == rate
    bunches = [n // 2 * 2 / rate + 0.1 for n in range(rate)]
    assert rate_of_arrivals([*there, *bunches]) == pytest.approx(rate, rel=0.25)
    assert rate_of_arrivals(there) is None


def test_a_backlog_is_what_comes_later_than_at_best():
    backlog = Backlog()
    for n in range(300):  # ten seconds in which 25 of 30 frames come through
        backlog.note(n / 30, 100 + n / 25)
    assert backlog.seconds == pytest.approx(2.0, abs=0.03)
    for n in range(300, 600):  # it catches up
        backlog.note(n / 30, 100 + n / 30)
    assert backlog.seconds == pytest.approx(0.0, abs=0.01)
    behind = list[float]()
    for n in range(600, 900):  # bunches of a second: their last packet does not wait
        backlog.note(n / 30, 101 + n // 30)
        behind.append(backlog.seconds)
    assert max(behind) < 0.55 and max(behind[29::30]) < 0.05
    backlog.note(900.0, 300.0)  # another clock
    backlog.note(None, 301.0)
    assert backlog.seconds == 0.0
    for n in range(36_000):  # 29.97 frames a second that count as 30, for an hour
        backlog.note(900 + n / 10, 300 + n / 10 * 1.001)
    assert backlog.seconds < 0.01


def test_what_was_kept_is_over_with_the_first_packet_in_time():
    packets = [av.Packet(1) for _ in range(40)]
    for n, packet in enumerate(packets):
        packet.time_base, packet.dts = Fraction(1, 30), n or None  # RTSP's first has none
    arrivals = [1.0] * 30 + even(30, 0.4, 1.0)
    burst = BurstDetector()
    over = [burst.over(packet, at) for packet, at in zip(packets, arrivals, strict=False)]
    assert over.index(True) == 32
    assert BurstDetector().over(packets[0], 1.0) is False


def test_bunches_longer_than_the_probe_lose_no_frame():
    packets = [(n / 25, 100.0 + 4 * (1 + n // 100) + 1e-4 * (n % 100)) for n in range(1000)]  # fragments of 4 s
    stamps, arrivals = zip(*packets[:101], strict=True)
    assert not is_sent_at_once(stamps, arrivals, timed=True)
    buffer = JitterBuffer(None, longest_wait(stamps, arrivals))
    due = [buffer.due(stamp, arrived) for stamp, arrived in packets]
    assert np.diff(due[100:]) == pytest.approx(1 / 25, abs=0.02)
    assert longest_wait([n / 25 for n in range(20)], even(25, 0.8)) == LONGEST_S


def jpeg() -> bytes:
    """A tiny picture."""
    coder = av.CodecContext.create("mjpeg", "w")
    coder.width, coder.height, coder.pix_fmt, coder.time_base = 64, 48, "yuvj420p", Fraction(1, RATE)  # pyright: ignore
    image = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8)).reformat(format="yuvj420p")
    return b"".join(bytes(packet) for packet in coder.encode(image))  # pyright: ignore


class Phone(BaseHTTPRequestHandler):
    """Sends motion JPEG as a phone does, `pace` frames a second, and counts who asks."""

    asked, most, pace = 0, 10_000, RATE

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        data, began, number, pace = jpeg(), time.monotonic(), 0, self.pace
        try:
            while number < self.most:
                self.wfile.write(b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data))
                self.wfile.write(data + b"\r\n")
                number += 1
                time.sleep(max(0.0, began + number / pace - time.monotonic()))
        except OSError:
            return

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.mark.parametrize("kept_s", [1.0, 8.0, inf])
@pytest.mark.parametrize("timed", [True, False])
def test_what_a_server_had_kept_for_seconds_is_no_film(kept_s: float, monkeypatch: pytest.MonkeyPatch, *, timed: bool):
    now, video = [0.0], SimpleNamespace()
    monkeypatch.setattr(packet_queue.time, "monotonic", lambda: now[0])

    def demux(*_: object) -> Iterator[object]:
        for number in range(1000):
            now[0] += 1 / (30 if number >= 30 * kept_s else 300)
            stamp = number if timed else None
            yield SimpleNamespace(size=1, stream=video, dts=stamp, pts=stamp, time_base=Fraction(1, 30))

    opened: Any = OpenedInput(cast(Any, SimpleNamespace(demux=demux)), cast(Any, video), None, probed=True, timed=timed)
    PacketQueue(cast(Any, None), SourceRequest("stream", "http://127.0.0.1/x"), Counter()).probe(opened)
    assert opened.by_arrival == (kept_s < inf)


@contextmanager
def phone(answer: type[Phone] = Phone) -> Generator[str]:
    """A server that answers so."""
    Phone.asked = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), answer)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/video"
    finally:
        server.shutdown()
        server.server_close()


def served(data: bytes, length: int | None) -> AbstractContextManager[str]:
    """A server that sends `data` at once, and says that it were `length` bytes."""

    class Answer(Phone):
        def do_GET(self) -> None:
            self.send_response(200)
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(data)

    return phone(Answer)


def test_motion_jpeg_is_shown_as_it_comes():
    with phone() as url, Watched(url) as watched:
        watched.more(2 * RATE, 30)
        frames = watched.frames[-RATE:]
    assert Phone.asked == 1
    span = (frames[-1][1].pts - frames[0][1].pts) / 1e6
    assert span == pytest.approx(frames[-1][0] - frames[0][0], abs=0.6)  # not 2.4 s, of 25 frames a second
    assert all(at - (frame.captured_at or 0.0) < 0.5 for at, frame in frames)


def test_a_stream_does_not_wait_for_outputs_and_engine():
    with phone() as url:
        watched = Watched(url)
        watched.source.hold(True)
        with watched:
            watched.more(RATE, 30)
            assert watched.source.health.dropped < RATE / 2


def test_a_camera_that_hangs_up_is_asked_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Phone, "most", RATE)
    with phone() as url, Watched(url) as watched:
        watched.until(lambda: watched.source.health.reopened == 1, 30)
        assert not watched.source.ended


def test_into_a_file_every_frame_of_it_comes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Phone, "most", 2 * RATE)
    with phone() as url:
        source = FileSource(url)
        time.sleep(1.5)  # work on the first frame: the others wait with the times at which they came
        times = [float(item.pts * item.time_base) for item in source if isinstance(item, Frame)]
        source.close()
    assert (len(times), Phone.asked) == (2 * RATE, 1)
    assert times[-1] - times[0] == pytest.approx(2, abs=0.3)  # not 4.8 s, of 25 frames a second
    assert max(np.diff(times)) < 0.5


@pytest.mark.skipif(sys.platform == "win32", reason="pipes have no names there")
def test_tiny_pictures_of_a_pipe_keep_the_times_they_came_at():
    """FFmpeg reads all of them to know what they are."""
    ours, theirs = os.pipe()
    data, pace, count = jpeg(), 12, 36

    def write() -> None:
        began = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, began + number / pace - time.monotonic()))
            os.write(theirs, data)
        os.close(theirs)

    threading.Thread(target=write, daemon=True).start()
    source = FileSource(f"/dev/fd/{ours}")
    times = [float(item.pts * item.time_base) for item in source if isinstance(item, Frame)]
    source.close()
    os.close(ours)
    assert len(times) == count and times[-1] - times[0] == pytest.approx((count - 1) / pace, abs=0.3)  # not 1.4 s
    assert max(np.diff(times)) < 0.5


def test_a_raw_film_that_is_sent_at_once_keeps_its_rate(tmp_path: Path):
    data = film(tmp_path / "film.h264", 1.0, sound="none").read_bytes()
    with served(data, None) as url:
        times = [item.pts * item.time_base for item in FileSource(url) if isinstance(item, Frame)]
    steps = {after - before for before, after in pairwise(times)}
    assert len(times) >= 20 and steps == {Fraction(1, 20)}  # as its codec says


@pytest.mark.skipif(sys.platform == "win32", reason="pipes have no names there")
@pytest.mark.parametrize("kind", ["mkv", "h264"])
def test_a_film_in_a_pipe_is_opened_once_and_played_whole(kind: str, tmp_path: Path):
    source, pipe = film(tmp_path / f"film.{kind}", 1.0, sound="none"), tmp_path / f"pipe.{kind}"
    os.mkfifo(pipe)
    with av.open(str(source)) as box:
        count = sum(1 for _ in box.decode(video=0))
    writer = threading.Thread(target=lambda: pipe.write_bytes(source.read_bytes()), daemon=True)
    writer.start()
    watched = Watched(str(pipe))
    watched.source.hold(True)
    with watched:
        time.sleep(2.5)
        assert len(watched.frames) == 1  # it waits until the outputs are there
        watched.source.hold(False)
        watched.until(lambda: watched.source.ended, 20)
    assert len(watched.frames) + watched.source.health.dropped == 1 + count  # a busy machine is too late for some
    times = [frame.pts / 1e6 for _, frame in watched.frames[1:]]
    assert times[-1] - times[0] == pytest.approx((count - 1) / 20, abs=0.2)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes have no names there")
def test_the_pipe_of_this_process_is_read_by_its_child(tmp_path: Path):
    data = film(tmp_path / "film.mkv", 1.0, sound="none").read_bytes()
    ours, theirs = os.pipe()
    out = os.fdopen(theirs, "wb")
    threading.Thread(target=lambda: (out.write(data), out.close()), daemon=True).start()
    with Watched(f"/dev/fd/{ours}") as watched:
        watched.until(lambda: watched.source.ended, 20)
    assert watched.frames
    os.close(ours)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes have no names there")
def test_a_pipe_that_is_not_open_is_refused_at_once():
    with pytest.raises(InputMissing, match="/dev/fd/99: is not open"):
        Watched("/dev/fd/99").__enter__()


def test_a_film_of_unknown_length_ends(tmp_path: Path):
    data = film(tmp_path / "film.mkv", 1.0, sound="none").read_bytes()
    with served(data, None) as url, Watched(url) as watched:
        watched.until(lambda: watched.source.ended, 20)
    assert len(watched.frames) + watched.source.health.dropped >= 20
    assert watched.source.health.reopened == 0


def test_a_stream_that_is_opened_again_remains_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Phone, "most", RATE)
    with phone() as url, Watched(url) as watched:
        monkeypatch.setattr(Phone, "pace", 100 * RATE)  # what its server kept meanwhile comes at once
        watched.until(lambda: Phone.asked >= 3, 30)
        assert not watched.source.ended


def test_sound_of_unknown_length_is_played_at_its_pace(tmp_path: Path):
    data = film(tmp_path / "film.mkv", 3.0).read_bytes()
    with served(data, None) as url:
        source, sounds = open_sound_source(url), list[tuple[float, SoundPacket]]()
        assert isinstance(source, ReconnectingSource)
        source.start(lambda _: None, lambda sound: sounds.append((time.monotonic(), sound)))
        deadline = time.monotonic() + 30
        while not source.ended and time.monotonic() < deadline:
            time.sleep(0.01)
        source.close()
    assert source.ended and sum(sound.duration for _, sound in sounds) > 2.5
    assert sounds[-1][0] - sounds[0][0] == pytest.approx(3, abs=1)  # not at once, and not again and again


def test_a_raw_film_that_breaks_off_is_not_whole(tmp_path: Path):
    data = film(tmp_path / "film.h264", 1.0, sound="none").read_bytes()
    with served(data[: len(data) // 2], len(data)) as url, pytest.raises(InputError, match="the connection ended"):
        list(FileSource(url))
