"""What can go wrong with an output: said before any work, or what was done is kept and plays."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rtface.errors import OutputError, UsageError
from rtface.frame import Frame
from rtface.media.file_sink import FileSink
from rtface.media.leftovers import clear_leftovers
from rtface.media.outputs import check_target
from rtface.media.source import open_source
from rtface.media.stream_plan import plan_output

# Runs source → sink in a process of its own; argv: input, output, seconds a frame, file size limit (0 none).
PROGRAM = """
import resource, signal, sys, time
from rtface.errors import RtfaceError
from rtface.frame import Frame
from rtface.media.file_sink import FileSink
from rtface.media.source import open_source
from rtface.media.stream_plan import plan_output

source, output, pause, limit = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    opened = open_source(source)
    sink = FileSink(plan_output(opened.info, output, crf=1, preset="ultrafast", overwrite=True), threads=1)
    for item in opened:
        sink.write(item)
        if isinstance(item, Frame):
            print("frame", flush=True)
            time.sleep(pause)
    sink.finish()
except RtfaceError as error:
    sys.exit(f"{type(error).__name__}: {error}; resume_at={sink.resume_at} kept={sink.kept}")
"""


@pytest.fixture
def film(media, tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return media.make_film(tmp_path / "source" / "in.mp4", frames=25, sound="aac")


def test_places_that_cannot_be_written_to(film: Path, tmp_path: Path):
    opened = open_source(film)
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "there.mp4").write_bytes(b"old but good")
    for output, says in ((tmp_path / "none" / "x.mp4", "there is no folder"), (tmp_path / "folder.mp4", "is a folder"),
                         (tmp_path / "there.mp4", "exists already; --overwrite"), (film, "is the input itself")):
        with pytest.raises(OutputError, match=says) as caught:
            plan_output(opened.info, output)
        assert str(output) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=r"\.txt names no film container"):
        plan_output(opened.info, tmp_path / "x.txt")
    with pytest.raises(UsageError, match="no extension"):
        plan_output(opened.info, tmp_path / "x")
    opened.close()
    assert (tmp_path / "there.mp4").read_bytes() == b"old but good"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.mp4", "source", "there.mp4"]


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_the_input_under_another_name_is_refused(film: Path, tmp_path: Path, link: str):
    other = tmp_path / "other.mp4"
    getattr(other, link)(film)
    opened = open_source(film)
    with pytest.raises(OutputError, match="is the input itself"):
        plan_output(opened.info, other, overwrite=True)
    opened.close()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(film: Path, tmp_path: Path):
    (tmp_path / "locked").mkdir(mode=0o500)
    opened = open_source(film)
    with pytest.raises(OutputError, match="cannot be written to"):
        plan_output(opened.info, tmp_path / "locked" / "x.mp4")
    opened.close()


def test_a_name_that_is_too_long(film: Path, tmp_path: Path):
    opened = open_source(film)
    with pytest.raises(OutputError, match=r"name is too long.*choose a shorter one"):
        plan_output(opened.info, tmp_path / ("x" * 245 + ".mp4"))
    opened.close()


OUT_OF_MEMORY = """
import resource, sys
from fractions import Fraction
from rtface.errors import OutputError
from rtface.media.color import ColorTags
from rtface.media.encoders import VideoPlan, check, set_quality
plan = VideoPlan(sys.argv[1], "yuv444p", 12000, 7500, Fraction(25), Fraction(1, 25), ColorTags(), None)
set_quality(plan, None, None)
limit = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + (300 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    check(plan)
except OutputError as error:
    sys.exit(str(error))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by Linux's means")
@pytest.mark.parametrize("encoder", ["libx264", "libvpx-vp9", "ffv1"])
def test_an_encoder_without_memory_says_memory(encoder: str):
    done = subprocess.run([sys.executable, "-c", OUT_OF_MEMORY, encoder], capture_output=True, text=True, check=False)
    assert "not enough memory" in done.stderr and "12000×7500" in done.stderr, done.stderr
    assert "check --codec" not in done.stderr


def test_a_link_to_an_output_is_written_through(media, film: Path, tmp_path: Path):
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "out.mp4"
    target.write_bytes(b"old")
    (tmp_path / "out.mp4").symlink_to(target)
    media.passthrough(film, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").is_symlink() and len(media.decoded(target)) == 25


@pytest.mark.parametrize(("options", "says"), [
    ({"codec": "nosuch"}, "no such encoder"), ({"codec": "aac"}, "not for pictures"),
    ({"preset": "turbo"}, "does not open"), ({"codec": "ffv1"}, "mp4 cannot hold|--crf"),
    ({"codec": "prores"}, "cannot hold"), ({"codec": "vp9", "preset": "x"}, "does not open"),
])
def test_options_that_cannot_be_used(film: Path, tmp_path: Path, options: dict[str, str], says: str):
    opened = open_source(film)
    with pytest.raises(UsageError, match=says):
        plan_output(opened.info, tmp_path / "out.mp4", **{"crf": 5 if options["codec"] == "ffv1" else None, **options}
                    if "codec" in options else options)
    opened.close()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm"])
def test_an_output_appears_only_when_it_is_whole(media, film: Path, tmp_path: Path, suffix: str):
    output = tmp_path / f"out{suffix}"
    output.write_bytes(b"old but good")
    opened = open_source(film)
    sink = FileSink(plan_output(opened.info, output, overwrite=True))
    for item in opened:
        sink.write(item)
        assert output.read_bytes() == b"old but good"
    sink.finish()
    sink.finish()
    opened.close()
    assert len(media.decoded(output)) == 25
    assert sorted(p.name for p in tmp_path.iterdir()) == [output.name, "source"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm", ".ts"])
def test_an_aborted_run_leaves_a_whole_part(media, film: Path, tmp_path: Path, suffix: str):
    opened = open_source(film, start=0.2)
    sink = FileSink(plan_output(opened.info, tmp_path / f"out{suffix}"))
    done = 0
    for item in opened:
        sink.write(item)
        done += isinstance(item, Frame)
        if done == 12:
            break
    partial = sink.abort(keep_partial=True)
    opened.close()
    assert partial == str(tmp_path / f"out.partial{suffix}") == sink.abort(keep_partial=True)
    assert len(media.decoded(Path(partial))) == 12
    assert sink.resume_at == pytest.approx(0.2 + 12 / 25, abs=0.03)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"out.partial{suffix}", "source"]
    rest, _ = media.frames_of(film, start=sink.resume_at)
    assert len(rest) == 25 - 5 - 12


def test_parts_are_not_overwritten(film: Path, tmp_path: Path):
    names = []
    for _ in range(2):
        opened = open_source(film)
        sink = FileSink(plan_output(opened.info, tmp_path / "out.mkv"))
        for item in opened:
            sink.write(item)
        names.append(sink.abort(keep_partial=True))
        opened.close()
    assert [Path(n).name for n in names] == ["out.partial.mkv", "out.partial-2.mkv"]


def test_an_abort_without_a_part_leaves_nothing(film: Path, tmp_path: Path):
    for keep, frames in ((False, 5), (True, 0)):
        opened = open_source(film)
        sink = FileSink(plan_output(opened.info, tmp_path / "out.mp4"))
        for item, _ in zip((i for i in opened if isinstance(i, Frame)), range(frames), strict=False):
            sink.write(item)
        assert sink.abort(keep_partial=keep) is None and sink.resume_at is None
        opened.close()
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_no_frame_at_all(film: Path, tmp_path: Path):
    opened = open_source(film)
    sink = FileSink(plan_output(opened.info, tmp_path / "out.mp4"))
    with pytest.raises(OutputError, match="no picture came"):
        sink.finish()
    opened.close()
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def noisy(media, path: Path, frames: int) -> Path:
    """A film whose every picture is new, so that it needs space."""
    return media.make_film(path, frames=frames, size=(320, 180), codec="ffv1")


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX resource limits")
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_file_that_cannot_grow(media, tmp_path: Path, suffix: str):
    (tmp_path / "out").mkdir()
    source = noisy(media, tmp_path / "in.mkv", 60)
    done = subprocess.run([sys.executable, "-c", PROGRAM, source, tmp_path / "out" / f"o{suffix}", "0", "700000"],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    error = [line for line in done.stderr.strip().splitlines() if "becomes lossy" not in line]
    assert len(error) == 1 and error[0].startswith("OutputError: "), done.stderr
    assert re.search(r"file size limit is reached after [\d.]+ MB of about [\d.]+ MB", error[0])
    (partial,) = (tmp_path / "out").iterdir()
    assert partial.name == f"o.partial{suffix}" and str(partial) in error[0]
    shown = media.decoded(partial)
    assert 0 < len(shown) < 60
    resume, kept = re.search(r"resume_at=([\d.]+) kept=(\d+)", error[0]).groups()
    assert (float(resume), int(kept)) == (len(shown) / 25, len(shown))


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_a_killed_run_leaves_a_part_that_plays(media, tmp_path: Path, suffix: str):
    (tmp_path / "out").mkdir()
    output = tmp_path / "out" / f"o{suffix}"
    output.write_bytes(b"old but good")
    source = noisy(media, tmp_path / "in.mkv", 75)
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, source, output, "0.01", "0"], stdout=subprocess.PIPE,
                               text=True)
    assert process.stdout is not None
    for _ in range(55):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    process.stdout.close()
    assert output.read_bytes() == b"old but good"
    (left,) = (p for p in (tmp_path / "out").iterdir() if p != output)
    assert left.name.startswith(".o.") and left.suffix == suffix
    assert len(media.decoded(left)) >= 20
    (line,) = clear_leftovers(check_target(output, inputs=[], overwrite=True))
    partial = output.with_name(f"o.partial{suffix}")
    shown = media.decoded(partial)
    assert not left.exists() and len(shown) >= 20 and output.read_bytes() == b"old but good"
    assert str(partial) in line
    start = re.search(r"--start 0:00:0(\d\.\d+)", line)
    assert start and float(start[1]) == pytest.approx(len(shown) / 25, abs=0.05)


def test_memory_does_not_follow_the_length(media, tmp_path: Path):
    """What waits inside the sink is bounded by bytes, not by the film."""
    source = media.make_film(tmp_path / "in.mp4", frames=25, sound="pcm_s16le", sound_ms=1000)
    opened = open_source(source)
    sink = FileSink(plan_output(opened.info, tmp_path / "out.mkv"))
    for item in opened:
        sink.write(item)
    assert sink._streams.muxer.waiting_bytes <= 48_000 * 4
    sink.finish()
    opened.close()
