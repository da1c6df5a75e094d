"""Coded frames of the input that are copied where nothing was changed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext

import rtface
from rtface.errors import UsageError
from rtface.frame import Frame
from rtface.media.formats.coded_headers.bits import parameter_sets, prefixed, unescaped
from rtface.media.formats.coded_headers.h264 import H264Slices
from rtface.media.formats.image_header import quantisation_tables
from rtface.media.read.mini_gops import mini_gops
from rtface.media.read.source import FileSource
from rtface.media.write.file_sink import FileSink
from rtface.media.write.packet_copy import GroupCopy, PacketCopy, find_copy, fit_copy
from rtface.media.write.stream_plan import FORMATS, plan_output
from rtface.stats import Stats
from rtface.util.av_arrays import plane_rows
from tests.media.encoded import coded, rewritten, without_frames

FRAMES, GROUP = 40, 10


HEVC = {"x265-params": "open-gop=0:keyint=10:min-keyint=10:scenecut=0:log-level=error"}


def make(
    path: Path,
    codec: str = "libx264",
    *,
    times: Sequence[int] = range(FRAMES),
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (320, 180),
    **options: str,
) -> Path:
    """A film of noise that moves, with groups of ten frames, at these times in 1/25 s."""
    width, height = size
    field = np.random.default_rng(1).integers(40, 200, (height, width + FRAMES), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.gop_size = GROUP
        stream.codec_context.options = {"preset": "fast", "sc_threshold": "0", **options}
        for number, time in enumerate(times):
            grey = field[:, number : number + width]
            frame = av.VideoFrame.from_ndarray(np.stack([grey] * 3, 2), "rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = time, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def copied(film: Path, output: Path, changed: set[int]) -> FileSink:
    """Writes `output` with some frames changed; its sink."""
    stats = Stats()
    source = FileSource(film, stats=stats)
    found = find_copy(source.info, film, FORMATS[output.suffix])
    assert isinstance(found, PacketCopy)
    plan = plan_output(source.info, output, codec=found.codec if source.info.coding.kind == "lossy" else None)
    plan.copy = found
    assert fit_copy(found, source.info, plan.video) is None
    sink, number = FileSink(plan, stats), 0
    for item in source:
        if isinstance(item, Frame):
            if number in changed:
                item.make_writable()
                np.frombuffer(item.image.planes[0], np.uint8)[:4000] = 16
                item = replace(item, touched=True, changed=None)
            number += 1
        sink.write(item)
    sink.finish()
    source.close()
    return sink


def count_of(sink: FileSink) -> int:
    return sink.stats.counters["packets_copied"]


def decoded(path: Path) -> list[tuple[Fraction, bytes]]:
    """Time from the first frame, and luma, of every frame."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    first = frames[0].pts * frames[0].time_base
    return [(frame.pts * frame.time_base - first, luma(frame)) for frame in frames]


def luma(frame: av.VideoFrame) -> bytes:
    rows = plane_rows(frame.planes[0])[: frame.height]
    if "10" in frame.format.name:
        rows = (rows.view(np.uint16) >> 2).astype(np.uint8)
    return rows[:, : frame.width].tobytes()


@pytest.mark.parametrize(
    ("suffix", "kind", "codec"),
    [
        *(("mp4", "mp4", "libx264"), ("mov", "ts", "libx264"), ("mkv", "mp4", "libx264"), ("ts", "ts", "libx264")),
        *(("mp4", "ts", "libx265"), ("mov", "mp4", "libx265"), ("mkv", "ts", "libx265"), ("ts", "mp4", "libx265")),
    ],
)
def test_what_was_not_changed_is_copied(tmp_path, suffix, kind, codec):
    film, output = (
        make(tmp_path / f"in.{kind}", codec, **(HEVC if codec == "libx265" else {})),
        tmp_path / f"out.{suffix}",
    )
    count = count_of(copied(film, output, {14, 15}))
    before, after = decoded(film), decoded(output)
    assert FRAMES - GROUP <= count < FRAMES - 2
    assert [time for time, _ in after] == pytest.approx([time for time, _ in before], abs=0.001)
    same = [one[1] == other[1] for one, other in zip(before, after, strict=True)]
    assert sum(same) >= count and all(same[:10]) and all(same[20:]) and not same[14]


INTRA = [
    ("mov", "prores_ks", "yuv422p10le", (320, 180), {"profile": "lt"}, "mkv"),
    ("mov", "dnxhd", "yuv422p", (320, 180), {"profile": "dnxhr_sq"}, "mov"),
    ("mxf", "dnxhd", "yuv422p", (1280, 720), {"profile": "dnxhd", "b": "75M"}, "mov"),
    ("mkv", "ffv1", "yuv420p", (320, 180), {"level": "3", "g": "1", "slices": "9", "coder": "range_tab"}, "mkv"),
    ("mkv", "ffv1", "yuv420p", (320, 180), {"level": "3", "context": "1", "slicecrc": "1"}, "mkv"),
    ("avi", "mjpeg", "yuvj420p", (320, 180), {"qmin": "9", "qmax": "9"}, "mkv"),
    ("avi", "dvvideo", "yuv420p", (720, 576), {}, "mov"),
]


@pytest.mark.parametrize(("kind", "codec", "pix_fmt", "size", "options", "suffix"), INTRA)
def test_frames_coded_by_themselves_are_copied(tmp_path, kind, codec, pix_fmt, size, options, suffix):
    film, output = tmp_path / f"in.{kind}", tmp_path / f"out.{suffix}"
    make(film, codec, times=range(12), pix_fmt=pix_fmt, size=size, **options)
    sink = copied(film, output, {4, 5, 10})
    (before, after), (old, new) = [decoded(film), decoded(output)], [coded(film), coded(output)]
    assert [time for time, _ in after] == pytest.approx([time for time, _ in before], abs=0.001)
    kept = [n for n in range(12) if old[n] == new[n]]
    assert count_of(sink) == len(kept) and not {4, 5, 10} & {*kept}
    assert len(kept) == (9 if "context" not in options else 4)  # in groups of ten what follows is encoded
    for n in range(12):
        one, other = (np.frombuffer(film[n][1], np.uint8).astype(int) for film in (before, after))
        assert n not in kept or (one == other).all()
        assert np.abs(one - other)[len(one) // 2 :].mean() < (5 if codec != "ffv1" else 1e-9)
    with av.open(str(film)) as one, av.open(str(output)) as other:
        made, source = (container.streams.video[0].codec_context for container in (other, one))
        assert (made.name, made.profile, made.pix_fmt) == (source.name, source.profile, source.pix_fmt)


def test_a_jpeg_keeps_the_quantisation_of_the_input(tmp_path):
    film, output = tmp_path / "in.avi", tmp_path / "out.mkv"
    make(film, "mjpeg", times=range(4), pix_fmt="yuvj420p", qmin="13", qmax="13")
    copied(film, output, {1})
    assert quantisation_tables(coded(output)[1]) == quantisation_tables(coded(film)[1])


def test_a_dv_frame_keeps_its_sound_and_timecode(tmp_path):
    film, noted, output = tmp_path / "in.avi", tmp_path / "noted.avi", tmp_path / "out.mov"
    make(film, "dvvideo", times=range(4), size=(720, 576))

    def with_sound(number: int, data: bytes) -> bytes:
        blocks = np.frombuffer(data, np.uint8).reshape(-1, 80).copy()
        blocks[blocks[:, 0] >> 5 == 3, 10:] = 7
        return blocks.tobytes()

    rewritten(film, noted, with_sound)
    copied(noted, output, {1})
    old, new = (np.frombuffer(coded(path)[1], np.uint8).reshape(-1, 80) for path in (noted, output))
    picture = old[:, 0] >> 5 == 4
    assert (old[~picture] == new[~picture]).all() and (old[picture] != new[picture]).any()


def test_the_header_of_h265_has_the_higher_level(tmp_path):
    low = make(tmp_path / "in.mp4", "libx265", **{"x265-params": f"{HEVC['x265-params']}:ref=1:bframes=0"})
    own = av.CodecContext.create("libx265", "w")
    own.width, own.height, own.pix_fmt, own.framerate = 3840, 2160, "yuv420p", 50
    own.options, own.flags = HEVC, own.flags | Flags.global_header
    own.open()
    copy = find_copy(FileSource(low).info, low, "mp4")
    assert isinstance(copy, PacketCopy) and copy.shared_header(bytes(own.extradata))[12] > copy.header[12]


def test_a_film_without_a_change_stays_the_same_bytes(tmp_path):
    film, output = make(tmp_path / "in.mp4", bf="0"), tmp_path / "out.mp4"
    assert count_of(copied(film, output, set())) == FRAMES
    assert coded(film) == coded(output)


def test_frames_decode_from_every_keyframe(tmp_path):
    film, output = make(tmp_path / "in.mkv"), tmp_path / "out.mp4"
    copied(film, output, {3, 25})
    whole = dict(decoded(output))
    with av.open(str(output)) as container:
        stream = container.streams.video[0]
        begins = [p.pts for p in container.demux(stream) if p.size and p.is_keyframe]
        for pts in begins:
            container.seek(pts, stream=stream)
            frame = next(container.decode(stream))
            assert frame.pts == pts and luma(frame) == whole[pts * stream.time_base]
    assert len(begins) >= FRAMES / GROUP


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("gop", ["0", "1"])
def test_h265_decodes_with_the_first_sets_of_its_header(tmp_path, gop, suffix):
    """As Firefox does, which forgets the others, and takes those of the stream."""
    options = {"x265-params": HEVC["x265-params"].replace("gop=0", f"gop={gop}")}
    film, output = make(tmp_path / "in.mp4", "libx265", **options), tmp_path / f"out.{suffix}"
    copied(film, output, {14, 15})
    with closing(FileSource(film)) as source:
        found = find_copy(source.info, film, FORMATS[output.suffix])
    assert isinstance(found, GroupCopy)
    whole = [picture for _, picture in decoded(output)]
    with av.open(str(output)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    shown = {packet.pts: number for number, packet in enumerate(sorted(packets, key=lambda packet: packet.pts or 0))}
    for begin in [number for number, packet in enumerate(packets) if packet.is_keyframe]:
        decoder = av.CodecContext.create("hevc", "r")
        assert isinstance(decoder, VideoCodecContext)
        decoder.extradata = found.header
        frames = [frame for packet in [*packets[begin:], None] for frame in decoder.decode(packet)]
        assert len(frames) >= FRAMES - shown[packets[begin].pts]
        assert all(luma(frame) == whole[shown[frame.pts]] for frame in frames)


def test_a_picture_parameter_set_of_four_bytes_is_read(tmp_path):
    film = make(tmp_path / "in.ts", preset="ultrafast")  # in start codes
    assert count_of(copied(film, tmp_path / "out.ts", {14})) == FRAMES - GROUP + 4


def test_times_of_a_variable_rate_can_be_sought(tmp_path):
    film = make(tmp_path / "in.mp4", times=[n + 3 * (n // 4) for n in range(FRAMES)])
    output = tmp_path / "out.mp4"
    copied(film, output, {14})
    whole = decoded(output)
    assert [time for time, _ in whole] == [time for time, _ in decoded(film)]
    with av.open(str(output)) as container:
        stream = container.streams.video[0]
        for time, picture in whole:
            container.seek(round(time / stream.time_base), stream=stream)
            shown = next(f for f in container.decode(stream) if f.pts * stream.time_base >= time)
            assert shown.pts * stream.time_base == time and luma(shown) == picture


def test_a_run_that_must_copy_stops_before_the_work(tmp_path):
    film = make(tmp_path / "in.mkv", "mpeg4")
    with pytest.raises(UsageError) as caught:
        rtface.run(film, tmp_path / "out.mkv", copy="require", dry_run=True)
    assert caught.value.code == "copy_required"
    said = rtface.run(film, tmp_path / "out.mkv", copy="auto", dry_run=True).notes
    assert any("no packet is copied" in line for line in said)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_h265_is_copied_on_from_an_open_group(tmp_path, suffix):
    film = make(tmp_path / "in.mkv", "libx265", **{"x265-params": HEVC["x265-params"].replace("gop=0", "gop=1")})
    output = tmp_path / f"out.{suffix}"
    sink = copied(film, output, {4, 25})
    before, after = decoded(film), decoded(output)
    same = [one[1] == other[1] for one, other in zip(before, after, strict=True)]
    assert count_of(sink) >= 16 and sum(same) >= count_of(sink) and all(same[12:18]) and all(same[32:])
    assert [time for time, _ in after] == pytest.approx([time for time, _ in before], abs=0.001)
    kept = [n for first, last in sink.copied for n in range(first, last + 1)]
    assert all(same[n] for n in kept) and not {4, 25} & {*kept}


def test_open_groups_are_said_before_the_work(tmp_path):
    film = make(tmp_path / "in.mkv", **{"x264-params": "open-gop=1:keyint=10:min-keyint=1"})
    assert count_of(copied(film, tmp_path / "copied.mkv", {2})) < 4
    assert len(decoded(tmp_path / "copied.mkv")) == FRAMES
    with pytest.raises(UsageError, match="groups of pictures are open"):
        rtface.run(film, tmp_path / "out.mkv", copy="require", dry_run=True)
    said = rtface.run(film, tmp_path / "out.mkv", copy="auto", dry_run=True).notes
    assert any("groups of pictures are open" in line for line in said)


def test_a_film_without_idr_frames_is_not_copied(tmp_path):
    film, cut = make(tmp_path / "in.ts", **{"x264-params": "open-gop=1:keyint=10:min-keyint=1"}), tmp_path / "cut.ts"
    without_frames(film, cut, range(GROUP + 1))
    said = rtface.run(cut, tmp_path / "out.ts", copy="auto", dry_run=True).notes
    assert any("no packet is copied: none of its first groups" in line for line in said)


def as_top_fields(data: bytes, bits: int) -> bytes:
    """Coded frames (units with their length before them) whose slices say that they are of a top field only."""
    out = b""
    for unit in prefixed(data, 4):
        if unit[0] & 31 in (1, 5):
            text, at = "".join(f"{byte:08b}" for byte in unescaped(unit)[1:]), 0
            for _ in range(3):
                at += 2 * (text.index("1", at) - at) + 1
            text = text[: at + bits] + "10" + text[at + bits + 1 :]
            text += "0" * (-len(text) % 8)
            unit = unit[:1] + int(text, 2).to_bytes(len(text) // 8, "big")
        out += len(unit).to_bytes(4, "big") + unit
    return out


def test_fields_coded_apart_are_not_copied(tmp_path):
    film, fields = make(tmp_path / "in.mp4", **{"x264-params": "tff=1:bframes=0"}), tmp_path / "fields.mp4"
    slices = H264Slices()
    with av.open(str(film)) as whole:
        for unit in parameter_sets(whole.streams.video[0].codec_context.extradata, "avc"):
            slices.read(unit)
    rewritten(film, fields, lambda _, data: as_top_fields(data, slices.sequences[0].frame_number_bits))
    assert all(gop.sound for gop in mini_gops(film)) and not any(gop.sound for gop in mini_gops(fields))
