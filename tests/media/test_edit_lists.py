"""Edit lists of several parts, as phones and editors save a cut, and sound that begins late in a file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from rtface.errors import InputError, OutputError
from rtface.frame import Frame
from rtface.jobs.borders import read_times
from rtface.media.read.source import FileSource
from rtface.trust.packet_hashes import hash_packets

PARTS = [(0.33, 1.0), (1.7, 2.4)]


def boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        yield kind, data[start : start + size]
        start += size


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def in_parts(film: Path, parts: list[tuple[float, float]], kinds: tuple[bytes, ...] = (b"vide", b"soun")) -> Path:
    """The film with an edit list of these seconds of its tracks; the rest stays in the file."""
    data, made = film.read_bytes(), b""
    for kind, whole in boxes(data, 0, len(data)):
        if kind == b"moov":
            inner = dict(boxes(whole, 8, len(whole)))
            movie = struct.unpack_from(">I", inner[b"mvhd"], 20)[0]
            body = b"".join(
                _track(one, parts, movie) if name == b"trak" and any(kind in one for kind in kinds) else one
                for name, one in boxes(whole, 8, len(whole))
            )
            whole = box(b"moov", body)
        made += whole
    cut = film.with_stem("parts")
    cut.write_bytes(made)
    return cut


def _track(track: bytes, parts: list[tuple[float, float]], movie: int) -> bytes:
    inner = dict(boxes(track, 8, len(track)))
    clock = struct.unpack_from(">I", dict(boxes(inner[b"mdia"], 8, len(inner[b"mdia"])))[b"mdhd"], 20)[0]
    shift = struct.unpack_from(">i", inner[b"edts"], len(inner[b"edts"]) - 8)[0] if b"edts" in inner else 0
    rows = b"".join(
        struct.pack(">IiI", round((end - start) * movie), shift + round(start * clock), 1 << 16) for start, end in parts
    )
    edits = box(b"edts", box(b"elst", struct.pack(">II", 0, len(parts)) + rows))
    rest = [one for name, one in boxes(track, 8, len(track)) if name != b"edts"]
    return box(b"trak", rest[0] + edits + b"".join(rest[1:]))


def shown(film: Path) -> tuple[list[float], list[tuple[float, bytes]]]:
    """Times of frames, and times and bytes of the packets of sound."""
    frames, sounds = list[float](), list[tuple[float, bytes]]()
    source = FileSource(film)
    for item in source:
        if isinstance(item, Frame):
            frames.append(float(item.pts * item.time_base))
        elif item.packet.stream.type == "audio" and not item.packet.is_discard:
            sounds.append((float(item.packet.pts * item.packet.time_base), bytes(item.packet)))
    source.close()
    return frames, sounds


@pytest.mark.parametrize("sound", ["aac", "pcm_s16le"])
def test_each_part_of_an_edit_list_is_at_its_time(media, tmp_path: Path, sound: str):
    whole = media.make_film(tmp_path / "whole.mov", frames=75, sound=sound, options={"bf": "2", "g": "25"})
    frames, sounds = shown(in_parts(whole, PARTS))
    assert [round(1000 * t) for t in frames[16:]] == [round(1000 * (0.67 + k / 25 - 1.7)) for k in range(43, 60)]
    times, length = {data: time for time, data in shown(whole)[1]}, 1024 / 44_100
    assert len(sounds) > 50 and all(a < b for (a, _), (b, _) in pairwise(sounds))
    for time, data in sounds[1:] if len(times) > 100 else ():
        assert any(abs(times[data] - start + begin - time) < 0.002 for start, begin in ((0.33, 0), (1.7, 0.67)))
    assert max(b - a for (a, _), (b, _) in pairwise(sounds)) < 1.6 * length


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_what_an_edit_list_hides_in_the_middle_is_not_copied(media, tmp_path: Path, suffix: str):
    cut = in_parts(media.make_film(tmp_path / "whole.mp4", frames=75, sound="aac"), PARTS)
    media.passthrough(cut, tmp_path / f"out{suffix}", strict=True)
    before, after = shown(cut), shown(tmp_path / f"out{suffix}")
    assert [data for _, data in after[1]][-40:] == [data for _, data in before[1]][-40:]
    moved = [(b[0] - after[0][0]) - (a[0] - before[0][0]) for a, b in zip(before[1][-40:], after[1][-40:], strict=True)]
    assert max(map(abs, moved)) < 0.02 and len(after[0]) == len(before[0])


def test_a_second_picture_without_its_keyframe_is_left_out(media, tmp_path: Path):
    def second(box):
        stream = box.add_stream("libx264", rate=25, options={"bf": "2", "g": "25"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"

        def write() -> None:
            for k in range(75):
                box.mux(stream.encode(media.picture(k)))
            box.mux(stream.encode(None))

        return write

    cut = in_parts(media.make_film(tmp_path / "whole.mp4", frames=75, extra=second), PARTS)
    media.passthrough(cut, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as box:
        packets = [packet for packet in box.demux(video=1) if packet.size]
    assert packets[0].is_keyframe and len(packets) == 10  # those of 2.0 to 2.4 s
    with pytest.raises(InputError, match="an edit list hides"):
        media.frames_of(cut, strict=True)


def test_transcoded_sound_has_its_parts_only(media, tmp_path: Path):
    cut = in_parts(media.make_film(tmp_path / "whole.mp4", frames=75, sound="aac"), PARTS)
    media.passthrough(cut, tmp_path / "out.webm")
    with av.open(str(tmp_path / "out.webm")) as box:
        rate, blocks = box.streams.audio[0].rate, list(box.decode(audio=0))
    assert sum(block.samples for block in blocks) / rate == pytest.approx(1.37, abs=0.05)
    assert float(blocks[-1].pts * blocks[-1].time_base) == pytest.approx(1.37, abs=0.08)


def film_with_texts(media, film: Path, rate: int, frames: int) -> Path:
    with av.open(str(film), "w") as target:
        video = target.add_stream("libx264", rate=rate)
        video.width, video.height, video.pix_fmt = 128, 96, "yuv420p"
        text = target.add_stream("mov_text")
        text.codec_context.subtitle_header = b"[Script Info]\n"
        for k in range(frames):
            target.mux(video.encode(media.picture(k)))
        target.mux(video.encode(None))
        for start, length, data in ((200, 600, b"\0\3one"), (800, 1200, b"\0\3two")):
            packet = av.Packet(data)
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts, packet.dts, packet.duration = start, start, length
            target.mux(packet)
    return film


def test_texts_are_shown_within_their_part(media, tmp_path: Path):
    cut = in_parts(film_with_texts(media, tmp_path / "texts.mp4", 25, 75), PARTS, (b"vide", b"sbtl", b"text"))
    texts = next(hashed for hashed in hash_packets(cut) if hashed.kind == "subtitle")
    assert [row.time for row in texts.rows] == pytest.approx([0, 0.47], abs=0.002)


def test_texts_of_a_film_of_few_frames_do_not_end_the_process(media, tmp_path: Path):
    film = film_with_texts(media, tmp_path / "slow.mp4", 2, 12)
    media.passthrough(film, tmp_path / "out.mp4", preset="medium")
    rows = next(hashed for hashed in hash_packets(tmp_path / "out.mp4") if hashed.kind == "subtitle").rows
    assert len(rows) == 2


def test_a_job_counts_the_frames_that_are_shown(media, tmp_path: Path):
    cut = in_parts(media.make_film(tmp_path / "whole.mp4", frames=75, options={"bf": "2", "g": "25"}), PARTS)
    times = read_times(cut)
    assert [float(t * times.base) for t in times.pts] == pytest.approx(shown(cut)[0])


def late_sound(film: Path, seconds: int) -> Path:
    """A TS or FLV whose sound begins late, behind what FFmpeg looks at."""
    with av.open(str(film), "w", options={"max_interleave_delta": "1000000"}) as target:
        video = target.add_stream("flv1" if film.suffix == ".flv" else "mpeg2video", rate=25)
        video.width, video.height, video.pix_fmt, video.bit_rate = 128, 96, "yuv420p", 200_000
        sound = target.add_stream("aac", rate=44_100 if film.suffix == ".flv" else 48_000)
        for k in range(25 * (seconds + 2)):
            frame = av.VideoFrame(128, 96, "yuv420p")
            frame.pts = k
            target.mux(video.encode(frame))
            for n in range(-(-k * 1920 // 1024), -(-(k + 1) * 1920 // 1024)) if k >= 25 * seconds else ():
                samples = av.AudioFrame("fltp", "stereo", 1024)
                for plane in samples.planes:
                    plane.update(bytes(plane.buffer_size))
                samples.sample_rate, samples.pts, samples.time_base = sound.rate, 1024 * n, Fraction(1, 48_000)
                target.mux(sound.encode(samples))
        target.mux(video.encode(None))
        target.mux(sound.encode(None))
    return film


def test_sound_that_begins_late_is_found(media, tmp_path: Path):
    film = late_sound(tmp_path / "late.ts", 12)
    media.passthrough(film, tmp_path / "out.mkv")
    assert len(shown(tmp_path / "out.mkv")[1]) == len(shown(film)[1]) > 90


def test_a_cut_between_two_frames_delays_the_first_alone(media, tmp_path: Path):
    film = media.make_film(tmp_path / "film.mp4", frames=75, sound="aac", options={"bf": "2"})
    media.passthrough(in_parts(film, [(0.51, 1.5), (2.0, 2.5)]), tmp_path / "out.mkv")
    times = shown(tmp_path / "out.mkv")[0]
    assert [time - times[0] for time in times[:3]] == pytest.approx([0, 0.05, 0.09], abs=0.002)


def unannounced(film: Path) -> Path:
    """The FLV without a word of its sound before that begins: neither in its header nor by a tag."""
    data, at, late = film.read_bytes(), 13, b""
    made = data[:4] + bytes([data[4] & ~4]) + data[5:at]
    while at < len(data):
        end = at + 11 + int.from_bytes(data[at + 1 : at + 4], "big") + 4
        tag, kind, at = data[at:end], data[at], end
        if kind == 8 and not any(tag[4:7]):
            late += tag
        elif kind != 18:
            made, late = (made + late + tag, b"") if kind == 8 else (made + tag, late)
    film.write_bytes(made)
    return film


def test_sound_that_no_header_announces_is_found(media, tmp_path: Path):
    late, end = unannounced(late_sound(tmp_path / "late.flv", 12)), tmp_path / "b.ts"
    media.passthrough(late, tmp_path / "out.mkv")
    assert len(shown(tmp_path / "out.mkv")[1]) > 70
    media.passthrough(late, tmp_path / "a.ts", codec="mpeg2video", drop=("audio",))
    media.passthrough(late_sound(tmp_path / "early.ts", 0), end, codec="mpeg2video")
    silent = (tmp_path / "a.ts").read_bytes()
    (tmp_path / "joined.ts").write_bytes(silent + end.read_bytes() + silent)
    (frames, sounds), alone = shown(tmp_path / "joined.ts"), shown(end)
    assert [data for _, data in sounds] == [data for _, data in alone[1]] and len(sounds) > 70
    place = len(shown(tmp_path / "a.ts")[0])  # of the first frame that has sound
    assert sounds[0][0] - frames[place] == pytest.approx(alone[1][0][0] - alone[0][0], abs=0.02)


def test_the_only_sound_is_not_lost_unasked(media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    film = late_sound(tmp_path / "late.ts", 12)
    for module in ("read.container", "write.stream_plan"):
        monkeypatch.setattr(f"rtface.media.{module}.FARTHEST", 0)
    with pytest.raises(OutputError, match="declares sound"):
        media.passthrough(film, tmp_path / "out.mkv")
    media.passthrough(film, tmp_path / "out.mkv", drop=("audio",))


def test_a_start_leaves_priming_packets_out(media, tmp_path: Path):
    """The seek leads to the film's beginning, whose first packet of sound the edit list hides."""
    film = media.make_film(tmp_path / "film.mp4", frames=75, sound="aac", options={"bf": "2", "g": "75"})
    media.passthrough(film, tmp_path / "out.mp4", start=2.0)
    with av.open(str(tmp_path / "out.mp4")) as out:
        times = [float(packet.dts * packet.time_base) for packet in out.demux(audio=0) if packet.size]
    assert min(times) > -0.2 and max(b - a for a, b in pairwise(times)) < 0.1


@pytest.mark.parametrize("table", [b"stts", b"ctts"])
@pytest.mark.parametrize("count", [0x7FFFFFFF, 0xFFFF])
def test_a_damaged_index_is_no_reason_to_stop(media, tmp_path: Path, table: bytes, count: int):
    cut = in_parts(media.make_film(tmp_path / "whole.mp4", frames=75, sound="aac", options={"bf": "2"}), PARTS)
    data = bytearray(cut.read_bytes())
    for place in (4, 8):  # the entries, and the samples of the first
        broken = bytearray(data)
        struct.pack_into(">I", broken, broken.index(table) + 4 + place, count)
        cut.write_bytes(broken)
        with suppress(InputError):  # FFmpeg refuses it
            FileSource(cut).close()
