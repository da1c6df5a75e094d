"""HLS lists of several variants: which is read, what is fetched for it, and what the output gets."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, nullcontext
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

import rtface
from rtface.errors import InputError, OutputError
from rtface.live.messages import SourceRequest
from rtface.live.sources.open_stream import open_stream
from rtface.media.read.container import choose_video, open_container
from rtface.media.read.source import FileSource
from rtface.media.read.variants import kept_streams
from rtface.media.write.stream_plan import plan_output
from rtface.trust.inspection import inspect_file
from tests.media.conftest import counting_server

# Name, size, sound group and bandwidth; the best is neither first nor last, and one of two of its height.
_VARIANTS = {
    "tiny": ((64, 48), "low", 50_000),
    "meagre": ((192, 144), "low", 300_000),
    "best": ((192, 144), "high", 500_000),
    "small": ((96, 72), "high", 100_000),
}
_RATES = {"low": 24_000, "high": 48_000}


def sound_list(path: Path, rate: int) -> None:
    """A rendition of 3 s of sound, silent for the first second."""
    with av.open(str(path), "w", format="hls", container_options={"hls_time": "1", "hls_playlist_type": "vod"}) as box:
        stream: Any = box.add_stream("aac", rate=rate)
        stream.codec_context.layout = "mono"
        at = np.arange(3 * rate)
        wave = np.where(at < rate, 0, np.sin(at * (2 * np.pi * 440 / rate))).astype(np.float32)
        for first in range(0, len(wave), 1000):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[None, first : first + 1000]), "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
            box.mux(stream.encode(frame))
        box.mux(stream.encode(None))


@pytest.fixture(scope="module")
def folder(media, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lists master.m3u8 and reversed.m3u8, with what they name."""
    folder = tmp_path_factory.mktemp("hls")
    media_lines = ['#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="texts",NAME="text",LANGUAGE="en",URI="text.m3u8"']
    ended = "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\ntext0.vtt\n#EXT-X-ENDLIST\n"
    (folder / "text.m3u8").write_text(ended)
    (folder / "text0.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nspoken\n")
    for group, rate in _RATES.items():
        for language in ("eng", "deu"):
            sound_list(folder / f"{group}-{language}.m3u8", rate)
            media_lines.append(
                f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="{group}",NAME="{language}",LANGUAGE="{language}",'
                f'URI="{group}-{language}.m3u8"'
            )
    entries: list[str] = []
    for name, (size, group, bandwidth) in _VARIANTS.items():
        media.make_film(
            folder / f"{name}.m3u8",
            frames=75,
            size=size,
            format="hls",
            options={"g": "25"},
            mux={"hls_time": "1", "hls_playlist_type": "vod"},
        )
        entries.append(f'#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},AUDIO="{group}",SUBTITLES="texts"\n{name}.m3u8')
    for name, ordered in (("master", entries), ("reversed", entries[::-1])):
        (folder / f"{name}.m3u8").write_text("\n".join(["#EXTM3U", *media_lines, *ordered, ""]))
    return folder


@pytest.fixture
def served(folder: Path) -> Iterator[tuple[str, Counter[str]]]:
    """The folder's address, and how many pieces of each list were fetched so far."""

    def list_of(path: str) -> str | None:
        return Path(path).stem.rstrip("0123456789") if path.endswith((".ts", ".vtt")) else None

    with counting_server(folder, list_of) as server:
        yield server


@pytest.mark.parametrize("listed", ["master", "reversed"])
def test_the_best_variant_alone_is_fetched_and_written(
    media, tmp_path: Path, served: tuple[str, Counter[str]], listed: str
) -> None:
    (url, fetched), output = served, tmp_path / "out.mkv"
    report = rtface.run(f"{url}/{listed}.m3u8", output, tracker="none")
    assert report.frames_out == 75
    assert {name: fetched[name] for name in _VARIANTS} == {"tiny": 1, "meagre": 1, "best": 3, "small": 1}
    assert [fetched[f"{group}-eng"] for group in _RATES] == [1, 4]
    with av.open(str(output)) as box:
        assert [(s.width, s.height) for s in box.streams.video] == [(192, 144)]
        assert [(s.rate, s.language) for s in box.streams.audio] == [(48_000, "eng"), (48_000, "deu")]
        assert [bytes(p) for p in box.demux(box.streams.subtitles[0]) if p.size] == [b"spoken"]
    times = media.first_times(output)
    assert times["audio"] - times["video"] == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    ("clock", "early"),
    [
        ("MPEGTS:900000,LOCAL:00:00:00.000", "10.0"),
        ("LOCAL:00:01.5,MPEGTS:270000", "1.5"),
        ("MPEGTS:0,LOCAL:00:00.0", ""),
    ],
)
def test_texts_whose_map_of_times_is_not_read_are_said(
    folder: Path, tmp_path: Path, served: tuple[str, Counter[str]], clock: str, early: str
) -> None:
    (folder / "mapped.m3u8").write_text((folder / "master.m3u8").read_text().replace("text.m3u8", "maps.m3u8"))
    (folder / "maps.m3u8").write_text((folder / "text.m3u8").read_text().replace("text0", "map0"))
    text = (folder / "text0.vtt").read_text().replace("WEBVTT", f"WEBVTT\nX-TIMESTAMP-MAP={clock}")
    (folder / "map0.vtt").write_text(text)
    for path in (folder / "mapped.m3u8", f"{served[0]}/mapped.m3u8"):
        with closing(FileSource(path)) as source:
            said = [note for note in plan_output(source.info, tmp_path / "out.mkv").notes if "X-TIMESTAMP-MAP" in note]
            assert [f"appear {early} s early" in note for note in said] == [True] * bool(early)
            with pytest.raises(OutputError, match="TIMESTAMP") if early else nullcontext():
                plan_output(source.info, tmp_path / "out.mkv", strict=True)
            plan_output(source.info, tmp_path / "out.mkv", strict=True, drop=["subtitle"])


@pytest.mark.parametrize(
    ("variant", "number"), [("best", 3), (144, 3), ("144p", 3), (2, 2), ("72", 4), ("1", 1)], ids=str
)
def test_a_variant_is_chosen_in_a_local_list(folder: Path, tmp_path: Path, variant: str | int, number: int) -> None:
    report = rtface.run(folder / "master.m3u8", tmp_path / "out.mkv", tracker="none", variant=variant)
    (width, height), _, bandwidth = list(_VARIANTS.values())[number - 1]
    said = f"has 4 variants; number {number} ({width}×{height}, {bandwidth // 1000} kbit/s) is read"
    assert any(said in note for note in report.notes)
    with av.open(str(tmp_path / "out.mkv")) as box:
        assert [(s.width, s.height) for s in box.streams.video] == [(width, height)]


@pytest.mark.parametrize("variant", [1, 2, 3, 4])
def test_variants_that_share_their_sound_have_it(folder: Path, tmp_path: Path, variant: int) -> None:
    shared = (folder / "master.m3u8").read_text()
    for group in _RATES:
        shared = shared.replace(f'AUDIO="{group}"', f'AUDIO="{[*_RATES][-1]}"')
    (folder / "shared.m3u8").write_text(shared)
    report = rtface.run(folder / "shared.m3u8", tmp_path / "out.mp4", tracker="none", variant=variant)
    with av.open(str(tmp_path / "out.mp4")) as box:
        assert [(s.rate, s.language) for s in box.streams.audio] == [(48_000, "eng"), (48_000, "deu")]
    assert not any("comment" in note for note in report.notes)  # the names of renditions are titles


def test_a_variant_that_is_not_there(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"720; available: 1 \(64×48, 50 kbit/s\), 2 .* 4 \(96×72, 100 kbit/s\)"):
        rtface.run(folder / "master.m3u8", tmp_path / "out.mkv", tracker="none", variant=720)


def test_a_dash_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "film.mpd").write_text('<?xml version="1.0"?><MPD type="static"><Period/></MPD>')
    with pytest.raises(InputError, match="DASH lists cannot be read"):
        open_container(tmp_path / "film.mpd")


def test_a_film_has_one_variant(media, tmp_path: Path) -> None:
    film = media.make_film(tmp_path / "in.mp4", size=(96, 72))
    assert len(media.frames_of(film, variant="72")[0]) == 10
    with pytest.raises(InputError, match=r"no variant 144; available: 1 \(96×72\)"):
        media.frames_of(film, variant="144")


def test_a_live_run_fetches_one_variant(served: tuple[str, Counter[str]]) -> None:
    url, fetched = served
    opened = open_stream(SourceRequest("stream", f"{url}/master.m3u8", variant="72"))
    assert opened.video is not None and opened.sound is not None
    assert (opened.video.width, opened.sound.rate) == (96, 48_000)
    assert opened.notes == [
        "has 4 variants; number 4 (96×72, 100 kbit/s) is read; at most one segment of any other is read (--variant)"
    ]
    came = Counter(p.stream_index for p in opened.container.demux(opened.video, opened.sound) if p.size)
    assert came[opened.video.index] == 75
    opened.container.close()  # after which its streams' attributes are undefined
    assert {name: fetched[name] for name in _VARIANTS} == {"tiny": 1, "meagre": 1, "best": 1, "small": 3}
    assert [fetched[f"high-{language}"] for language in ("eng", "deu")] == [4, 1]


def test_sound_alone_fetches_no_frames(served: tuple[str, Counter[str]]) -> None:
    url, fetched = served
    opened = open_stream(SourceRequest("stream", f"{url}/master.m3u8", video=False))
    assert opened.sound is not None and sum(1 for p in opened.container.demux(opened.sound) if p.size) > 60
    opened.container.close()
    assert {fetched[name] for name in _VARIANTS} == {1}


def cover_before_sound() -> bytes:
    """An ID3 tag as HLS has it before packed sound: its time, and a cover image."""
    buffer = io.BytesIO()
    image = av.VideoFrame(256, 256, "yuvj420p")
    with av.open(buffer, "w", format="mjpeg") as box:
        stream: Any = box.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 256, 256, "yuvj420p"
        box.mux([*stream.encode(image), *stream.encode(None)])

    def sized(head: bytes, body: bytes, *, more: bytes = b"") -> bytes:
        return head + bytes(len(body) >> shift & 127 for shift in (21, 14, 7, 0)) + more + body

    frames = {
        b"PRIV": b"com.apple.streaming.transportStreamTimestamp\0" + (126_000).to_bytes(8, "big"),
        b"APIC": b"\0image/jpeg\0\3\0" + buffer.getvalue(),
    }
    return sized(b"ID3\4\0\0", b"".join(sized(name, body, more=b"\0\0") for name, body in frames.items()))


def test_a_list_of_sound_alone_gives_neither_cover_nor_sound(folder: Path) -> None:
    with av.open(str(folder / "packed.aac"), "w", format="adts") as box:
        stream: Any = box.add_stream("aac", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.float32), "fltp", "mono")
        frame.sample_rate = 48_000
        box.mux([*stream.encode(frame), *stream.encode(None)])
    (folder / "packed.aac").write_bytes(cover_before_sound() + (folder / "packed.aac").read_bytes())
    (folder / "packed.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\npacked.aac\n#EXT-X-ENDLIST\n")
    entries = [
        f"#EXT-X-STREAM-INF:BANDWIDTH={rate}\n{name}.m3u8"
        for name, rate in (("packed", 64_000), ("tiny", 80_000), ("small", 90_000))
    ]
    (folder / "sounded.m3u8").write_text("\n".join(["#EXTM3U", *entries, ""]))
    with open_container(folder / "sounded.m3u8") as box:
        assert [(s.type, s.width if s.type == "video" else 0) for s in box.streams] == [
            *[("audio", 0), ("video", 256)],  # the cover
            *[("video", 64), ("video", 96)],
        ]
        video, note = choose_video(box, "sounded.m3u8")
        assert video.width == 96 and "has 2 variants; number 2" in str(note)
        assert kept_streams(box, video) == [video]


def two_videos(path: Path) -> Path:
    """A film of 20 frames with two videos, dark and bright."""
    with av.open(str(path), "w") as box:
        streams: list[Any] = [box.add_stream("libx264", rate=25, options={"g": "5"}) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for at in range(20):
            for stream, level in zip(streams, (40, 200), strict=True):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64), level + at, np.uint8), "gray")
                frame = frame.reformat(format="yuv420p")
                frame.pts = at
                box.mux(stream.encode(frame))
        for stream in streams:
            box.mux(stream.encode(None))
    return path


def test_no_variant_is_another_video_of_a_film(media, tmp_path: Path) -> None:
    film, output = two_videos(tmp_path / "in.mkv"), tmp_path / "out.mkv"
    with pytest.raises(InputError, match=r"no variant 2; available: 1 \(64×48\)"):
        rtface.run(film, output, tracker="none", variant=2)
    report = rtface.run(film, output, tracker="none", variant=48)
    assert any("2 video streams; number 1 is enhanced, the others are copied" in note for note in report.notes)
    for stream in (0, 1):
        assert [s for _, s in media.decoded(output, stream)] == [s for _, s in media.decoded(film, stream)]


def test_a_film_without_decoder_is_refused_with_a_variant() -> None:
    video = SimpleNamespace(index=0, disposition=0, codec_context=None, metadata={})
    streams = SimpleNamespace(video=[video])
    box: Any = SimpleNamespace(streams=streams, format=SimpleNamespace(name="matroska"), metadata={})
    with pytest.raises(InputError, match="no decoder"):
        choose_video(box, "in.mkv", variant="720")


def test_a_live_run_copies_no_other_videos(tmp_path: Path) -> None:
    opened = open_stream(SourceRequest("file", str(two_videos(tmp_path / "in.mkv"))))
    opened.container.close()
    assert opened.notes == []


def test_inspect_names_the_variant(folder: Path) -> None:
    found = inspect_file(folder / "master.m3u8")
    assert any("number 3 (192×144" in note for note in found.notes)
