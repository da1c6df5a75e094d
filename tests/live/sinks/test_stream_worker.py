"""The writer beside a transport that is told what to be: what is encoded, dropped, begun anew, and with which times."""

from __future__ import annotations

import io
from collections import Counter
from fractions import Fraction
from functools import cache
from itertools import pairwise
from types import SimpleNamespace

import av
import numpy as np
import pytest

from rtface.concurrency.shared_frames import FrameLayout
from rtface.config.options import Options
from rtface.frame import Color
from rtface.live.messages import SinkReport, WriteFrame
from rtface.live.protocols import SoundFormat, SoundPacket, VideoFormat
from rtface.live.sinks.live_encoder import EncoderScaler, LiveEncoder, tags_for
from rtface.live.sinks.stream_worker import StreamWriter, report, take_all
from rtface.live.sinks.transports import Reports, Transport, tables
from tests.live.feed import Voice, form
from tests.live.publish import stamped_image

MONO = SoundFormat(48_000, 1)


class Ear(Transport):
    """A transport that keeps what it is given, by generation."""

    behind = False

    def __init__(self, format: str) -> None:
        super().__init__(SinkReport("live", ""), Reports())
        self.format, self.generation, self.key = format, 1, False
        self.got: dict[int, bytearray] = {}

    def wants_key(self) -> bool:
        key, self.key = self.key, False
        return key

    def write(self, generation: int, data: bytes) -> None:
        self.got.setdefault(generation, bytearray()).extend(data)

    def packets(self, generation: int) -> list[tuple[str, float, bool]]:
        """Kind, time and whether an I-frame, of what a player finds."""
        with av.open(io.BytesIO(bytes(self.got[generation])), format=self.format) as box:
            return [
                (p.stream.type, float(p.pts * p.time_base), p.is_keyframe) for p in box.demux() if p.pts is not None
            ]


def encoder(**more: float) -> LiveEncoder:
    return LiveEncoder(form(320, 180), Options(encode="software", **more))


@cache
def voice(channels: int = 1) -> tuple[SoundPacket, ...]:
    return tuple(Voice(0.0, channels).until(4.5))


def show(writer: StreamWriter, *moments: float) -> list[int]:
    """Gives frames of these times; whose turn it was to be fetched."""
    asked: list[int] = []
    for number, moment in enumerate(moments):

        def image(number: int = number, moment: float = moment) -> av.VideoFrame:
            asked.append(number)
            return stamped_image(320, 180, moment)

        writer.write_frame(image, moment)
    return asked


@pytest.mark.parametrize("kind", ["flv", "mpegts"])
def test_times_go_through_and_key_frames_come_by_time(kind: str):
    ear = Ear(kind)
    writer = StreamWriter(encoder(), ear, sound=MONO)
    sounds = list(voice())
    heard: list[float] = []
    moments = np.sort(np.random.default_rng(1).uniform(0, 4, 80)) + 0.5  # a camera's rate is never quite even
    for moment in moments:
        while sounds and sounds[0].time + 0.5 < moment:
            sound = sounds.pop(0)
            writer.sound(sound, sound.time + 0.5)
            if writer.frames:  # nothing is written before the first frame
                heard.append(sound.time + 0.5)
        assert show(writer, moment) == [0]
    writer.close()
    found = ear.packets(1)
    frames = [(t, key) for what, t, key in found if what == "video"]
    assert [t for t, _ in frames] == pytest.approx(list(moments), abs=0.0011)
    assert len(frames) == writer.frames == 80 and not writer.dropped
    keys = [t for t, key in frames if key]
    assert frames[0][1] and len(keys) == 2
    for before, after in pairwise(keys):
        assert after == next(t for t, _ in frames if t - before >= 2.0 - 0.5 / 30 - 0.001)
    times = [t for what, t, _ in found if what == "audio"]
    assert times == pytest.approx(heard, abs=0.0011)


def test_without_viewers_no_work_and_a_keyframe_for_the_first():
    ear = Ear("flv")
    writer = StreamWriter(encoder(), ear, sound=None)
    ear.generation = 0
    assert show(writer, 0.0, 0.1) == [] and writer.dropped == {"away": 2}
    ear.generation = 5
    assert show(writer, 0.2, 0.3, 0.4) == [0, 1, 2]
    ear.generation = 0
    assert show(writer, 0.5) == []
    ear.generation = 6
    assert show(writer, 0.6, 0.7) == [0, 1]
    writer.close()
    assert [(t, key) for _, t, key in ear.packets(5)] == [(0.2, True), (0.3, False), (0.4, False)]
    assert [(t, key) for _, t, key in ear.packets(6)] == [(0.6, True), (0.7, False)]
    assert writer.frames == 5 and writer.dropped == {"away": 3}


def test_what_is_late_is_dropped_before_it_is_encoded():
    ear = Ear("flv")
    writer = StreamWriter(encoder(), ear, sound=None)
    assert show(writer, 0.0) == [0]
    ear.behind = True
    assert show(writer, 0.1, 0.2) == []
    assert writer.dropped == {"network": 2}
    ear.behind = False
    assert show(writer, 0.3) == [0]
    writer.close()
    data = bytes(ear.got[1])
    with av.open(io.BytesIO(data), format="flv") as box:
        assert len(list(box.decode(video=0))) == 2  # no reference is missing


def test_a_viewer_begins_with_tables_and_a_key_frame():
    ear = Ear("mpegts")
    writer = StreamWriter(encoder(), ear, sound=None)
    show(writer, *(n / 30 for n in range(20)))
    at = len(ear.got[1])
    assert at % 188 == 0
    ear.key = True
    show(writer, *(n / 30 for n in range(20, 40)))
    writer.close()
    rest = bytes(ear.got[1][at:])
    start = tables(rest)
    assert start is not None and tables(bytes(ear.got[1][at - 188 * 3 : at])) is None
    with av.open(io.BytesIO(rest[start:]), format="mpegts") as box:
        frames = list(box.decode(video=0))
    assert len(frames) == 20 and frames[0].key_frame
    assert frames[0].time == pytest.approx(20 / 30, abs=0.001)


def test_frames_do_not_wait_for_sound_one_container_header():
    ear = Ear("flv")
    writer = StreamWriter(encoder(), ear, sound=MONO)
    assert show(writer, 0.2, 0.3) == [0, 1]
    sounds = voice()
    for sound in sounds[:20]:  # the first are of a time before the first frame
        writer.sound(sound, sound.time)
    assert show(writer, 0.8) == [0]
    writer.sound(sounds[40], 0.85)
    writer.close()
    data = bytes(ear.got[1])
    assert data.count(b"FLV\x01") == 1
    heard = [t for what, t, _ in ear.packets(1) if what == "audio"]
    assert heard == pytest.approx([s.time for s in sounds[:20] if s.time > 0.2] + [0.85], abs=0.0011)
    assert [t for what, t, _ in ear.packets(1) if what == "video"] == [0.2, 0.3, 0.8]


@pytest.mark.parametrize(
    ("pix_fmt", "full", "matrix"),
    [("yuv420p", True, "bt709"), ("yuvj422p", True, "bt601"), ("nv12", False, "bt709"), ("rgb24", True, "rgb")],
)
def test_frames_come_out_in_limited_range_with_their_matrix(pix_fmt: str, full: bool, matrix: str):
    like = VideoFormat(64, 48, pix_fmt, Fraction(30), Color(matrix, full))  # type: ignore[arg-type]
    image = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 255, np.uint8), format="rgb24")
    number = {"bt709": 1, "bt601": 5, "rgb": 1}[matrix]
    image = (
        image
        if pix_fmt == "rgb24"
        else image.reformat(format=pix_fmt, dst_colorspace=number, dst_color_range=2 if full else 1)
    )
    out = EncoderScaler(like, "yuv420p")(image)
    assert out.format.name == "yuv420p" and int(out.color_range) == 1
    assert int(out.colorspace) == tags_for(like.color).matrix == {"bt709": 1, "bt601": 6, "rgb": 1}[matrix]
    planes = [np.frombuffer(p, np.uint8).reshape(p.height, p.line_size)[:, : p.width] for p in out.planes]
    assert abs(int(planes[0].mean()) - 235) <= 1 and all(abs(int(p.mean()) - 128) <= 1 for p in planes[1:])


def test_odd_sizes_and_encoders_that_are_not_there_are_said():
    odd = LiveEncoder(form(321, 181), Options(encode="software"))
    assert (odd.width, odd.height) == (320, 180) and "321×181 becomes 320×180" in odd.notes[0]
    assert odd.encode(stamped_image(322, 182, 0.0), 0.0, key=True)
    from rtface.media.cuda import driver

    if driver.absent():
        gpu = LiveEncoder(form(), Options(encode="cuda"))
        assert gpu.name == "libx264" and "h264_nvenc cannot be used" in gpu.notes[0]


class Said:
    """A parent that has sent all its messages, and ends."""

    def __init__(self, messages: list[WriteFrame]) -> None:
        self._messages, self.gone = list(messages), False

    def receive(self, timeout: float | None = None) -> WriteFrame | None:
        return self._messages.pop(0) if self._messages else None


class Taken:
    """A writer and a ring of frames that note what they are given."""

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self.times: list[float] = []
        self.freed: list[int] = []

    def write_frame(self, image: object, seconds: float) -> None:
        self.times.append(seconds)

    def get(self, slot: int, like: FrameLayout) -> None:
        raise AssertionError("no frame is looked at")

    def free(self, slot: int) -> None:
        self.freed.append(slot)


@pytest.mark.parametrize(("count", "dropped"), [(5, 0), (9, 4)])
def test_a_burst_of_frames_is_encoded_as_far_as_it_may_wait(count: int, dropped: int):
    taken, like = Taken(), FrameLayout(64, 48, "yuv420p", (64, 32, 32))
    take_all(Said([WriteFrame(k / 30, k, like) for k in range(count)]), taken, taken)  # pyright: ignore
    assert taken.times == [k / 30 for k in range(dropped, count)]
    assert taken.dropped["encoder"] == dropped
    assert sorted(taken.freed) == list(range(count))


def test_no_older_status_is_reported_after_a_newer_one():
    ear, reports, sent = Ear("mpegts"), Reports(), list[SinkReport]()
    for status in (
        SinkReport("live", "no viewers", viewers=0),
        SinkReport("live", "1 viewer", viewers=1),
    ):
        ear.status = status
        reports.put(status)
    reports.put(None)
    report(SimpleNamespace(send=sent.append), StreamWriter(encoder(), ear, sound=None), ear, reports)  # pyright: ignore
    assert {message.viewers for message in sent} == {1}
