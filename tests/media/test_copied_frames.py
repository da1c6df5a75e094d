"""Coded frames of the input that are copied where nothing was changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.codec.context import Flags

import rtface
from rtface.errors import Message, UsageError
from rtface.frame import Frame
from rtface.media.formats.coded_headers.bits import parameter_sets, prefixed, unescaped
from rtface.media.formats.coded_headers.h264 import H264Slices
from rtface.media.read.mini_gops import mini_gops
from rtface.media.read.source import FileSource
from rtface.media.write.file_sink import FileSink
from rtface.media.write.packet_copy import PacketCopy, find_copy, fit_copy
from rtface.media.write.stream_plan import plan_output
from rtface.stats import Stats
from rtface.trust.check_copied import check_copied
from rtface.trust.check_sidecar import Checked
from rtface.trust.packet_hashes import hash_packets

FRAMES, GROUP = 40, 10


HEVC = {"x265-params": "open-gop=0:keyint=10:min-keyint=10:scenecut=0:log-level=error"}


def make(path: Path, codec: str = "libx264", *, times: Sequence[int] = range(FRAMES), **options: str) -> Path:
    """A film of noise that moves, with groups of ten frames, at these times in 1/25 s."""
    field = np.random.default_rng(1).integers(40, 200, (180, 400), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.codec_context.gop_size = GROUP
        stream.codec_context.options = {"preset": "fast", "sc_threshold": "0", **options}
        for number, time in enumerate(times):
            grey = field[:, number : number + 320]
            frame = av.VideoFrame.from_ndarray(np.stack([grey] * 3, 2), "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = time, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def copied(film: Path, output: Path, changed: set[int]) -> FileSink:
    """Writes `output` with some frames changed; its sink."""
    stats = Stats()
    source = FileSource(film, stats=stats)
    codec = "h265" if source.info.codec == "hevc" else None
    plan = plan_output(source.info, output, codec=codec)
    plan.copy = found = find_copy(source.info, film, plan.format)  # pyright: ignore
    assert isinstance(found, PacketCopy) and fit_copy(found, source.info, plan.video) is None
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
    return [(frame.pts * frame.time_base - first, frame.to_ndarray()[:180].tobytes()) for frame in frames]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts"])
@pytest.mark.parametrize("kind", ["mp4", "ts"])
@pytest.mark.parametrize(("codec", "options"), [("libx264", {}), ("libx265", HEVC)])
def test_what_was_not_changed_is_copied(tmp_path, codec, options, kind, suffix):
    film, output = make(tmp_path / f"in.{kind}", codec, **options), tmp_path / f"out.{suffix}"
    count = count_of(copied(film, output, {14, 15}))
    before, after = decoded(film), decoded(output)
    assert FRAMES - GROUP <= count < FRAMES - 2
    assert [time for time, _ in after] == pytest.approx([time for time, _ in before], abs=0.001)
    same = [one[1] == other[1] for one, other in zip(before, after, strict=True)]
    assert sum(same) >= count and all(same[:10]) and all(same[20:]) and not same[14]


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
    with av.open(str(film)) as one, av.open(str(output)) as other:
        assert [bytes(p) for p in one.demux(video=0)] == [bytes(p) for p in other.demux(video=0)]


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
            assert frame.pts == pts and frame.to_ndarray()[:180].tobytes() == whole[pts * stream.time_base]
    assert len(begins) >= FRAMES / GROUP


def test_open_groups_are_encoded(tmp_path):
    film = make(tmp_path / "in.mkv", **{"x264-params": "open-gop=1:keyint=10:min-keyint=1"})
    assert count_of(copied(film, tmp_path / "out.mkv", {2})) < 4
    assert len(decoded(tmp_path / "out.mkv")) == FRAMES


@pytest.mark.parametrize("suffix", ["mp4", "ts"])
@pytest.mark.parametrize(("codec", "options"), [("libx264", {}), ("libx265", HEVC)])
def test_copied_frames_are_proven_without_decoding(tmp_path, codec, options, suffix):
    film, output = make(tmp_path / "in.mp4", codec, **options), tmp_path / f"out.{suffix}"
    sink, begins = copied(film, output, {14, 15}), (0.0, 0.0)
    with av.open(str(output)) as container:
        begins = float(container.streams.video[0].start_time * container.streams.video[0].time_base), 0.0
    found, other = Checked(), Checked()
    check_copied(found, *(hash_packets(one, slices=True)[0] for one in (output, film)), begins, sink.copied)
    assert not found.problems and f"{count_of(sink)} frames of {FRAMES}" in found.proofs[0]
    strange = make(tmp_path / "other.mp4", codec, **options | {"crf": "34"})
    check_copied(other, *(hash_packets(one, slices=True)[0] for one in (output, strange)), begins, sink.copied)
    assert other.problems and not other.proofs


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
            assert shown.pts * stream.time_base == time and shown.to_ndarray()[:180].tobytes() == picture


def test_a_run_that_must_copy_stops_before_the_work(tmp_path):
    film = make(tmp_path / "in.mkv", "mpeg4")
    with pytest.raises(UsageError, match="all frames would be encoded") as caught:
        rtface.run(film, tmp_path / "out.mkv", copy="require", dry_run=True)
    assert caught.value.code == "copy_required"
    said = rtface.run(film, tmp_path / "out.mkv", copy="auto", dry_run=True).notes
    assert any("no packet is copied" in line for line in said)


def test_open_groups_are_said_before_the_work(tmp_path):
    film = make(tmp_path / "in.mkv", **{"x264-params": "open-gop=1:keyint=10:min-keyint=1"})
    with pytest.raises(UsageError, match="groups of pictures are open"):
        rtface.run(film, tmp_path / "out.mkv", copy="require", dry_run=True)
    said = rtface.run(film, tmp_path / "out.mkv", copy="auto", dry_run=True).notes
    assert any("groups of pictures are open" in line for line in said)


def test_a_film_without_idr_frames_is_not_copied(tmp_path):
    film, cut = make(tmp_path / "in.ts", **{"x264-params": "open-gop=1:keyint=10:min-keyint=1"}), tmp_path / "cut.ts"
    with av.open(str(film)) as whole, av.open(str(cut), "w") as part:
        stream = part.add_stream_from_template(whole.streams.video[0])
        for packet in [packet for packet in whole.demux(video=0) if packet.size][GROUP + 1 :]:
            packet.stream = stream
            part.mux(packet)
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
    with av.open(str(film)) as whole, av.open(str(fields), "w") as part:
        for unit in parameter_sets(whole.streams.video[0].codec_context.extradata, "avc"):
            slices.read(unit)
        stream = part.add_stream_from_template(whole.streams.video[0])
        for packet in [packet for packet in whole.demux(video=0) if packet.size]:
            other = av.Packet(as_top_fields(bytes(packet), slices.sequences[0].frame_number_bits))
            other.stream, other.pts, other.dts, other.is_keyframe = stream, packet.pts, packet.dts, packet.is_keyframe
            part.mux(other)
    assert all(gop.sound for gop in mini_gops(film)) and not any(gop.sound for gop in mini_gops(fields))


def test_another_codec_is_not_copied(tmp_path):
    film = make(tmp_path / "in.mkv", "mpeg4")
    source = FileSource(film)
    plan = plan_output(source.info, tmp_path / "out.mkv")
    why = find_copy(source.info, film, plan.format)
    source.close()
    assert isinstance(why, Message) and why.code == "copy_codec"
