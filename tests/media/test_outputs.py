"""Every path that a run writes is checked before any work; working files are made once and replace nothing unasked."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rtface.errors import OutputError, RtfaceError, UsageError
from rtface.media.files import leftovers, workfile
from rtface.media.files.leftovers import clear_leftovers
from rtface.media.files.outputs import OutputPath, check_outputs, check_target, film_folder
from rtface.media.files.workfile import Target, WorkFile, write_whole
from rtface.media.write.file_sink import FileSink
from rtface.media.write.stream_plan import FORMATS, plan_output
from rtface.util import files
from rtface.util.files import rename_new
from tests.pairs import pairs

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="permissions and links of POSIX")
OPTIONS = ("", "--compare", "--report", "--also")
# Where a path leads that must not be written to, and what is said.
PLACES = {
    "input": "is the input itself",
    "symlink": "is the input itself",
    "hard link": "is the input itself",
    "existing": "exists already; --overwrite",
    "no folder": "there is no folder",
    "folder": "is a folder; specify a file in it",
    "fifo": "is not a regular file",
    "file": "there is no folder",
    "loop": "exists already",
}


@pytest.mark.parametrize(("place", "name"), pairs(list(PLACES), OPTIONS))
def test_every_path_gets_the_same_checks(tmp_path: Path, place: str, name: str):
    film = tmp_path / "in.mp4"
    film.write_bytes(b"film")
    (tmp_path / "symlink").symlink_to(film)
    (tmp_path / "hard link").hardlink_to(film)
    (tmp_path / "existing").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    path = {"input": film, "no folder": tmp_path / "none" / "x", "file": film / "x"}.get(place, tmp_path / place)
    overwrite = place in ("input", "symlink", "hard link")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OutputError, match=PLACES[place]) as caught:
        check_outputs([OutputPath(path, name)], inputs=[film], overwrite=overwrite)
    assert str(caught.value).startswith(f"{name} {path}: ".lstrip()) and "\n" not in str(caught.value)
    assert film.read_bytes() == b"film" and sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("link", [None, "symlink_to", "hardlink_to"])
def test_two_outputs_must_not_be_one_file(tmp_path: Path, link: str | None):
    one, other = tmp_path / "x.mp4", tmp_path / "x.mp4"
    if link:
        one.write_bytes(b"old")
        other = tmp_path / "y.mp4"
        getattr(other, link)(one)
    with pytest.raises(OutputError, match=r"--compare .*: is the same file as OUTPUT"):
        check_outputs([OutputPath(one), OutputPath(other, "--compare")], inputs=[], overwrite=True)


def test_a_picture_of_an_input_folder_is_an_input(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"picture")
    elsewhere = tmp_path.with_name(tmp_path.name + "-elsewhere.png")
    elsewhere.write_bytes(b"picture")
    (tmp_path / "b.png").symlink_to(elsewhere)
    for path in (tmp_path / "a.png", tmp_path / "b.png", elsewhere):
        with pytest.raises(OutputError, match="one of the input's images"):
            check_outputs([OutputPath(path, "--report")], inputs=[tmp_path], overwrite=True)
    (tmp_path / "film.mp4").write_bytes(b"made of them before")
    check_outputs([OutputPath(tmp_path / "film.mp4")], inputs=[tmp_path], overwrite=True)
    with pytest.raises(OutputError, match="is the input itself; choose another folder"):
        check_outputs([OutputPath(tmp_path, folder=True, resumes=True)], inputs=[tmp_path], overwrite=True)


def test_a_report_may_lie_in_the_folder_that_the_run_makes(tmp_path: Path):
    made = tmp_path / "stills"
    check_outputs([OutputPath(made, folder=True), OutputPath(made / "r.json", "--report")], inputs=[], overwrite=False)
    assert not made.exists()


@POSIX
def test_devices_and_plain_files_are_no_folders(tmp_path: Path):
    plain = tmp_path / "plain"
    plain.write_bytes(b"text")
    for path in ("/dev/null", plain, plain / "below"):
        for folder in (False, True):
            with pytest.raises(OutputError):
                check_outputs([OutputPath(path, folder=folder)], inputs=[], overwrite=not folder and path != plain)
    for path in ("/dev/null", plain):
        with pytest.raises(RtfaceError):
            film_folder(path, FORMATS, "in.mp4")
    assert plain.read_bytes() == b"text" and [p.name for p in tmp_path.iterdir()] == ["plain"]


@pytest.mark.parametrize(
    ("output", "source", "says"),
    [
        ("better", "film.mp4", r"use better\.mp4 for a film, or better/ for a folder"),
        ("a/better", "film.mkv", r"use better\.mkv"),
        ("-", "film.mp4", "not to standard output"),
    ],
)
def test_a_forgotten_extension_is_asked_for(output: str, source: str, says: str):
    with pytest.raises(UsageError, match=says):
        film_folder(output, FORMATS, source)


def test_a_folder_exists_or_ends_in_a_slash(tmp_path: Path):
    assert film_folder(tmp_path, FORMATS, "film.mp4")
    assert film_folder(f"{tmp_path}/new/", FORMATS, "film.mp4")
    assert film_folder(f"{tmp_path}/new.mp4/", FORMATS, "film.mp4")
    assert not film_folder(f"{tmp_path}/new.mp4", FORMATS, "film.mp4")


@pytest.mark.parametrize("text", ["RTMPS:host/app/SECRET", "https:/user:SECRET@host/x.mp4"])
def test_a_mistyped_address_is_no_file_and_shows_no_key(text: str):
    from rtface.config.addresses import parse_address
    from rtface.util.urls import place

    for check in (
        place,
        parse_address,
        lambda t: film_folder(t, FORMATS, "a.mp4"),
        lambda t: check_target(t, inputs=[], overwrite=False),
    ):
        with pytest.raises(UsageError, match="two slashes") as caught:
            check(text)
        assert "SECRET" not in str(caught.value) and "host/app" not in str(caught.value)
    with pytest.raises(UsageError, match="write the name of a file instead") as caught:
        check_outputs([OutputPath(Path("rtmp://host/live/SECRET"), "--also")], inputs=[], overwrite=False)
    assert "SECRET" not in str(caught.value)


# -- working files ------------------------------------------------------------------------------------------------


@POSIX
def test_a_working_file_never_follows_a_link(tmp_path: Path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"private")
    target = Target(tmp_path / "out.mp4", "out.mp4")
    work = workfile.work_name(target.path)
    work.symlink_to(victim)
    with pytest.raises(FileExistsError):
        WorkFile(target, work)
    assert victim.read_bytes() == b"private" and work.is_symlink()


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_came_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool):
    if not links:

        def refused(*_: object, **__: object) -> None:
            raise OSError(1, "Operation not permitted")

        monkeypatch.setattr(files.os, "link", refused)
    target = check_target(tmp_path / "r.json", inputs=[], overwrite=False)
    file = WorkFile(target)
    file.write(b"mine")
    target.path.write_bytes(b"theirs")
    with pytest.raises(FileExistsError):
        file.publish()
    assert target.path.read_bytes() == b"theirs"
    assert file.keep().read_bytes() == b"mine"
    write_whole(Target(tmp_path / "new", "new"), b"whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "r.json", "r.partial.json"]


def test_two_runs_to_one_film_lose_neither(media, tmp_path: Path):
    source = media.make_film(tmp_path / "in.mp4", frames=10)
    opened = [media.open(source) for _ in range(2)]
    sinks = [FileSink(plan_output(one.info, tmp_path / "out.mp4"), threads=1) for one in opened]
    media.feed(opened[1], sinks[1], 10)
    media.feed(opened[0], sinks[0])
    first = (tmp_path / "out.mp4").read_bytes()
    with pytest.raises(
        OutputError, match=r"could not be renamed to this name .* the complete film is .*out\.partial\.mp4"
    ):
        sinks[1].finish()
    assert (tmp_path / "out.mp4").read_bytes() == first
    assert len(media.decoded(tmp_path / "out.partial.mp4")) == 10
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4", "out.partial.mp4"]


@POSIX
def test_a_replaced_file_keeps_its_permissions(tmp_path: Path):
    path = tmp_path / "private.json"
    path.write_bytes(b"old")
    path.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)
    target = check_target(path, inputs=[], overwrite=True)
    file = WorkFile(target)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    file.write(b"new")
    file.publish()
    assert path.read_bytes() == b"new" and stat.S_IMODE(path.stat().st_mode) == 0o600
    if os.geteuid() == 0:
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12345)


def test_the_disk_has_everything_before_the_name_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    steps: list[str] = []
    monkeypatch.setattr(workfile, "sync_file", lambda number: steps.append("file"))
    monkeypatch.setattr(workfile, "sync_folder", lambda folder: steps.append("folder"))
    monkeypatch.setattr(workfile, "rename_new", lambda *ends: (steps.append("name"), rename_new(*ends)))
    write_whole(Target(tmp_path / "x", "x"), b"data")
    assert steps == ["file", "name", "folder"]


# -- what killed runs leave -----------------------------------------------------------------------------------------


def left_behind(tmp_path: Path, data: bytes = b"", *, host: str = workfile.HOST, process: int = 0) -> Path:
    """A working file that nobody has open, of a process that is no more."""
    if not process:
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        process = gone.pid
    path = tmp_path / f".out.{host}-{process}-abcdef.partial.mp4"
    path.write_bytes(data)
    return path


def leavings(tmp_path: Path) -> list[str]:
    assert clear_leftovers(check_target(tmp_path / "out.mp4", inputs=[], overwrite=True)) == []
    return sorted(path.name for path in tmp_path.iterdir())


def test_dead_working_files_go(tmp_path: Path):
    left_behind(tmp_path)
    left_behind(tmp_path, os.urandom(100_000), process=4_000_000)
    kept = [".out.partial.mp4", workfile.work_name(tmp_path / "out.of.town.mp4").name]
    for name in kept:
        (tmp_path / name).write_bytes(b"of no run of this output")
    assert leavings(tmp_path) == sorted(kept)


@POSIX
def test_a_run_at_work_is_told_from_a_dead_one(tmp_path: Path):
    file = WorkFile(Target(tmp_path / "out.mp4", "out.mp4"))
    assert leavings(tmp_path) == [file.path.name]
    file.discard()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("locks", [True, False])
def test_another_host_and_disks_without_locks_are_given_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
):
    if not locks:
        monkeypatch.setattr(leftovers, "lock", lambda number: False)
    theirs = left_behind(tmp_path, host="0" * 6 if locks else workfile.HOST)
    assert leavings(tmp_path) == [theirs.name]
    old = time.time() - 4000
    os.utime(theirs, (old, old))
    assert leavings(tmp_path) == []


def test_the_clock_is_that_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    theirs = left_behind(tmp_path, host="0" * 6)
    late = time.time() + 7200
    monkeypatch.setattr(time, "time", lambda: late)  # this machine's clock, not the server's
    assert leavings(tmp_path) == [theirs.name]


def test_what_a_killed_recording_left_is_kept(tmp_path: Path):
    left_behind(tmp_path, os.urandom(100_000))
    left_behind(tmp_path, process=4_000_000)
    (line,) = clear_leftovers(check_target(tmp_path / "out.mp4", inputs=[], overwrite=True), live=True)
    assert str(tmp_path / "out.partial.mp4") in line
    assert [p.name for p in tmp_path.iterdir()] == ["out.partial.mp4"]
