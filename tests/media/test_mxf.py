"""MXF outputs: frames, times, timecode and sound of the input come back; what MXF cannot hold is refused."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rtface.errors import OutputError
from rtface.media.files.leftovers import make_playable
from rtface.media.formats.mxf import check_times
from rtface.media.read.source import FileSource
from rtface.media.write.file_sink import FileSink
from rtface.media.write.stream_plan import plan_output
from tests.media.conftest import decoded, make_film, passthrough, picture
from tests.media.encoded import interlaced_film

NTSC = Fraction(30000, 1001)
FFV1 = {"codec": "ffv1", "options": {"level": "3"}}


def sound_of(path: Path) -> np.ndarray:
    """All samples of the first sound, int32 channels×n, scaled to 32 bits; silence where packets leave a gap."""
    with av.open(path) as box:
        parts = [frame.to_ndarray().reshape(-1, frame.layout.nb_channels) for frame in box.decode(audio=0)]
    samples = np.concatenate(parts).T
    return samples.astype(np.int32) << 16 if samples.dtype == np.int16 else samples.astype(np.int32)


def packets_of(path: Path) -> list[tuple[Fraction, bytes]]:
    with av.open(path) as box:
        video = box.streams.video[0]
        return [(p.pts * p.time_base, bytes(p)) for p in box.demux(video) if p.size]


@pytest.mark.parametrize(
    ("film", "codec", "rate", "timecode"),
    [
        ({"codec": "ffv1", "pix_fmt": "yuv420p"}, "ffv1", 25, "10:00:00:05"),
        ({"codec": "ffv1", "pix_fmt": "gbrp16le"}, "ffv1", 24, "00:59:58:00"),
        ({"codec": "prores_ks", "pix_fmt": "yuv422p10le"}, "prores", NTSC, "01:00:00;02"),
        (
            {"codec": "dnxhd", "pix_fmt": "yuv422p", "options": {"profile": "dnxhr_hq"}, "size": (256, 144)},
            "dnxhd",
            25,
            "01:00:00:00",
        ),
        ({"codec": "libx264", "options": {"preset": "fast"}}, "prores", 50, "01:00:00:49"),
        ({"codec": "ffv1"}, "ffv1", 18, "01:00:00:17"),
    ],
)
def test_times_frames_and_timecode_are_those_of_the_input(
    tmp_path: Path, film: dict[str, object], codec: str, rate: Fraction, timecode: str
) -> None:
    source = make_film(
        tmp_path / "in.mov" if codec != "ffv1" else tmp_path / "in.mkv",
        rate=rate,
        metadata={"timecode": timecode},
        **film,
    )  # pyright: ignore[reportArgumentType]
    plan = passthrough(source, tmp_path / "out.mxf")
    before, after = decoded(source), decoded(tmp_path / "out.mxf")
    assert [round(time * rate) for time, _ in before] == [time * rate for time, _ in after]
    assert str(FileSource(tmp_path / "out.mxf").info.timecode) == timecode
    with av.open(tmp_path / "out.mxf") as box:
        assert box.streams.video[0].codec_context.name == codec
    if codec == "ffv1":
        assert plan.video.lossless
        assert [frame for _, frame in before] == [frame for _, frame in after]


@pytest.mark.parametrize("codec", ["mpeg2video", "dnxhd"])
def test_codecs_of_broadcast_are_written_where_asked_for(tmp_path: Path, codec: str) -> None:
    source = make_film(
        tmp_path / "in.mxf",
        frames=5,
        codec="mpeg2video",
        pix_fmt="yuv422p",
        size=(320, 240),
        options={"chroma_sample_location": "topleft"},
    )
    passthrough(source, tmp_path / "out.mxf", codec=codec)
    with av.open(tmp_path / "out.mxf") as box:
        video = box.streams.video[0].codec_context
        assert (video.name, video.pix_fmt) == (codec, "yuv422p")
        assert [frame.time for frame in box.decode(video=0)] == pytest.approx([k / 25 for k in range(5)])


@pytest.mark.parametrize(("codec", "warns"), [("prores", 1), ("ffv1", 1), ("h264", 0)])
def test_fields_that_the_muxer_does_not_note_are_said(tmp_path: Path, codec: str, warns: int) -> None:
    source = interlaced_film(tmp_path / "in.mkv", [picture(i, "yuv420p", 64, 480) for i in range(2)], "tff")
    plan = passthrough(source, tmp_path / "out.mxf", codec=codec)
    assert sum("fields" in line for line in plan.video.warnings) == warns
    with av.open(tmp_path / "out.mxf") as box:
        top_first = all(frame.interlaced_frame for frame in box.decode(video=0))
    assert top_first or warns


def test_h264_keeps_the_order_of_display(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mkv", frames=20, **FFV1)  # pyright: ignore[reportArgumentType]
    passthrough(source, tmp_path / "out.mxf", codec="h264")
    before, after = decoded(source), decoded(tmp_path / "out.mxf")
    assert [time for time, _ in after] == [Fraction(k, 25) for k in range(20)]
    for (_, one), (_, other) in zip(before, after, strict=True):  # frames of another place differ by far more
        luma = [np.frombuffer(planes[0], np.uint8).astype(int) for planes in (one, other)]
        assert np.abs(luma[0] - luma[1]).mean() < 4


@pytest.mark.parametrize("encoder", ["pcm_s16le", "pcm_s24le", "pcm_s16be", "flac"])
def test_lossless_sound_keeps_its_samples(tmp_path: Path, encoder: str) -> None:
    source = make_film(
        tmp_path / ("in.mov" if "pcm" in encoder else "in.mkv"),
        sound=encoder,
        sound_ms=400,
        codec="prores_ks",
        pix_fmt="yuv422p10le",
    )
    plan = passthrough(source, tmp_path / "out.mxf")
    assert np.array_equal(sound_of(source), sound_of(tmp_path / "out.mxf"))
    assert not [note for note in plan.notes if "sound" in note]


@pytest.mark.parametrize(
    ("start_ms", "length_ms", "first_ms"), [(0, 250, 0), (120, 200, 0), (0, 900, 0), (0, 400, 100)]
)
def test_sound_begins_and_ends_with_the_frames(tmp_path: Path, start_ms: int, length_ms: int, first_ms: int) -> None:
    """Sound that is shorter, later, longer and earlier than ten frames."""
    times = [40 * k + first_ms for k in range(10)]
    source = make_film(
        tmp_path / "in.mkv",
        pts_ms=times,
        sound="pcm_s16le",
        sound_ms=length_ms,
        sound_start_ms=start_ms,
        codec="prores_ks",
        pix_fmt="yuv422p10le",
    )
    passthrough(source, tmp_path / "out.mxf")
    assert [time for time, _ in packets_of(tmp_path / "out.mxf")] == [Fraction(k, 25) for k in range(10)]
    wanted = np.zeros((2, 48 * 400), np.int32)
    tone, at = sound_of(source), 48 * (start_ms - first_ms)
    begin, end = max(at, 0), min(wanted.shape[1], at + tone.shape[1])
    wanted[:, begin:end] = tone[:, begin - at : end - at]
    assert np.array_equal(sound_of(tmp_path / "out.mxf"), wanted)


def test_sound_far_behind_the_frames_is_not_waited_for(tmp_path: Path) -> None:
    """Sound of one second in a film of 20 s: silence comes with the frames, not at the end."""
    source = make_film(
        tmp_path / "in.mkv",
        frames=100,
        rate=5,
        sound="pcm_s16le",
        sound_ms=1000,
        codec="prores_ks",
        pix_fmt="yuv422p10le",
    )
    opened = FileSource(source)
    sink = FileSink(plan_output(opened.info, tmp_path / "out.mxf"))
    for item in opened:
        sink.write(item)
    assert sink.work.stat().st_size > 0.3 * source.stat().st_size
    sink.finish()
    opened.close()
    found = sound_of(tmp_path / "out.mxf")
    assert found.shape[1] == 48_000 * 20
    assert np.array_equal(found[:, :48_000], sound_of(source))
    assert not found[:, 48_000:].any()


def test_short_sound_of_eight_channels_gets_its_silence(tmp_path: Path) -> None:
    def spoken(box: av.container.OutputContainer) -> Callable[[], None]:
        audio = box.add_stream("wavpack", rate=48_000)
        audio.codec_context.layout, audio.codec_context.format = "7.1", "fltp"

        def write() -> None:
            frame = av.AudioFrame("fltp", "7.1", 9600)
            for plane in frame.planes[:8]:
                plane.update(np.full(plane.buffer_size // 4, 0.5, np.float32).tobytes())
            frame.sample_rate, frame.pts = 48_000, 0
            box.mux([*audio.encode(frame), *audio.encode(None)])

        return write

    passthrough(make_film(tmp_path / "in.mkv", extra=spoken), tmp_path / "out.mxf")
    found = sound_of(tmp_path / "out.mxf")
    assert found.shape == (8, 48 * 400)
    assert (found[:, :9600] == 1 << 30).all() and not found[:, 9600:].any()


def test_lossy_sound_becomes_pcm_in_time(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mp4", frames=25, sound="aac", sound_ms=500, sound_start_ms=200)
    plan = passthrough(source, tmp_path / "out.mxf")
    found = np.abs(sound_of(tmp_path / "out.mxf")[0] / 2.0**31)
    assert found.shape[0] == 48_000
    loud = np.flatnonzero(found > 0.5) / 48_000
    assert loud[0] == pytest.approx(0.2, abs=0.003)
    assert loud[-1] == pytest.approx(0.7, abs=0.003)
    assert any("converted from aac to pcm_s24le" in note for note in plan.notes)


def test_a_cut_has_its_own_sound_and_timecode(tmp_path: Path) -> None:
    source = make_film(
        tmp_path / "in.mov",
        frames=20,
        sound="pcm_s16le",
        codec="prores_ks",
        pix_fmt="yuv422p10le",
        metadata={"timecode": "01:00:00:00"},
    )
    passthrough(source, tmp_path / "out.mxf", start=0.21)  # frame 6, at 0.24 s
    assert str(FileSource(tmp_path / "out.mxf").info.timecode) == "01:00:00:06"
    before, after = sound_of(source), sound_of(tmp_path / "out.mxf")
    assert np.array_equal(after, before[:, 48 * 240 : 48 * 800])


def test_aspect_and_fields_are_kept(tmp_path: Path) -> None:
    source = make_film(
        tmp_path / "in.mkv",
        aspect=Fraction(16, 15),
        size=(360, 288),
        codec="mpeg2video",
        options={"flags": "+ildct+ilme", "top": "1", "b": "4000000"},
    )
    passthrough(source, tmp_path / "out.mxf")
    infos = []
    for path in (source, tmp_path / "out.mxf"):
        opened = FileSource(path)
        infos.append((opened.info.aspect, opened.info.interlaced, opened.info.display.fields))
        opened.close()
    assert infos[0] == infos[1]
    assert infos[1][0] == Fraction(16, 15)


def test_full_range_stays_full_range(tmp_path: Path) -> None:
    """ProRes would be read as limited range."""
    source = make_film(tmp_path / "in.mp4", tags={"color_range": 2})
    plan = passthrough(source, tmp_path / "out.mxf")
    opened = FileSource(tmp_path / "out.mxf")
    opened.close()
    assert (plan.video.encoder, opened.info.color.full_range) == ("libx264", True)
    plan = passthrough(source, tmp_path / "out.mov", codec="prores")
    assert any("ProRes does not know full range" in line for line in plan.video.warnings)


def test_uneven_times_are_refused_before_they_are_lost(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mkv", pts_ms=[0, 40, 80, 200, 240], frames=5)
    with pytest.raises(OutputError, match=r"frame 3 comes 2\.0 frames late .* name the output out\.mkv or out\.mov"):
        passthrough(source, tmp_path / "out.mxf")
    with pytest.raises(OutputError, match="frame 3"):
        check_times("out.mxf", "out", [0, 40, 80, 200], Fraction(1, 1000), Fraction(25))
    check_times("out.mxf", "out", [3, 36, 70, 103, 136], Fraction(1, 1000), Fraction(30))


@pytest.mark.parametrize(
    ("film", "says"),
    [
        ({"chapters": [(0, 100, "one")]}, "1 chapters"),
        ({"matrix": (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)}, "the rotation"),
    ],
)
def test_what_mxf_cannot_hold_is_refused(tmp_path: Path, film: dict[str, object], says: str) -> None:
    source = make_film(tmp_path / "in.mp4", **film)  # pyright: ignore[reportArgumentType]
    with pytest.raises(OutputError, match=f"mxf cannot hold {says}.*out.mkv"):
        passthrough(source, tmp_path / "out.mxf")


def test_the_marks_are_comments_of_the_package(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mkv", metadata={"title": "A film"})
    tags = {"enhanced_by": "rtface 1", "rtface_engine": "rtface-m é", "digital_source_type": "composite"}
    for corrected in (True, False):
        out = tmp_path / "out.mxf"
        passthrough(source, out, tags=tags, corrected=corrected)
        with av.open(out) as box:
            found = {name: text for name, text in box.metadata.items() if name.startswith("comment_") and text}
            assert len(list(box.decode(video=0))) == 10
        marks = {f"comment_{name}": text for name, text in tags.items()} if corrected else {}
        assert found == {"comment_title": "A film", **marks}
    passthrough(out, tmp_path / "again.mxf")
    with av.open(tmp_path / "again.mxf") as box:
        assert box.metadata["comment_title"] == "A film"
        assert "comment_company_name" not in box.metadata and "comment_enhanced_by" not in box.metadata


def test_a_film_that_ends_early_plays(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mkv", frames=40, sound="pcm_s16le", sound_ms=1600)
    opened = FileSource(source)
    plan = plan_output(opened.info, tmp_path / "out.mxf")
    sink = FileSink(plan)
    for done, item in enumerate(opened):
        sink.write(item)
        if done == 40:
            break
    # As after a crash: the bytes that are on the disk.
    killed = tmp_path / ".out.killed.mxf"
    killed.write_bytes(sink.work.read_bytes())
    with killed.open("rb+") as file:
        assert len(make_playable(file)) > 5
    kept = sink.abort(keep_partial=True)
    opened.close()
    assert kept is not None
    assert len(decoded(Path(kept))) == sink.kept > 5
