"""What can go wrong with an output: said before any work, or what was done is kept and plays."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rtface.errors import OutputError, UsageError
from rtface.media.files.leftovers import clear_leftovers
from rtface.media.files.outputs import check_target
from rtface.media.write.file_sink import FileSink
from rtface.media.write.stream_plan import plan_output

# Runs source → sink in another process; argv: input, output, number of the frame after which it waits to be killed
# (0: none), file size limit (0: none).
PROGRAM = """
import resource, sys
from rtface.errors import RtfaceError
from rtface.frame import Frame
from rtface.media.write.file_sink import FileSink
from rtface.media.read.source import FileSource
from rtface.media.write.stream_plan import plan_output

source, output, last, limit = *sys.argv[1:3], *map(int, sys.argv[3:])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    opened = FileSource(source)
    sink = FileSink(plan_output(opened.info, output, crf=1, preset="ultrafast", overwrite=True), threads=1)
    for item in opened:
        sink.write(item)
        last -= isinstance(item, Frame)
        if not last:
            print("waits", flush=True)
            sys.stdin.read()
    sink.finish()
except RtfaceError as error:
    sys.exit(f"{type(error).__name__}: {error}; kept={sink.kept}")
"""


@pytest.fixture
def film(media, tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return media.make_film(tmp_path / "source" / "in.mp4", frames=25, sound="aac")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path: Path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="cannot be written to"):
        check_target(tmp_path / "locked" / "x.mp4", inputs=[], overwrite=False)


def test_a_name_that_is_too_long(tmp_path: Path):
    with pytest.raises(OutputError, match=r"name too long.*choose .* a shorter name"):
        check_target(tmp_path / ("x" * 245 + ".mp4"), inputs=[], overwrite=False)


def test_a_link_to_an_output_is_written_through(media, film: Path, tmp_path: Path):
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "out.mp4"
    target.write_bytes(b"old")
    (tmp_path / "out.mp4").symlink_to(target)
    media.passthrough(film, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").is_symlink() and len(media.decoded(target)) == 25


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("x.txt", {}, r"not a film container \(\.txt\)"),
        ("x", {}, "no extension"),
        ("x.mp4", {"codec": "nosuch"}, "no such encoder"),
        ("x.mp4", {"codec": "aac"}, "no such encoder"),
        ("x.mp4", {"preset": "turbo"}, "cannot be opened"),
        ("x.mp4", {"codec": "prores"}, "mp4 cannot hold"),
        ("x.mkv", {"codec": "ffv1", "crf": 5}, "no --crf"),
        ("x.mp4", {"codec": "vp9", "preset": "x"}, "cannot be opened"),
    ],
)
def test_options_that_cannot_be_used(media, film: Path, tmp_path: Path, name, options, says):
    with pytest.raises(UsageError, match=says):
        plan_output(media.open(film).info, tmp_path / name, **options)
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_an_output_appears_only_when_it_is_whole(media, film: Path, tmp_path: Path, suffix: str):
    output = tmp_path / f"out{suffix}"
    output.write_bytes(b"old but good")
    opened = media.open(film)
    sink = FileSink(plan_output(opened.info, output, overwrite=True))
    for item in opened:
        sink.write(item)
        assert output.read_bytes() == b"old but good"
    sink.finish()
    sink.finish()
    assert len(media.decoded(output)) == 25
    assert sorted(p.name for p in tmp_path.iterdir()) == [output.name, "source"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm", ".ts"])
def test_an_aborted_run_leaves_a_whole_part(media, film: Path, tmp_path: Path, suffix: str):
    opened = media.open(film, start=0.2)
    sink = FileSink(plan_output(opened.info, tmp_path / f"out{suffix}"))
    media.feed(opened, sink, 12)
    partial = sink.abort(keep_partial=True)
    assert partial == str(tmp_path / f"out.partial{suffix}") == sink.abort(keep_partial=True)
    assert len(media.decoded(Path(partial))) == 12
    assert sink.kept == 12
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"out.partial{suffix}", "source"]


def test_without_a_part_nothing_is_left(media, film: Path, tmp_path: Path):
    for keep, frames in ((False, 5), (True, 0)):
        opened = media.open(film)
        sink = FileSink(plan_output(opened.info, tmp_path / "out.mp4"))
        media.feed(opened, sink, frames)
        assert sink.abort(keep_partial=keep) is None and sink.kept == 0
    sink = FileSink(plan_output(opened.info, tmp_path / "out.mp4"))
    with pytest.raises(OutputError, match="no frames arrived"):
        sink.finish()
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def noisy(media, path: Path, frames: int) -> Path:
    """A film whose every picture is new, so that it needs space."""
    return media.make_film(path, frames=frames, size=(320, 180), codec="ffv1")


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX resource limits")
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_file_that_cannot_grow(media, tmp_path: Path, suffix: str):
    (tmp_path / "out").mkdir()
    source = noisy(media, tmp_path / "in.mkv", 60)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, source, tmp_path / "out" / f"o{suffix}", "0", "700000"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    error = [line for line in done.stderr.strip().splitlines() if "becomes lossy" not in line]
    assert len(error) == 1 and error[0].startswith("OutputError: "), done.stderr
    assert re.search(r"file size limit is reached after [\d.]+ MB", error[0])
    (partial,) = (tmp_path / "out").iterdir()
    assert partial.name == f"o.partial{suffix}" and str(partial) in error[0]
    shown = media.decoded(partial)
    assert 0 < len(shown) < 60
    assert error[0].endswith(f"kept={len(shown)}")


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize(("suffix", "live"), [(".mp4", True), (".mkv", False), (".mov", True)])
def test_a_killed_run_leaves_a_part_that_plays(media, tmp_path: Path, suffix: str, live: bool):
    (tmp_path / "out").mkdir()
    output = tmp_path / "out" / f"o{suffix}"
    output.write_bytes(b"old but good")
    source = noisy(media, tmp_path / "in.mkv", 75)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, source, output, "55", "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        process.stdout.readline()
        process.kill()
    assert output.read_bytes() == b"old but good"
    (left,) = (p for p in (tmp_path / "out").iterdir() if p != output)
    assert left.name.startswith(".o.") and left.suffix == suffix
    assert len(media.decoded(left)) >= 20
    lines = clear_leftovers(check_target(output, inputs=[], overwrite=True), live=live)
    partial = output.with_name(f"o.partial{suffix}")
    assert not left.exists() and output.read_bytes() == b"old but good"
    assert partial.exists() == live and len(lines) == live
    assert not live or (str(partial) in lines[0] and len(media.decoded(partial)) >= 20)
