"""A job folder is its user's alone; what a killed call left in it is used or removed."""

from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rtface.config.options import Options
from rtface.errors import InputError
from rtface.jobs.job import FilmJob
from rtface.jobs.join import named_films
from rtface.media.files import fingerprint
from rtface.trust.sidecar import read_sidecar, sidecar_path
from tests.jobs import films

OPTIONS = Options(tracker="none", codec="ffv1")
posix = pytest.mark.skipif(sys.platform == "win32", reason="owners, modes and links are those of POSIX")


def opened(tmp_path: Path, options: Options = OPTIONS, **more: object) -> FilmJob:
    source = tmp_path / "in.mp4"
    if not source.exists():
        films.FILMS["few frames"](tmp_path)
    made = FilmJob.open(source, tmp_path / "out.mkv", options, length=films.LENGTH, **more)  # type: ignore[arg-type]
    assert isinstance(made, FilmJob)
    return made


@pytest.fixture
def job(tmp_path: Path) -> FilmJob:
    """A job that is planned."""
    return opened(tmp_path)


@posix
def test_nobody_else_reads_or_writes_a_job(job: FilmJob):
    before = os.umask(0)
    try:
        films.make_segment(job, 0)
    finally:
        os.umask(before)
    assert stat.S_IMODE(job.folder.path.stat().st_mode) == 0o700
    [video] = job.folder.segments.glob("*.video")
    assert {stat.S_IMODE(path.stat().st_mode) for path in (video, job.folder.plan, job.folder.record(0))} == {0o600}


@posix
def test_a_link_of_ones_own_to_another_disk_is_followed(tmp_path: Path):
    (tmp_path / "large disk").mkdir()
    (tmp_path / "out.mkv.rtface").symlink_to(tmp_path / "large disk")
    opened(tmp_path).run()
    assert (tmp_path / "out.mkv").is_file() and not list((tmp_path / "large disk").iterdir())


def test_nothing_is_removed_behind_a_link(job: FilmJob, tmp_path: Path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "thesis.txt").write_text("mine")
    job.folder.numbers.rmdir()
    job.folder.numbers.symlink_to(tmp_path / "docs")
    job.folder.remove()
    assert (tmp_path / "docs" / "thesis.txt").read_text() == "mine" and not job.folder.path.exists()


def test_a_note_names_only_films_of_the_job(job: FilmJob, tmp_path: Path):
    other, out = tmp_path / "other.mkv", job.plan.target
    other.write_bytes(b"mine")
    job.folder.joining.write_text(json.dumps({str(other): fingerprint.fingerprint(other), str(tmp_path): None}))
    assert named_films(job.folder, job.plan.films) == set()
    out.write_bytes(b"whole")
    job.folder.joining.write_text(json.dumps({str(out): fingerprint.fingerprint(out)}))
    assert named_films(job.folder, job.plan.films) == {out}
    out.write_bytes(b"other")
    assert named_films(job.folder, job.plan.films) == set()


def test_a_restart_removes_what_a_killed_join_left(tmp_path: Path):
    job = opened(tmp_path, replace(OPTIONS, compare=tmp_path / "pairs.mkv"))
    works = [tmp_path / name for name in (".out.joining.mkv", ".pairs.joining.mkv")]
    for work in works:
        work.write_bytes(b"half")
    assert job.folder.planned
    opened(tmp_path, restart=True)
    assert not any(work.exists() for work in works)


def test_names_that_are_not_utf_8(tmp_path: Path):
    folder = tmp_path / "folder \udce9"
    folder.mkdir()
    report = opened(folder, replace(OPTIONS, sidecar=True)).run()
    assert report.frames_out == 3 and read_sidecar(sidecar_path(folder / "out.mkv"))


def test_what_a_killed_worker_began_is_removed(job: FilmJob):
    left = job.folder.segments / "00000-abcdef.video"
    left.write_bytes(b"half")
    job.folder.remove_unfinished()
    assert not left.exists()


def test_a_worker_of_an_older_job_writes_nothing_into_the_next(tmp_path: Path):
    old = opened(tmp_path)
    opened(tmp_path, restart=True)
    films.make_segment(old, 0)
    assert not old.folder.finished() and not list(old.folder.segments.iterdir())


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("options", {"damage": "halftone"}, r"by another version of rtface, .*damage is not an option.* --restart"),
        ("job", {}, "is damaged .*begin again with --restart"),
        ("format", 3, r"format is not \d.* use that version"),
    ],
)
def test_a_plan_that_cannot_be_used_says_what_to_do(job: FilmJob, key: str, value: object, says: str):
    job.folder.plan.write_text(json.dumps(json.loads(job.folder.plan.read_text()) | {key: value}))
    with pytest.raises(InputError, match=says):
        FilmJob(job.folder)
