"""Times: what a film says, what it should have said, and cuts."""

from __future__ import annotations

import io
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest

from rtface.errors import InputError, UsageError
from rtface.frame import Frame
from rtface.media.formats.color import ColorTags
from rtface.media.read.faults import Faults
from rtface.media.read.timeline import Cut, OtherStreams, RisingTimestamps
from rtface.media.write.encoders import VideoPlan
from rtface.media.write.frame_encoder import FrameEncoder
from rtface.stats import Stats

UNEVEN = [0, 33, 100, 117, 250, 251, 400, 1200, 1240, 1290]


@pytest.mark.parametrize(("suffix", "times"), [(".ts", []), (".mkv", [33 * k for k in range(10)]), (".mp4", UNEVEN)])
def test_an_encoder_that_counts_frames_keeps_their_times(media, tmp_path: Path, suffix: str, times: list[int]):
    """MPEG-2 takes the rates of its standard only, and no times."""
    source = media.make_film(tmp_path / "in.mkv", **({"pts_ms": times} if times else {}))
    media.passthrough(source, tmp_path / f"out{suffix}", codec="mpeg2video")
    after = [t for t, _ in media.decoded(tmp_path / f"out{suffix}")]
    assert [round(1000 * (t - after[0])) for t in after] == [round(1000 * t) for t, _ in media.decoded(source)]
    with av.open(str(tmp_path / f"out{suffix}")) as box:
        packets = [packet for packet in box.demux(video=0) if packet.size]
    assert packets[0].stream.codec_context.name == "mpeg2video"
    assert all(a.dts < b.dts for a, b in pairwise(packets)) and all(p.dts <= p.pts for p in packets)


def test_mpeg_4_takes_the_times_of_a_transport_stream(media, tmp_path: Path):
    source = media.make_film(tmp_path / "in.ts", frames=10)
    media.passthrough(source, tmp_path / "out.mkv", codec="mpeg4")
    before, after = ([t for t, _ in media.decoded(path)] for path in (source, tmp_path / "out.mkv"))
    assert after == pytest.approx([t - before[0] for t in before], abs=0.001)


@pytest.mark.parametrize(
    ("rate", "suffix"),
    [
        (Fraction(30000, 1001), ".mp4"),
        (Fraction(24000, 1001), ".mov"),
        (120, ".mp4"),
        (1, ".mov"),
    ],
)
def test_rates_stay_exact_fractions(media, tmp_path: Path, rate: Fraction | int, suffix: str):
    source = media.make_film(tmp_path / "in.mp4", rate=rate)
    media.passthrough(source, tmp_path / f"out{suffix}")
    opened = media.open(tmp_path / f"out{suffix}")
    assert opened.info.rate == rate
    assert [t for t, _ in media.decoded(tmp_path / f"out{suffix}")] == [t for t, _ in media.decoded(source)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_second_track_keeps_times_and_order(media, tmp_path: Path, suffix: str):
    """Matroska's first frames with B-frames come without a dts, so that only the order says what is decoded first."""
    both = tmp_path / "both.mkv"
    media.make_film(tmp_path / "in.mp4", frames=25, options={"preset": "medium", "bf": "3", "b-adapt": "0"})
    with av.open(str(tmp_path / "in.mp4")) as source, av.open(str(both), "w") as target:
        tracks = [target.add_stream_from_template(source.streams.video[0]) for _ in range(2)]
        for packet in source.demux(video=0):
            again = av.Packet(bytes(packet))
            again.time_base, again.pts, again.dts = packet.time_base, packet.pts, packet.dts
            again.is_keyframe = packet.is_keyframe
            for track, each in zip(tracks, (packet, again), strict=True):
                if each.size:
                    each.stream = track
                    target.mux(each)
    with av.open(str(both)) as box:
        assert next(packet for packet in box.demux(video=1) if packet.pts).dts is None
    media.passthrough(both, tmp_path / f"out{suffix}")
    before, after = media.decoded(both, 1), media.decoded(tmp_path / f"out{suffix}", 1)
    assert len(after) == 25 and after == before


def test_the_last_frame_is_there_whatever_the_length(media, tmp_path: Path):
    """FFmpeg ends the edit list too soon when the picture shown last is coded before a fragment's border."""
    sent = media.decoded(media.make_film(tmp_path / "in.mkv", frames=40, codec="ffv1"))
    for length in range(10, 41, 3):
        output = tmp_path / f"{length}.mp4"
        media.passthrough(tmp_path / "in.mkv", output, crf=30, end=length / 25)
        assert [t for t, _ in media.decoded(output)] == [t for t, _ in sent[:length]]
        with av.open(str(output)) as box:
            assert box.duration == length * 40_000


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize(("codec", "suffix"), [("h264", ".mp4"), ("h265", ".mp4"), ("h265", ".mkv"), ("ffv1", ".mkv")])
def test_the_shortest_films(media, tmp_path: Path, length: int, codec: str, suffix: str):
    source = media.make_film(tmp_path / "in.mkv", frames=length, codec="ffv1")
    media.passthrough(source, tmp_path / f"out{suffix}", codec=codec)
    assert [t for t, _ in media.decoded(tmp_path / f"out{suffix}")] == [Fraction(n, 25) for n in range(length)]


@pytest.mark.parametrize("off", [-9000, -13_000])  # within a second of the film, and the first packet out of it
def test_a_film_of_two_frames_takes_no_times_out_of_bare_memory(off: int):
    """As libx265 gives them."""
    coded = [av.Packet(b"coded") for _ in range(2)]
    for number, packet in enumerate(coded):
        packet.pts, packet.dts = 512 * number, 512 * number + off
    stream: Any = SimpleNamespace(encode=lambda image: [] if image else coded)
    unit = Fraction(1, 12_800)
    plan = VideoPlan("libx265", "yuv420p", 64, 48, Fraction(25), unit, ColorTags(), None)
    encoder = FrameEncoder(stream, plan, Fraction(0), Stats())
    for number in range(2):
        assert not encoder.encode(Frame(av.VideoFrame(64, 48, "yuv420p"), 512 * number, unit))
    assert [(packet.pts, packet.dts) for packet in encoder.flush()] == [(0, 0), (512, 512)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_film_that_begins_late_begins_at_nought(media, tmp_path: Path, suffix: str):
    source = media.make_film(tmp_path / "in.mkv", frames=25, sound="aac", start_ms=5_000_000, sound_start_ms=5_000_100)
    media.passthrough(source, tmp_path / f"out{suffix}")
    before, after = media.first_times(source), media.first_times(tmp_path / f"out{suffix}")
    assert before["video"] > 4999 and 0 <= after["video"] < 0.2
    assert abs((after["audio"] - after["video"]) - (before["audio"] - before["video"])) < 1 / 25


def test_an_edit_list_cuts_picture_and_sound_alike(media, tmp_path: Path):
    """A stream copy that starts inside a group of pictures: what lies before the cut is not shown, nor heard."""
    whole = media.make_film(tmp_path / "whole.mp4", frames=50, sound="aac")
    cut = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as box:
        streams = {s.index: box.add_stream_from_template(s, opaque=True) for s in source.streams}
        for packet in source.demux():
            if packet.size:
                for name in ("pts", "dts"):  # everything 1 s earlier: negative times become an edit list
                    setattr(packet, name, getattr(packet, name) - round(1 / packet.time_base))
                packet.stream = streams[packet.stream_index]
                box.mux(packet)
    frames, _ = media.frames_of(cut)
    assert len(frames) == 25
    media.passthrough(cut, tmp_path / "out.mkv", crf=0)
    with av.open(str(tmp_path / "out.mkv")) as box:
        times = [float(f.time) for f in box.decode(audio=0)]
        assert times[-1] - times[0] < 1.2
    assert [s for _, s in media.decoded(tmp_path / "out.mkv")] == [media.samples(f.image) for f in frames]
    for suffix in (".mkv", ".ts"):  # where no edit list hides the sound before the first frame
        media.passthrough(cut, tmp_path / f"out{suffix}", crf=0)
        begins = media.first_times(tmp_path / f"out{suffix}")
        assert -0.001 < begins["video"] - begins["audio"] < 1024 / 44_100


def test_no_timestamps_are_counted_and_said(media, tmp_path: Path):
    source = media.make_film(tmp_path / "in.h264", frames=10)
    frames, stats = media.frames_of(source)
    assert [f.time for f in frames] == pytest.approx([i / 25 for i in range(10)])
    assert "assumed" in stats.warnings["pts_missing"]


def test_times_that_go_back_are_made_to_rise_with_one_warning(media, tmp_path: Path):
    first = media.make_film(tmp_path / "a.ts", frames=10)
    second = media.make_film(tmp_path / "b.ts", frames=10)
    (tmp_path / "in.ts").write_bytes(first.read_bytes() + second.read_bytes())
    frames, stats = media.frames_of(tmp_path / "in.ts")
    times = [f.time for f in frames]
    assert len(times) == 20 and times == sorted(set(times))
    assert all(b - a == pytest.approx(0.04) for a, b in pairwise(times))
    assert list(stats.warnings) == ["pts_repaired"] and stats.counters["pts_repaired"] == 1
    media.passthrough(tmp_path / "in.ts", tmp_path / "out.mp4")
    with pytest.raises(InputError, match="go back"):
        media.frames_of(tmp_path / "in.ts", strict=True)


def test_times_of_sound_that_go_back_are_said(media, tmp_path: Path):
    for name in ("a.ts", "b.ts"):
        media.make_film(tmp_path / name, frames=10, sound="aac")
    (tmp_path / "in.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    _, stats = media.frames_of(tmp_path / "in.ts")
    assert "stream 1: timestamps of its packets do not increase" in stats.warnings["packet_times:1"]


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([0, 40, 80], [0, 40, 80]),
        ([None, None, None], [0, 40, 80]),
        ([0, None, 80], [0, 40, 80]),
        ([0, 40, 40, 40, 200], [0, 40, 80, 120, 200]),
        ([0, 40, 30, 120], [0, 40, 41, 120]),
        ([0, 40, 80, 0, 40, 80], [0, 40, 80, 120, 160, 200]),
        ([0, 40, -9000, 120, 160], [0, 40, 80, 120, 160]),
        ([0, 40, 9000, 120, 160], [0, 40, 80, 120, 160]),
        ([0, 40, 9000, 9040], [0, 40, 9000, 9040]),
    ],
)
def test_rising(stamps: list[int | None], expected: list[int]):
    clock = RisingTimestamps(Fraction(40), Fraction(60))
    following = [*stamps[1:], None]
    assert [
        clock.next(s, after if clock.ahead(s) > 1000 else None)[0] for s, after in zip(stamps, following, strict=True)
    ] == expected


def test_counting_does_not_drift():
    clock = RisingTimestamps(Fraction(1001, 30), Fraction(50))
    assert [clock.next(None)[0] for _ in range(31)][-1] == 1001


@pytest.mark.parametrize(
    ("start", "end", "suffix"),
    [
        (0.6, 1.0, ".mp4"),
        (0.6, 1.0, ".mkv"),
        (0.6, 1.0, ".ts"),
        (0.5, None, ".mkv"),
        (None, 0.8, ".mp4"),
        (1.9, None, ".ts"),
        (1.9, None, ".mp4"),
    ],
)
def test_cuts(media, tmp_path: Path, suffix: str, start: float | None, end: float | None):
    source = media.make_film(tmp_path / f"in{suffix}", frames=50, sound="aac", options={"preset": "medium", "g": "20"})
    every = media.decoded(source)
    with av.open(str(source)) as box:
        zero = Fraction(box.start_time, 1_000_000)
    want = [(t - zero, s) for t, s in every if (start or 0) - 1e-3 <= t - zero < (end or 99) - 1e-3]
    frames, _ = media.frames_of(source, start=start, end=end)
    assert [media.samples(f.image) for f in frames] == [s for _, s in want]
    media.passthrough(source, tmp_path / "out.mp4", start=start, end=end, crf=0)
    cut = media.decoded(tmp_path / "out.mp4")
    assert [s for _, s in cut] == [s for _, s in want]
    shift = zero if start is None else -Fraction(start)  # a small offset at the beginning of a whole film stays
    assert all(abs(t - (w + shift)) < 0.025 for (t, _), (w, _) in zip(cut, want, strict=True))
    with av.open(str(tmp_path / "out.mp4")) as box:
        sound = [p for p in box.demux(audio=0) if p.size and p.pts is not None]
        last = sound[-1]
        assert abs(float((last.pts + last.duration) * last.time_base) - float(cut[-1][0]) - 0.04) < 0.1


def test_a_cut_where_nothing_can_be_sought(media, tmp_path: Path):
    """A bare stream has neither times nor index: it is decoded from its beginning."""
    source = media.make_film(tmp_path / "in.h264", frames=50)
    every = [media.samples(f.image) for f in media.frames_of(source)[0]]
    frames, _ = media.frames_of(source, start=1.0, end=1.4)
    assert [f.time for f in frames] == pytest.approx([1 + i / 25 for i in range(10)])
    assert [media.samples(f.image) for f in frames] == every[25:35]


def test_a_cut_keeps_sound_and_picture_together(media, tmp_path: Path):
    """A tone that begins with a certain picture still begins with it."""
    source = media.make_film(tmp_path / "in.mp4", frames=50, sound="aac", sound_start_ms=1000, sound_ms=800)
    marker = {s: t for t, s in media.decoded(source)}
    media.passthrough(source, tmp_path / "out.mkv", start=0.4, crf=0)
    times = media.first_times(tmp_path / "out.mkv")
    shifted = {s: t for t, s in media.decoded(tmp_path / "out.mkv")}
    shift = next(marker[s] - t for s, t in shifted.items())
    assert abs(float(times["audio"] + shift) - 1.0) < 0.04


@pytest.mark.parametrize("kwargs", [{"start": 5.0}, {"start": -1.0}, {"start": 1.0, "end": 0.5}, {"end": 0.0}])
def test_cuts_that_leave_nothing(media, tmp_path: Path, kwargs: dict[str, float]):
    source = media.make_film(tmp_path / "in.mp4", frames=25)
    with pytest.raises(UsageError):
        media.open(source, **kwargs)


def test_cut_times_are_the_input_s_own(media, tmp_path: Path):
    source = media.make_film(tmp_path / "in.mkv", frames=50, start_ms=100_000)
    opened = media.open(source, start=1.0)
    first = next(i for i in opened if isinstance(i, Frame))
    assert first.time == pytest.approx(101.0) and opened.info.origin == 101 and opened.info.clock_start == 100
    assert opened.info.duration_s == pytest.approx(1.0, abs=0.05)


def test_chapters_and_subtitles_follow_a_cut(media, tmp_path: Path):
    source = media.make_film(
        tmp_path / "in.mkv", frames=50, chapters=[(0, 500, "One"), (500, 1500, "Two"), (1500, 2000, "Three")]
    )
    media.passthrough(source, tmp_path / "out.mkv", start=1.0, end=1.4)
    with av.open(str(tmp_path / "out.mkv")) as box:
        (chapter,) = box.chapters()
        assert chapter["metadata"]["title"] == "Two"
        assert float(chapter["start"] * chapter["time_base"]) == 0
        assert float(chapter["end"] * chapter["time_base"]) == pytest.approx(0.4)


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_avi_knows_only_the_order_of_decoding(media, tmp_path: Path, codec: str):
    """Times that a demuxer makes up for B-frames in AVI go back and forth; the pictures come evenly all the same."""
    source = media.make_film(
        tmp_path / "in.avi",
        frames=20,
        codec=codec,
        options={"bf": "2", "b-adapt": "0"} if codec == "libx264" else {"bf": "2"},
    )
    frames, stats = media.frames_of(source)
    assert len(frames) == 20 and not stats.warnings
    assert {b.pts - a.pts for a, b in pairwise(frames)} == {1}


@pytest.mark.parametrize(("stamps", "moved"), [((0, 1, 9000, 3, 4), 0), ((0, 1, 9000, 9001, 0), 9002)])
def test_splices_move_later_streams_and_damaged_stamps_do_not(stamps: tuple[int, ...], moved: int) -> None:
    others, clock, base = OtherStreams(Cut(Fraction(0))), RisingTimestamps(Fraction(1), Fraction(12)), Fraction(1, 25)
    with av.open(io.BytesIO(), "w", format="matroska") as box:
        film, sound = box.add_stream("mpeg4", rate=25), box.add_stream("pcm_s16le", rate=48000)
        for stamp in stamps:
            frame: av.Packet[Any] = av.Packet(b"frame")
            frame.stream, frame.time_base, frame.dts = film, base, stamp
            others.follow(frame, clock)
        late: av.Packet[Any] = av.Packet(b"late")
        late.stream, late.time_base, late.pts, late.dts = sound, base, 5, 5
        said = others.cut(late, Faults("film", Stats(logs=False), strict=False))
    assert said is not None and said.packet.dts == 5 + moved
