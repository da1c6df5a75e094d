"""Inputs that are cut, empty, damaged, mislabelled, or not what they seem: they work, or say why not in one line."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest

from rtface.errors import InputError, InputMissing
from rtface.media.read import container
from rtface.media.read.source import FileSource
from rtface.report import Report
from rtface.stats import Stats
from tests.media.encoded import coded, encoded, torn_jpegs, with_bytes, without_frames, without_packets


def cut(source: Path, target: Path, part: float = 0.6) -> Path:
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * part)])
    return target


def damage(source: Path, target: Path, start: float = 0.4, end: float = 0.55) -> Path:
    data = bytearray(source.read_bytes())
    for i in range(int(len(data) * start), int(len(data) * end), 31):
        data[i] ^= 0x5A
    target.write_bytes(data)
    return target


def one_line(error: BaseException) -> str:
    text = str(error)
    assert text and "\n" not in text and "Traceback" not in text
    return text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"this is no video\n" * 50, "neither a film nor an image"),
        (bytes((i * i * 31 + i * 7) >> 3 & 255 for i in range(4096)), "neither a film nor an image"),
    ],
)
def test_no_film_at_all(tmp_path: Path, content: bytes, says: str):
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        FileSource(path)
    assert str(path) in one_line(caught.value)


def test_not_there_a_folder_not_allowed(tmp_path: Path):
    with pytest.raises(InputMissing, match="no such file"):
        FileSource(tmp_path / "none.mp4")
    with pytest.raises(InputError, match="is a folder"):
        FileSource(tmp_path)


def test_a_recording_cut_off_before_its_index(media, tmp_path: Path):
    whole = media.make_film(tmp_path / "whole.mp4")
    with pytest.raises(InputError, match="incomplete"):
        media.open(cut(whole, tmp_path / "in.mp4", 0.5))


@pytest.mark.parametrize(
    ("suffix", "mux", "warns"),
    [
        (".mp4", {"movflags": "faststart"}, True),
        (".mkv", {}, True),
        (".ts", {}, False),
        (".mp4", {"movflags": "frag_keyframe+empty_moov"}, False),
    ],
)
def test_a_film_without_its_end(media, tmp_path: Path, suffix: str, mux: dict[str, str], warns: bool):
    whole = media.make_film(tmp_path / f"whole{suffix}", frames=75, options={"g": "10"}, sound="aac", mux=mux)
    broken = cut(whole, tmp_path / f"in{suffix}")
    frames, stats = media.frames_of(broken)
    assert 20 < len(frames) < 75
    assert ("truncated" in stats.warnings or stats.counters["packets_lost"] > 0) or not warns
    media.passthrough(broken, tmp_path / "out.mp4", crf=0)
    assert [s for _, s in media.decoded(tmp_path / "out.mp4")] == [media.samples(f.image) for f in frames]
    if warns:
        with pytest.raises(InputError, match=r"\(--strict\)"):
            media.frames_of(broken, strict=True)


def test_what_a_decoder_conceals_of_a_stream_is_counted(media, tmp_path: Path):
    whole = media.make_film(tmp_path / "whole.ts", frames=40, options={"g": "10", "crf": "8"})
    good, stats = media.frames_of(whole)
    assert not stats.counters["frames_corrupt"]
    frames, stats = media.frames_of(without_packets(whole, tmp_path / "in.ts", [20, 60]))
    before = {f.pts: media.samples(f.image) for f in good}
    torn = sum(media.samples(f.image) != before[f.pts] for f in frames)
    assert 0 < torn <= stats.counters["frames_corrupt"] <= 20
    assert "frames_corrupt" in stats.warnings
    report = Report("in", "out", "1", "e", "d")
    report.fill(stats)
    assert report.frames_damaged == stats.counters["frames_corrupt"]


@pytest.mark.parametrize(
    ("codec", "options", "shown", "damaged", "missing"),
    [("libx264", {"bf": "0"}, 27, 6, 3), ("libx265", {"x265-params": "bframes=0:log-level=none"}, 21, 0, 6)],
)
def test_frames_that_are_missing_in_a_stream_are_counted(
    media, tmp_path: Path, codec: str, options: dict[str, str], shown: int, damaged: int, missing: int
):
    whole = media.make_film(tmp_path / "whole.mkv", frames=30, codec=codec, options={"g": "10", **options})
    for start in (None, 0.45):
        stats = media.frames_of(whole, start=start)[1]
        assert not stats.counters["packets_lost"] + stats.counters["frames_corrupt"]
    frames, stats = media.frames_of(without_frames(whole, tmp_path / "in.mkv", (13, 14, 28)))
    assert (len(frames), stats.counters["frames_corrupt"], stats.counters["packets_lost"]) == (shown, damaged, missing)
    assert "frames_missing" in stats.warnings
    with pytest.raises(InputError, match="--strict"):
        media.frames_of(tmp_path / "in.mkv", strict=True)


@pytest.mark.parametrize(("codec", "options"), [("libx264", {"bf": "0"}), ("libx265", {})])
def test_a_frame_that_cannot_be_decoded_is_counted_once(media, tmp_path: Path, codec: str, options: dict[str, str]):
    options = {"g": "10", "x265-params": "log-level=none", **options}
    whole = media.make_film(tmp_path / "whole.mkv", frames=60, codec=codec, options=options)
    frames, stats = media.frames_of(without_frames(whole, tmp_path / "in.mkv", (12, 37), left=5))
    assert "packets_lost" in stats.warnings and stats.counters["packets_lost"] == 60 - len(frames)


@pytest.mark.parametrize("torn", [29, 27])
@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [("ffv1", "yuv420p"), ("prores_ks", "yuv422p10"), ("libvpx-vp9", "yuv420p"), ("libx265", "yuv420p")],
)
def test_frames_that_threads_lose_at_the_end_are_counted(media, tmp_path: Path, codec: str, pix_fmt: str, torn: int):
    """Where one of the last fails, a decoder with threads gives none of those that it holds, and may not say so."""
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    whole = media.make_film(tmp_path / "whole.mkv", frames=30, codec=codec, pix_fmt=pix_fmt, options=options)
    assert not media.frames_of(whole, threads=4)[1].counters["packets_lost"]
    broken = without_frames(whole, tmp_path / "in.mkv", (torn,), left=5)
    frames, stats = media.frames_of(broken, threads=4)
    assert len(frames) < 30 and stats.counters["packets_lost"] == 30 - len(frames) and stats.warned()


def test_frames_of_av1_that_are_not_shown_are_counted(media, tmp_path: Path):
    whole = media.make_film(tmp_path / "whole.mkv", frames=30, codec="libsvtav1", options={"preset": "12", "g": "10"})
    assert len(media.frames_of(whole, strict=True)[0]) == 30
    frames, stats = media.frames_of(with_bytes(whole, tmp_path / "in.mkv", {13: 0}, bytes(24)))
    assert 15 < len(frames) < 30 and stats.counters["packets_lost"] == 30 - len(frames)


def test_frames_that_an_edit_list_cuts_away_are_not_missing(media, tmp_path: Path):
    film = media.make_film(tmp_path / "in.mp4", frames=30, codec="libx265", options={"x265-params": "log-level=none"})
    data = bytearray(film.read_bytes())
    struct.pack_into(">I", data, data.index(b"elst") + 12, 1000)  # of 1200 ms
    film.write_bytes(data)
    frames, stats = media.frames_of(film, strict=True)
    assert len(frames) == 25 and not stats.counters["packets_lost"]


@pytest.mark.parametrize(
    ("suffix", "mux", "name", "at", "value"),
    [
        (".mkv", {}, b"\x1f\x43\xb6\x75", 4, b"\x08\x00\x01\x00"),
        (".mkv", {}, b"\x1f\x43\xb6\x75", 0, b"\x1f\x43\xb6\x74"),
        (".mkv", {}, b"A_AAC", -2, b"\x87"),
        (".mp4", {"movflags": "frag_keyframe+empty_moov"}, b"trun", 11, b"\x03"),
        (".mp4", {"movflags": "frag_keyframe+empty_moov"}, b"mdat", -4, b"\x7f"),
        (".mp4", {"movflags": "frag_keyframe+empty_moov"}, b"mdat", -4, b"\0\0\1\0"),
        (".mp4", {}, b"smhd", -1, b"\x20"),
    ],
)
def test_what_a_damaged_container_loses_is_said(
    media, tmp_path: Path, suffix: str, mux: dict[str, str], name: bytes, at: int, value: bytes
):
    film = media.make_film(tmp_path / f"in{suffix}", options={"g": "5"}, sound="aac", mux=mux)
    items, stats = list(FileSource(film, stats=(whole := Stats()))), Stats()
    assert "container" not in whole.warnings
    data = bytearray(film.read_bytes())
    place = data.index(name) + at
    data[place : place + len(value)] = value
    film.write_bytes(data)
    with suppress(InputError):
        assert len(list(FileSource(film, stats=stats))) < len(items) and "container" in stats.warnings
    with pytest.raises(InputError):
        list(FileSource(film, strict=True))


@pytest.mark.parametrize(
    ("suffix", "behind"),
    [
        (".mkv", bytes(4096)),
        (".mp4", struct.pack(">I4sQ", 1, b"free", 1 << 60)),
        (".mp4", struct.pack(">I4sQ", 1, b"moof", 1 << 40)),
    ],
)
def test_what_lies_behind_a_film_is_no_damage(media, tmp_path: Path, suffix: str, behind: bytes):
    film, stats = media.make_film(tmp_path / f"in{suffix}", sound="aac"), Stats()
    film.write_bytes(film.read_bytes() + behind)
    assert list(FileSource(film, stats=stats, strict=True)) and not stats.warnings


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_film_removed_while_it_is_read_is_read(media, tmp_path: Path, suffix: str):
    film = media.make_film(tmp_path / f"in{suffix}")
    source, whole = FileSource(film, stats=(stats := Stats())), len(list(FileSource(film)))
    items = iter(source)
    next(items)
    film.unlink()
    assert 1 + sum(1 for _ in items) == whole and "container" not in stats.warnings


def test_torn_jpegs_of_a_film_are_kept_and_counted(media, tmp_path: Path):
    whole = media.make_film(tmp_path / "whole.avi", frames=20, codec="mjpeg", pix_fmt="yuvj420p")
    torn_jpegs(whole, tmp_path / "in.avi", {3, 8})
    frames, stats = media.frames_of(tmp_path / "in.avi")
    assert (len(frames), stats.counters["frames_corrupt"], stats.counters["packets_lost"]) == (20, 2, 0)
    assert not media.frames_of(whole)[1].counters["frames_corrupt"]


def test_ffv1_is_compared_with_its_own_checksums(media, tmp_path: Path):
    checked = {"codec": "ffv1", "options": {"level": "3", "slicecrc": "1", "g": "5"}}
    whole = media.make_film(tmp_path / "whole.mkv", frames=20, **checked)
    good, stats = media.frames_of(whole)
    assert not stats.counters["frames_corrupt"]
    packets, data = coded(whole), bytearray(whole.read_bytes())
    data[data.find(packets[7]) + len(packets[7]) - 20] ^= 0x55
    (tmp_path / "in.mkv").write_bytes(data)
    frames, stats = media.frames_of(tmp_path / "in.mkv")
    differ = [media.samples(a.image) != media.samples(b.image) for a, b in zip(good, frames, strict=True)]
    assert stats.counters["frames_corrupt"] == sum(differ) == 3  # up to the next keyframe
    with pytest.raises(InputError, match=r"\(--strict\)"):
        media.frames_of(tmp_path / "in.mkv", strict=True)


H264 = ({"codec": "libx264", "options": {"g": "50", "crf": "4"}}, 230, bytes(64))
HEVC = ({"codec": "libx265", "options": {"x265-params": "keyint=50:crf=4:log-level=none"}}, 230, bytes(64))
DV = ({"codec": "dvvideo", "size": (720, 576)}, 80 * 150 * 5 + 80 * 7 + 3, b"\x2f")


@pytest.mark.parametrize(
    ("film", "at", "other", "suffix"),
    [(*H264, ".mp4"), (*H264, ".ts"), (*HEVC, ".mkv"), (*HEVC, ".ts"), (*DV, ".avi")],
    ids=["h264-mp4", "h264-ts", "hevc-mkv", "hevc-ts", "dv"],
)
def test_bytes_that_no_whole_frame_has_are_damage(
    media, tmp_path: Path, film: dict[str, object], at: int, other: bytes, suffix: str
):
    """A block of zeros in a slice, and the mark of a tape deck that repaired a block."""
    whole = media.make_film(tmp_path / f"whole{suffix}", frames=20, **film)
    good, stats = media.frames_of(whole, strict=True)
    assert len(good) == 20 and not stats.warnings
    frames, stats = media.frames_of(with_bytes(whole, tmp_path / f"in{suffix}", {9: at}, other))
    assert len(frames) == 20 and stats.counters["frames_corrupt"] and not stats.counters["packets_lost"]
    with pytest.raises(InputError, match=r"\(--strict\)"):
        media.frames_of(tmp_path / f"in{suffix}", strict=True)


@pytest.mark.parametrize("threads", [1, 4])
def test_hevc_is_decoded_by_the_letter_where_strict(media, tmp_path: Path, threads: int):
    options = {"x265-params": "crf=8:log-level=none"}
    whole = media.make_film(tmp_path / "whole.mkv", frames=20, codec="libx265", options=options)
    pictures = [media.samples(frame.image) for frame in media.frames_of(whole)[0]]
    assert pictures == [media.samples(frame.image) for frame in media.frames_of(whole, strict=True, threads=threads)[0]]
    broken = with_bytes(whole, tmp_path / "in.mkv", dict.fromkeys(range(2, 18), 40), b"\xa5\x5a\xc3" * 9)
    assert len(media.frames_of(broken, threads=threads)[0]) == 20
    with pytest.raises(InputError, match=r"\(--strict\)"):
        media.frames_of(broken, strict=True, threads=threads)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_damaged_middle_is_skipped_and_counted(media, tmp_path: Path, suffix: str):
    whole = media.make_film(tmp_path / f"whole{suffix}", frames=50, options={"g": "10"})
    broken = damage(whole, tmp_path / f"in{suffix}")
    frames, stats = media.frames_of(broken)
    assert 10 < len(frames) <= 50
    told = set(stats.warnings)
    assert told & {"packets_lost", "frames_corrupt", "truncated", "read_error"} and len(told) <= 4
    times = [f.time for f in frames]
    assert times == sorted(set(times))
    media.passthrough(broken, tmp_path / "out.mp4")
    assert len(media.decoded(tmp_path / "out.mp4")) == len(frames)


@pytest.mark.parametrize("name", ["film.jpg", "name with spaces, ünï ☺ %03d.mp4", "a:b.mp4", "-v.mp4", "[x]{y}'z.mkv"])
def test_names_say_nothing(media, tmp_path: Path, name: str):
    made = media.make_film(tmp_path / "plain.mp4")
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / name
    source.write_bytes(made.read_bytes())
    output = tmp_path / (Path(name).stem + " out.mp4")
    media.passthrough(source, output, crf=0)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["in", "plain.mp4", output.name])
    assert [s for _, s in media.decoded(output)] == [s for _, s in media.decoded(made)]


def test_a_picture_called_a_film(media, tmp_path: Path):
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    (tmp_path / "x.mp4").write_bytes(encoded(av.VideoFrame.from_ndarray(picture), "png"))
    opened = media.open(tmp_path / "x.mp4")
    assert opened.info.expected_frames == 1
    (only,) = list(opened)
    assert (only.image.to_ndarray() == picture).all()


def test_sound_only_and_cover_only(media, tmp_path: Path):
    with av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as box:
        stream = box.add_stream("aac", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        frame.sample_rate = 48_000
        box.mux([*stream.encode(frame), *stream.encode(None)])
    with pytest.raises(InputError, match="has no video"):
        media.open(tmp_path / "a.m4a")


def test_too_large_is_refused_before_it_is_decoded(media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = media.make_film(tmp_path / "in.mp4")
    monkeypatch.setattr(container, "MAX_PIXELS", 128 * 96 - 1)
    with pytest.raises(InputError, match=r"128×96 .* limit"):
        media.open(source)


def test_a_size_that_changes_on_the_way(media, tmp_path: Path):
    first = media.make_film(tmp_path / "a.ts", frames=5)
    second = media.make_film(tmp_path / "b.ts", frames=5, size=(192, 144), start_ms=200)
    (tmp_path / "in.ts").write_bytes(first.read_bytes() + second.read_bytes())
    frames, stats = media.frames_of(tmp_path / "in.ts")
    assert len(frames) == 10 and {(f.image.width, f.image.height) for f in frames} == {(128, 96)}
    assert list(stats.warnings) == ["frames_resized"] and stats.counters["frames_resized"] == 5
    media.passthrough(tmp_path / "in.ts", tmp_path / "out.mp4")
    assert len(media.decoded(tmp_path / "out.mp4")) == 10


def test_several_videos_say_which_was_taken(media, tmp_path: Path):
    a = media.make_film(tmp_path / "a.mp4", frames=5, sound="aac")
    b = media.make_film(tmp_path / "b.mp4", frames=5, size=(64, 48))
    both = tmp_path / "in.mkv"
    with av.open(str(a)) as one, av.open(str(b)) as two, av.open(str(both), "w") as box:
        streams = [(s, box.add_stream_from_template(s, opaque=True)) for s in [*one.streams, *two.streams]]
        for source in (one, two):
            for packet in source.demux():
                if packet.size:
                    packet.stream = next(t for s, t in streams if s is packet.stream)
                    box.mux(packet)
    plan = media.passthrough(both, tmp_path / "out.mkv", crf=0)
    assert len(plan.notes) == 1 and "2 video streams; number 1 is enhanced" in plan.notes[0]
    for stream, source in ((0, a), (1, b)):
        assert [s for _, s in media.decoded(tmp_path / "out.mkv", stream)] == [s for _, s in media.decoded(source)]


def test_a_cover_is_not_the_film(media, tmp_path: Path):
    """Streams marked as attached picture are never taken for the film, even where they come first."""
    cover = encoded(media.picture(0, "rgb24", 16, 16), "png")
    source = media.make_film(
        tmp_path / "in.mkv", extra=lambda box: box.add_attachment("cover.png", "image/png", cover) and None
    )
    opened = media.open(source)
    assert (opened.info.width, opened.info.height) == (128, 96)
    assert [s.cover is not None for s in opened.info.streams] == [False, True]


def test_closing_twice_and_in_the_middle(media, tmp_path: Path):
    opened = FileSource(media.make_film(tmp_path / "in.mp4"), stats=Stats())
    items = iter(opened)
    assert next(items).image.width > 0
    opened.close()
    opened.close()


def test_a_playlist_under_a_films_name_is_refused(media, tmp_path: Path):
    """What it names would come into the output; under its own extension a playlist is read."""
    media.make_film(tmp_path / "private.ts")
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.4,\nprivate.ts\n#EXT-X-ENDLIST\n"
    for text, own in (("ffconcat version 1.0\nfile private.ts\n", ".ffconcat"), (hls, ".m3u8")):
        (tmp_path / "film.mp4").write_text(text)
        with pytest.raises(InputError, match=r"cannot be opened|neither a film"):
            media.open(tmp_path / "film.mp4")
        (tmp_path / "film.mp4").rename(tmp_path / f"list{own}")
        opened = media.open(tmp_path / f"list{own}")
        assert opened.info.width == 128


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
@pytest.mark.parametrize("line", ["ffconcat version 1.0\nfile {}\n", "#EXTM3U\n#EXTINF:1,\n{}\n"])
def test_a_playlist_under_a_films_name_opens_nothing(line: str, media, tmp_path: Path):
    """Else a file that names a pipe would hold the reader for ever, and one that names itself all file descriptors."""
    os.mkfifo(tmp_path / "pipe.ts")
    for named in ("pipe.ts", "film.mp4"):
        (tmp_path / "film.mp4").write_text(line.format(named))
        with pytest.raises(InputError, match=r"cannot be opened|neither a film"):
            media.open(tmp_path / "film.mp4")
