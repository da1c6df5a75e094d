"""A kept correction gives the input back: to the bit from lossless outputs, in every format that FFV1 holds."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

import rtface
from rtface.cli.app import app
from rtface.config.options import Options
from rtface.errors import InputError, Interrupted, OutputError, UsageError
from rtface.media.marks.provenance import append_xmp_box, marks_of, own_tags, xmp
from rtface.media.read.source import FileSource
from rtface.media.stills.image_read import read_image
from rtface.media.stills.image_write import plan_image, write_image
from rtface.media.write.correction import difference, taken_back, working_format
from rtface.pipeline.film import run_file
from rtface.pipeline.progress import Progress
from rtface.trust.undo import Undone, undo
from tests.media.conftest import samples
from tests.media.encoded import interlaced_film
from tests.pipeline.run_media import film, portrait, still, write_film
from tests.pipeline.test_scans import scans

pytestmark = pytest.mark.usefixtures("engines")


def frames(path: Path, fmt: str = "") -> list[tuple[float, tuple[bytes, ...]]]:
    """Times and samples, by PyAV alone."""
    with av.open(str(path)) as box:
        return [(round(float(f.time), 3), samples(f.reformat(format=fmt) if fmt else f)) for f in box.decode(video=0)]


def corrected(source: Path, name: str = "out.mkv", **options: object) -> tuple[Path, Path]:
    """A film and its kept correction."""
    out, kept = source.with_name(name), source.with_name("d.mkv")
    rtface.run(source, out, keep_correction=kept, **options)
    return out, kept


def portraits(count: int = 4, size: tuple[int, int] = (320, 180)) -> list[np.ndarray]:
    return [portrait(*size, shift=(0.5 * t, 0.0))[0] for t in range(count)]


def back(out: Path, kept: Path, name: str = "back.mkv", **options: object) -> Undone:
    return undo(out, kept, out.with_name(name), **options)


@pytest.mark.parametrize(
    ("pix_fmt", "codec", "size"),
    [
        ("yuv420p", "ffv1", (320, 180)),
        ("yuv422p10le", "ffv1", (320, 180)),
        ("yuv444p12le", "ffv1", (321, 181)),
        ("gray", "ffv1", (320, 180)),
        ("gray16le", "ffv1", (320, 180)),
        ("bgr0", "ffv1", (320, 180)),
        ("gbrp12le", "ffv1", (320, 180)),
        ("rgb48le", "ffv1", (320, 180)),
        ("yuva444p10le", "ffv1", (320, 180)),
        ("yuv420p", "utvideo", (320, 180)),
        ("rgb24", "png", (320, 180)),
    ],
)
def test_every_format_comes_back_to_the_bit(tmp_path: Path, pix_fmt: str, codec: str, size: tuple[int, int]) -> None:
    suffix = {"ffv1": "mkv", "png": "mov"}.get(codec, "avi")
    source = write_film(tmp_path / f"in.{suffix}", portraits(3, size), codec=codec, pix_fmt=pix_fmt)
    out, kept = corrected(source, codec="ffv1")
    done = back(out, kept)
    assert (done.frames, done.taken_back, done.exact) == (3, 3, 3)
    fmt = "rgb24" if pix_fmt in ("bgr0", "rgb24") else ""
    assert frames(tmp_path / "back.mkv", fmt) == frames(source, fmt) != frames(out, fmt)


def test_coded_fields_and_lossless_h264_come_back(tmp_path: Path) -> None:
    pictures = [av.VideoFrame.from_ndarray(p, "rgb24").reformat(format="yuv420p") for p in portraits()]
    source = interlaced_film(tmp_path / "in.mkv", pictures)
    out, kept = corrected(source, crf=0)
    done = back(out, kept)
    assert done.exact == done.frames == 4 and frames(tmp_path / "back.mkv") == frames(source) != frames(out)
    with av.open(str(tmp_path / "back.mkv")) as box:
        assert next(box.decode(video=0)).interlaced_frame


def test_rotation_varying_times_and_sound_stay(tmp_path: Path) -> None:
    plain = film(tmp_path / "plain.mkv", frames=4, sound=True)
    source = tmp_path / "in.mkv"
    with av.open(str(plain)) as box, av.open(str(source), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in box.streams}
        streams[0].set_display_matrix([0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30])
        for packet in box.demux():
            if packet.size:
                if packet.stream_index == 0:
                    packet.pts = packet.dts = packet.pts + (15 if packet.pts > 50 else 0)
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    done, kept = corrected(source)
    assert back(done, kept).exact == 4 and frames(tmp_path / "back.mkv") == frames(source)
    with av.open(str(source)) as a, av.open(str(tmp_path / "back.mkv")) as b:
        assert [bytes(p) for p in a.demux(audio=0)] == [bytes(p) for p in b.demux(audio=0)]


def test_a_range_is_taken_back_and_the_rest_stays(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mkv", frames=8)
    out, kept = corrected(source, "not utf-8 \udce9.mkv")
    done = back(out, kept, start=0.08, end=0.2)
    before, after, result = frames(source), frames(out), frames(tmp_path / "back.mkv")
    assert (done.taken_back, done.exact) == (3, 3)
    assert result == [*after[:2], *before[2:5], *after[5:]]
    with av.open(str(tmp_path / "back.mkv")) as box:
        assert "RTFACE_ENGINE" in box.metadata  # parts of it are still enhanced


def test_what_is_wholly_undone_is_not_marked_as_enhanced(tmp_path: Path) -> None:
    out, kept = corrected(film(tmp_path / "in.mkv", frames=3))
    back(out, kept)
    with av.open(str(out)) as before, av.open(str(tmp_path / "back.mkv")) as after:
        assert "ENHANCED_BY" in before.metadata and not set(after.metadata) - {"ENCODER"}


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_the_mark_of_the_input_comes_back(tmp_path: Path, suffix: str) -> None:
    own = {
        "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture",
        "enhanced_by": "rtface 0.0.1",
    }
    given = write_film(tmp_path / f"in.{suffix}", portraits(3), codec="libx264", pix_fmt="yuv420p")
    tagged = tmp_path / f"tagged.{suffix}"
    flags = {"movflags": "use_metadata_tags"} if suffix == "mp4" else {}
    with av.open(str(given)) as box, av.open(str(tagged), "w", container_options=flags) as out:
        stream = out.add_stream_from_template(box.streams.video[0])
        out.metadata.update(own)
        for packet in box.demux():
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    if suffix == "mp4":
        with tagged.open("rb+") as file:
            append_xmp_box(file, xmp({"enhanced_by": "Camera & Co", **own}))
    film_, kept = corrected(tagged, f"out.{suffix}")
    back(film_, kept, f"back.{suffix}")
    for path, same in ((film_, False), (tmp_path / f"back.{suffix}", True)):
        with closing(FileSource(path)) as opened:
            assert (own_tags(opened.info.metadata) == own) is same
            if suffix == "mp4":
                assert (marks_of({}, opened.info.xmp)["xmp"] == marks_of({}, xmp(own))["xmp"]) is same


def test_a_cut_and_segments_keep_their_corrections(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mkv", frames=20)
    out, kept = corrected(source, start=0.2, segments=2)
    done = back(out, kept)
    assert done.exact == 15 and [s for _, s in frames(tmp_path / "back.mkv")] == [s for _, s in frames(source)][5:]


def test_a_lossy_film_comes_back_as_close_as_it_is(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mkv", frames=6)
    out, kept = corrected(source, "out.mp4", codec="libx264", correct="always")
    done = back(out, kept, "back.mkv", encode=Options(codec="ffv1"))
    assert not done.lossless and done.psnr_db is not None

    def apart(path: Path) -> float:
        with av.open(str(source)) as a, av.open(str(path)) as b:
            pairs = zip(a.decode(video=0), b.decode(video=0), strict=True)
            return float(np.mean([(x.to_ndarray().astype(int) - y.to_ndarray()) ** 2 for x, y in pairs]))

    near = 10 * np.log10(255**2 / apart(tmp_path / "back.mkv"))
    assert apart(tmp_path / "back.mkv") < apart(out) / 4 and abs(near - done.psnr_db) < 6  # estimated from few samples


def test_a_film_without_a_face_has_an_empty_correction(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mkv", frames=3, face=False)
    out, kept = corrected(source)
    with av.open(str(kept)) as box:
        assert all(np.all(f.to_ndarray() == 128) for f in box.decode(video=0))
    assert back(out, kept).exact == 3


@pytest.mark.parametrize("fmt", ["yuv420p", "gbrp10le", "gray16le", "rgb24"])
def test_differences_wrap_and_return(fmt: str) -> None:
    rng = np.random.default_rng(3)
    work, _ = working_format(fmt)

    def noise() -> av.VideoFrame:
        image = av.VideoFrame(32, 16, work)
        bits = max(c.bits for c in image.format.components)
        for plane in image.planes:
            values = rng.integers(0, 1 << bits, plane.buffer_size // (2 if bits > 8 else 1))
            plane.update(values.astype("<u2" if bits > 8 else np.uint8).tobytes())
        return image

    before, after = noise(), noise()
    assert samples(taken_back(after, difference(before, after), exact=True)) == samples(before)


def wrong_size(folder: Path) -> Path:
    return write_film(folder / "x.mkv", portraits(3, (160, 90)))


def other_samples(folder: Path) -> Path:
    return film(folder / "x.mkv", frames=3, face=False)


def longer(folder: Path) -> Path:
    rtface.run(film(folder / "long.mkv", frames=5), folder / "x.mkv")
    return folder / "x.mkv"


def other_times(folder: Path) -> Path:
    return write_film(folder / "x.mkv", portraits(3), rate=10)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (wrong_size, "is the correction of another film"),
        (other_samples, r"frame 0 .*its samples are others"),
        (longer, "ends before frame 3 .*--end 0:00:00.120 takes back"),
        (other_times, "its time is another|its samples are others"),
    ],
)
def test_films_that_do_not_belong_together(tmp_path: Path, made: Callable[[Path], Path], said: str) -> None:
    _, kept = corrected(film(tmp_path / "in.mkv", frames=3))
    with pytest.raises(InputError, match=said):
        undo(made(tmp_path), kept, tmp_path / "back.mkv")
    assert not [p for p in tmp_path.iterdir() if "back" in p.name]
    with pytest.raises(InputError, match="is no correction"):
        undo(tmp_path / "out.mkv", tmp_path / "in.mkv", tmp_path / "back.mkv")


def test_a_correction_of_samples_that_there_are_not(tmp_path: Path) -> None:
    out, kept = corrected(film(tmp_path / "in.mkv", frames=3))
    samples = kept.read_bytes()
    assert b"yuv420p" in samples
    kept.write_bytes(samples.replace(b"yuv420p", b"yuv42op"))
    with pytest.raises(InputError, match=r"is damaged .*yuv42op"):
        undo(out, kept, tmp_path / "x.mkv")


def test_a_part_and_its_correction_may_end_apart(tmp_path: Path) -> None:
    _, kept = corrected(film(tmp_path / "in.mkv", frames=3))
    short, long = tmp_path / "short.mkv", longer(tmp_path)
    rtface.run(tmp_path / "in.mkv", short, end=0.08)
    done = undo(short, kept, tmp_path / "back.mkv")
    assert done.exact == done.frames == 2 and "ends before its correction" in done.notes[-1]
    done = undo(long, kept, tmp_path / "again.mkv", end=0.12)
    assert (done.frames, done.taken_back, done.exact) == (5, 3, 3)


def test_an_interrupted_run_keeps_both_parts(tmp_path: Path) -> None:
    source, stop = film(tmp_path / "in.mkv", frames=20), threading.Event()

    def look(progress: Progress) -> None:
        if progress.frames == 12:
            stop.set()

    with pytest.raises(Interrupted) as info:
        run_file(source, tmp_path / "out.mkv", Options(keep_correction=tmp_path / "d.mkv"), progress=look, stop=stop)
    part, kept = tmp_path / "out.partial.mkv", tmp_path / "d.partial.mkv"
    count = len(frames(part))
    assert info.value.resume_at == pytest.approx(count / 25) and len(frames(kept)) == count
    assert undo(part, kept, tmp_path / "back.mkv").exact == count
    assert frames(tmp_path / "back.mkv") == frames(source)[:count]


def test_names_are_checked_before_the_run(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mkv", frames=2)
    with pytest.raises(UsageError, match=r"name a \.mkv"):
        rtface.run(source, tmp_path / "out.mkv", keep_correction=tmp_path / "d.mp4")
    (tmp_path / "d.mkv").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"keep_correction=.* exists already"):
        rtface.run(source, tmp_path / "out.mkv", keep_correction=tmp_path / "d.mkv")
    assert not (tmp_path / "out.mkv").exists() and (tmp_path / "d.mkv").read_bytes() == b"mine"


def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    out, kept = corrected(film(tmp_path / "in.mkv", frames=4))
    names = ["undo", str(out), str(kept), str(tmp_path / "back.mkv")]
    result = CliRunner().invoke(app, [*names, "--start", "0.08", "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["exact"] == 2
    assert CliRunner().invoke(app, names).exit_code == 1  # it exists
    assert CliRunner().invoke(app, [*names, "--overwrite", "--start", "x"]).exit_code == 2


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_the_marks_of_stills_come_back(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    capture = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
    said = [{"enhanced_by": "Camera & Co", "digital_source_type": capture}, {"enhanced_by": "Scanner"}, None]
    for number, own in enumerate(said):
        made = read_image(still(tmp_path / "plain.png"))
        made.meta.xmp = own and xmp(own)
        write_image(made.frame, plan_image(tmp_path / "in" / f"{number}.{kind}"), still=made)
    kept, out = tmp_path / "d.mkv", tmp_path / "out"
    rtface.run(tmp_path / "in", f"{out}/", sequence=True, keep_correction=kept)
    undo(out, kept, tmp_path / "back")
    for number in range(3):
        was, now, back_ = (
            marks_of({}, read_image(tmp_path / folder / f"{number}.{kind}").meta.xmp)["xmp"]
            for folder in ("in", "out", "back")
        )
        assert was == back_ != now


@pytest.mark.parametrize("kind", ["dpx", "tiff"])
def test_folders_of_scans_come_back_byte_for_byte(tmp_path: Path, kind: str) -> None:
    if kind == "dpx":
        source = scans(tmp_path / "in")
    else:
        rtface.run(film(tmp_path / "in.mkv", frames=3), f"{tmp_path}/in/", codec="tiff", correct="never")
        source = tmp_path / "in"
    kept, out = tmp_path / "d.mkv", tmp_path / "out"
    rtface.run(source, f"{out}/", sequence=True, fps=24, keep_correction=kept)
    done = undo(out, kept, tmp_path / "back")
    assert (done.frames, done.exact) == (3, 3)
    for path in sorted(source.iterdir()):
        one, other = read_image(path), read_image(tmp_path / "back" / path.name)
        assert samples(one.frame.image) == samples(other.frame.image)
        assert kind == "tiff" or path.read_bytes() == (tmp_path / "back" / path.name).read_bytes()
    with pytest.raises(UsageError, match="folder of the same kind"):
        rtface.run(source, f"{tmp_path}/x/", sequence=True, codec="png", keep_correction=tmp_path / "e.mkv")
