"""What has nothing to do with faces comes through: sound, subtitles, tags, turns, colour, fields, captions."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext

from rtface.errors import InputError, OutputError, UsageError
from rtface.frame import Frame
from rtface.media.formats.mp4_texts import TextTrack
from rtface.media.read.source import FileSource
from rtface.media.write import muxer
from rtface.media.write.file_sink import FileSink
from rtface.media.write.stream_choice import StreamPlan
from rtface.media.write.stream_plan import plan_output
from rtface.stats import Stats
from rtface.trust.packet_hashes import hash_packets
from tests.media.encoded import coded, interlaced_film, television

SRT = [(200, 700, "Good evening."), (900, 1500, "<i>And</i> good night.")]


def subtitles(events: list[tuple[int, int, str]] = SRT) -> Callable[[Any], Callable[[], None]]:
    """Adds a subtitle stream: start and end in milliseconds, and text, of each event."""

    def add(box: Any) -> Callable[[], None]:
        stream = box.add_mux_stream("subrip")
        stream.time_base = Fraction(1, 1000)
        stream.metadata["language"] = "fra"

        def write() -> None:
            for start, end, text in events:
                packet = av.Packet(text.encode())
                packet.stream, packet.time_base = stream, Fraction(1, 1000)
                packet.pts = packet.dts = start
                packet.duration = end - start
                box.mux(packet)

        return write

    return add


def cues(path: Path) -> list[tuple[float, float, str]]:
    """Subtitle events: start, end and bare text."""
    found = []
    with av.open(str(path)) as box:
        stream = box.streams.subtitles[0]
        for packet in box.demux(stream):
            if packet.size and packet.pts is not None:
                for event in stream.decode(packet):
                    text = re.sub(r"\{\\\w+\}", "", event.dialogue.decode()).strip()  # without styling
                    if text:
                        start = float(packet.pts * packet.time_base)
                        found.append((start, start + float(packet.duration * packet.time_base), text))
    return found


def times_of(path: Path, kind: str) -> list[float]:
    """Seconds at which the packets of a stream are shown."""
    with av.open(str(path)) as box:
        stream = next(s for s in box.streams if s.type == kind)
        return [float(p.pts * p.time_base) for p in box.demux(stream) if p.size and p.pts is not None]


@pytest.fixture(scope="module")
def subtitled(media, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return media.make_film(tmp_path_factory.mktemp("film") / "in.mkv", frames=50, extra=subtitles())


def test_a_stream_of_an_unknown_codec_is_left_out(media, subtitled: Path, tmp_path: Path):
    source = tmp_path / "in.mkv"
    source.write_bytes(subtitled.read_bytes().replace(b"S_TEXT/UTF8", b"S_TEXT/XXXX"))
    media.passthrough(source, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as box:
        assert [stream.type for stream in box.streams] == ["video"]


@pytest.mark.parametrize(
    "events",
    [
        [(200, 900, "One."), (1000, 1700, "Two.")],
        [(100, 1800, "Sign."), (600, 900, "Speech."), (1000, 1200, "Speech.")],
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_texts_move_no_packet_of_another_stream(media, tmp_path: Path, suffix: str, events: list[tuple[int, int, str]]):
    source, stats = media.make_film(tmp_path / "in.mkv", frames=50, sound="aac", extra=subtitles(events)), Stats()
    media.passthrough(source, tmp_path / f"out{suffix}", stats=stats)
    assert ("texts_joined" in stats.warnings) == (len(events) == 3)
    for kind in ("audio", "video"):
        before, after = (sorted(times_of(path, kind)) for path in (source, tmp_path / f"out{suffix}"))
        assert after == pytest.approx(before, abs=0.0015)
    seen = [
        (start, end, "\n".join(text for begin, last, text in events if begin <= start and last >= end))
        for start, end in pairwise(sorted({time for begin, last, _ in events for time in (begin, last)}))
    ]
    shown = [one for one in seen if one[2]]
    assert len(hash_packets(tmp_path / f"out{suffix}")[2].rows) == len(shown)  # the blanks are the muxer's
    assert cues(tmp_path / f"out{suffix}") == [
        (pytest.approx(start / 1000), pytest.approx(end / 1000), text) for start, end, text in shown
    ]


def test_long_silence_between_texts_keeps_their_times():
    with av.open(io.BytesIO(), "w", format="mp4") as box:
        stream = box.add_stream("mov_text")
        stream.time_base = Fraction(1, 1_000_000)
        track = TextTrack(stream)
        begins: list[int] = []
        for begin in (0, 3 << 30):
            text = av.Packet(b"\0\1a")
            text.time_base, text.pts, text.dts, text.duration = Fraction(1, 1_000_000), begin, begin, 1000
            begins += [made.dts or 0 for part in track.split(text, 0) for made in track.put(part)]
    assert (3 << 30) in begins and max(np.diff(begins)) < 1 << 31


@pytest.mark.parametrize("drop", ["1", "subtitle"])
def test_a_stream_can_be_left_out(media, subtitled: Path, tmp_path: Path, drop: str):
    for number in ("0", "7"):  # 0 holds the frames
        with pytest.raises(UsageError, match=rf"--drop {number}: .* it has 1 \(subtitle, subrip\)"):
            media.passthrough(subtitled, tmp_path / "out.mkv", drop=[number])
    plan = media.passthrough(subtitled, tmp_path / "out.ts", drop=[drop], strict=True)
    assert any("stream 1 (subtitle, subrip) is left out" in note for note in plan.notes)
    with av.open(str(tmp_path / "out.ts")) as box:
        assert [stream.type for stream in box.streams] == ["video"]


def test_a_sparse_subtitle_does_not_hold_the_film_back(media, tmp_path: Path):
    """MP4's header waits for every stream; a subtitle that comes late must not keep the film in memory."""
    source = media.make_film(
        tmp_path / "in.mkv", frames=100, rate=12, size=(32, 32), extra=subtitles([(6500, 7000, "Late.")])
    )
    opened = media.open(source)
    plan = plan_output(opened.info, tmp_path / "out.mp4", preset="ultrafast")
    sink = FileSink(plan, threads=1)
    sizes = []
    for item in opened:
        sink.write(item)
        sizes.append(next(tmp_path.glob(".out.*")).stat().st_size)
    sink.finish()
    assert sizes[len(sizes) // 2] > 0
    assert [t for *_, t in cues(tmp_path / "out.mp4")] == ["Late."]


@pytest.mark.parametrize(("codec", "silent_sound"), [("aac", True), ("aac", False), ("ac3", True)])
def test_a_sound_stream_that_starts_late_or_never(media, tmp_path: Path, silent_sound: bool, codec: str):
    source = media.make_film(
        tmp_path / "in.mkv",
        frames=100,
        rate=12,
        size=(32, 32),
        sound=codec,
        sound_ms=40 if silent_sound else 500,
        sound_start_ms=6500,
    )
    media.passthrough(source, tmp_path / "out.mp4", crf=0)
    before, after = media.decoded(source), media.decoded(tmp_path / "out.mp4")
    assert [s for _, s in before] == [s for _, s in after]
    starts = times_of(tmp_path / "out.mp4", "audio")[0] - float(after[0][0]), times_of(source, "audio")[0]
    assert abs(starts[0] - starts[1] + float(before[0][0])) < 1 / 12


def test_odd_chapters_are_said_where_they_end(media, tmp_path: Path):
    marks = [(0, 400, "One"), (200, 200, "Mark"), (300, 900, "Overlap")]
    opened = media.open(media.make_film(tmp_path / "in.mkv", frames=25, chapters=marks))
    notes = plan_output(opened.info, tmp_path / "out.mp4").notes
    assert len([note for note in notes if "1 of 3 chapters" in note]) == 2
    with pytest.raises(OutputError, match="1 of 3 chapters"):
        plan_output(opened.info, tmp_path / "out.mp4", strict=True)


def test_fragments_that_begin_late_are_whole(media, tmp_path: Path):
    """Segments of a stream put together, as by a downloader: times begin at 6 s."""
    media.make_film(
        tmp_path / "all.mp4",
        frames=200,
        options={"g": "25", "preset": "ultrafast"},
        mux={"movflags": "frag_keyframe+empty_moov+default_base_moof"},
    )
    data = (tmp_path / "all.mp4").read_bytes()
    fragments = [at - 4 for at in range(len(data)) if data.startswith(b"moof", at)]
    (tmp_path / "in.mp4").write_bytes(data[: fragments[0]] + data[fragments[6] :])
    frames, stats = media.frames_of(tmp_path / "in.mp4", strict=True)
    assert (frames[0].time, len(frames)) == (6, 50) and not stats.warnings
    assert media.open(tmp_path / "in.mp4").info.duration_s == pytest.approx(2, abs=0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="scheduling policies of Linux")
def test_av1_makes_no_thread_real_time(media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """SVT-AV1 does, as root; a process that was started later then kept a core to itself."""
    policies: set[int] = set()
    encode = FileSink.write

    def observed(sink: FileSink, item: Frame) -> None:
        encode(sink, item)
        tasks = Path("/proc/self/task").iterdir()
        policies.update(os.sched_getscheduler(int(task.name)) for task in tasks)

    monkeypatch.setattr(FileSink, "write", observed)
    media.passthrough(media.make_film(tmp_path / "in.mp4", frames=3), tmp_path / "out.mkv", codec="av1")
    assert policies == {os.SCHED_OTHER}


def test_fields_behind_progressive_frames_are_fields(media, tmp_path: Path):
    source = television(tmp_path / "in.ts", ["prog"] * 3 + ["tff"] * 3)
    assert [f.display.fields for f in media.frames_of(source)[0]] == ["progressive"] * 3 + ["tff"] * 3
    media.passthrough(source, tmp_path / "out.ts")
    assert {f.display.fields for f in media.frames_of(tmp_path / "out.ts")[0]} == {"tff"}


def test_an_order_of_fields_that_changes_is_said(tmp_path: Path):
    source, stats = television(tmp_path / "in.ts", ["bff"] * 2 + ["tff"] * 2), Stats()
    assert [f.display.fields for f in FileSource(source, stats=stats)] == ["bff"] * 2 + ["tff"] * 2
    said = "bottom field first to top field first at 0:00:00.08"
    assert [line for line in stats.warnings.values() if said in line]
    with pytest.raises(InputError, match="field first"):
        list(FileSource(source, strict=True))


@pytest.mark.parametrize(("order", "said"), [("tff", 3), ("bff", 4)])
def test_h264_says_which_field_comes_first(media, tmp_path: Path, order: str, said: int):
    """In pic_struct of its picture timing (H.264, D.1.3), which decoders hide."""
    source = interlaced_film(tmp_path / "in.mkv", [media.picture(i) for i in range(3)], order)
    media.passthrough(source, tmp_path / "out.mkv", crf=20)
    assert {data[data.index(b"\x06\x01\x01") + 3] >> 4 for data in coded(tmp_path / "out.mkv")} == {said}


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_sound_announced_but_absent_is_left_out(media, tmp_path: Path, suffix: str):
    """A broadcast announces a second language and sends nothing of it: rate and channels are unknown."""
    whole = media.make_film(tmp_path / "whole.ts", sound="aac")
    with av.open(str(whole)) as box:
        lost = box.streams.audio[0].id
    data = whole.read_bytes()
    packets = [data[i : i + 188] for i in range(0, len(data), 188)]
    (tmp_path / "in.ts").write_bytes(b"".join(p for p in packets if (p[1] & 31) << 8 | p[2] != lost))
    plan = media.passthrough(tmp_path / "in.ts", tmp_path / f"out{suffix}")
    assert [n for n in plan.notes if "declares" in n] == plan.notes
    with av.open(str(tmp_path / f"out{suffix}")) as box:
        assert not box.streams.audio
    assert len(media.decoded(tmp_path / f"out{suffix}")) == 10


def test_announced_sound_that_comes_late_is_warned_of(media, tmp_path: Path):
    opened = media.open(media.make_film(tmp_path / "in.mkv", sound="aac"))
    plan = plan_output(opened.info, tmp_path / "out.mkv")
    stats, sound = Stats(), next(s for s in opened.info.streams if s.kind == "audio")
    sound.template = Absent()  # type: ignore[assignment]
    plan.streams[:] = [StreamPlan(sound, "drop")]
    media.feed(opened, FileSink(plan, stats))
    assert sum("starts too late" in w for w in stats.warnings.values()) == 1


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".ts", ".webm"])
def test_pcm_without_speakers_at_a_high_rate(media, tmp_path: Path, suffix: str):
    """PCM in Matroska names no speakers, and 192 kHz is more than AAC has."""

    def sound(box: Any) -> Callable[[], None]:
        stream = box.add_stream("pcm_s16le", rate=192_000)
        stream.codec_context.layout = "stereo"

        def write() -> None:
            frame = av.AudioFrame.from_ndarray(np.full((1, 2 * 76_800), 900, np.int16), "s16", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = 192_000, 0, Fraction(1, 192_000)
            box.mux(stream.encode(frame))

        return write

    source = media.make_film(tmp_path / "in.mkv", extra=sound)
    media.passthrough(source, tmp_path / f"out{suffix}")
    with av.open(str(tmp_path / f"out{suffix}")) as box:
        assert box.streams.audio[0].codec_context.channels == 2
        assert sum(f.samples / f.sample_rate for f in box.decode(audio=0)) == pytest.approx(0.4, abs=0.1)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_much_sound_before_the_first_picture(media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str):
    """The muxer does not wait for the picture."""
    monkeypatch.setattr(muxer, "SILENT_BYTES", 6_000)
    monkeypatch.setattr(muxer, "WAITING_BYTES", 6_000)
    film = media.make_film(tmp_path / "in.mkv", start_ms=2000, sound="ac3", sound_ms=2400)
    media.passthrough(film, tmp_path / f"out{suffix}", crf=0)
    before, after = media.decoded(film), media.decoded(tmp_path / f"out{suffix}")
    assert [s for _, s in before] == [s for _, s in after]
    assert coded(film, "audio") == coded(tmp_path / f"out{suffix}", "audio")
    shift, times = float(after[0][0] - before[0][0]), times_of(tmp_path / f"out{suffix}", "audio")
    assert times == pytest.approx([time + shift for time in times_of(film, "audio")], abs=0.002)


class Absent:
    """A sound stream of which nothing is known."""

    class codec_context:  # noqa: N801 - the name that PyAV has
        channels = sample_rate = 0


@pytest.mark.parametrize("kind", ["h264", "hevc"])
def test_columns_that_a_stream_hides_at_its_left_stay_hidden(media, tmp_path: Path, kind: str):
    """FFmpeg's decoders show them where the rest does not begin at a multiple of 32 samples."""
    options = {"x265-params": "log-level=none"}
    film = media.make_film(tmp_path / "film.mkv", codec={"h264": "libx264", "hevc": "libx265"}[kind], options=options)
    with av.open(film) as source, av.open(tmp_path / "in.mkv", "w") as box:
        stream = box.add_stream_from_template(source.streams.video[0])
        hide = BitStreamFilterContext(f"{kind}_metadata=crop_left=16", source.streams.video[0], stream)
        for packet in source.demux(video=0):
            for changed in hide.filter(packet if packet.size else None):
                changed.stream = stream
                box.mux(changed)
    whole, cropped = media.frames_of(film)[0], media.frames_of(tmp_path / "in.mkv")[0]
    assert len(cropped) == len(whole) == 10
    for before, after in zip(whole, cropped, strict=True):
        luma = after.image.to_ndarray(format="gray")
        assert (luma == before.image.to_ndarray(format="gray")[:, 16:]).all()
    media.passthrough(tmp_path / "in.mkv", tmp_path / "out.mp4", crf=0)
    assert media.frames_of(tmp_path / "out.mp4")[0][0].image.width == cropped[0].image.width


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_u8"])
def test_a_gap_in_pcm_becomes_silence_of_its_length(media, tmp_path: Path, codec: str) -> None:
    """MOV holds no times of PCM, so that the sound behind a gap would come too early."""
    source, output, kind = tmp_path / "in.mkv", tmp_path / "out.mov", "s16" if codec == "pcm_s16le" else "u8"
    noise = np.random.default_rng(1).integers(1, 127, (1, 9600)).astype(np.int16 if kind == "s16" else np.uint8)
    with av.open(str(source), "w") as box:
        video, sound = box.add_stream("mpeg4", rate=25), box.add_stream(codec, rate=48000)
        video.width, video.height, video.pix_fmt, sound.layout = 64, 48, "yuv420p", "mono"
        for number in range(50):
            picture = av.VideoFrame.from_ndarray(np.full((72, 64), 90, np.uint8), "yuv420p")
            picture.pts = number
            box.mux(video.encode(picture))
        for start in (0, 57600):
            for at in range(0, 9600, 960):
                block = av.AudioFrame.from_ndarray(noise[:, at : at + 960], kind, "mono")
                block.sample_rate, block.pts = 48000, start + at
                box.mux(sound.encode(block))
        box.mux([*video.encode(None), *sound.encode(None)])
    media.passthrough(source, output)
    with av.open(str(output)) as made:
        samples = np.concatenate([frame.to_ndarray().ravel() for frame in made.decode(audio=0)])
    assert samples.size == 67200
    np.testing.assert_array_equal(samples[57600:], noise[0])
    assert set(samples[9600:57600].tolist()) == {0 if kind == "s16" else 128}
