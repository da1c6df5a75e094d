"""What another user put into a job folder runs, removes and shows nothing; what colleagues put there still works."""

from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rtface.cli.app import app
from rtface.config.options import Options
from rtface.errors import InputError, OutputError, UsageError
from rtface.jobs import FilmJob
from rtface.jobs.folder import JobFolder
from rtface.jobs.join import named_films
from rtface.jobs.plan import JobPlan
from rtface.media.files import fingerprint
from tests.jobs import films

OPTIONS = Options(tracker="none", codec="ffv1")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links and owners are those of POSIX")


@pytest.fixture
def job(tmp_path: Path) -> FilmJob:
    """A job that is planned."""
    made = FilmJob.open(films.FILMS["few frames"](tmp_path), tmp_path / "out.mkv", OPTIONS, length=films.LENGTH)
    assert isinstance(made, FilmJob)
    return made


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder of the user, with files of names that a job has."""
    (tmp_path / "docs").mkdir()
    for name in ("thesis.txt", "00000-1.json", "persons-00001.json"):
        (tmp_path / "docs" / name).write_text("mine")
    return tmp_path / "docs"


def untouched(docs: Path) -> bool:
    return [path.read_text() for path in docs.iterdir()] == ["mine"] * 3


@pytest.fixture
def written_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """All files of job folders are another user's."""
    monkeypatch.setattr(JobFolder, "is_own", staticmethod(lambda *_, **__: False))


# -- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["segments", "numbers"])
def test_nothing_is_removed_behind_a_link(job: FilmJob, docs: Path, name: str):
    folder = job.folder.path / name
    if folder.is_dir():
        folder.rmdir()
    folder.symlink_to(docs)
    with pytest.raises(OutputError, match="link"):
        job.folder.write(folder / "00000-1.json", {})
    with pytest.raises(InputError, match="link"):
        job.folder.read(folder / "00000-1.json")
    job.folder.remove()
    assert untouched(docs) and not job.folder.path.exists()


def test_a_folder_that_is_there_is_removed_whole(job: FilmJob):
    job.folder.write(job.folder.record(0), {})
    job.folder.lock().close()
    job.folder.log("a line")
    (job.folder.path / ".plan.json.1-2.part").write_text("a part")
    job.folder.remove()
    assert not job.folder.path.exists()


@pytest.mark.parametrize("name", ["segments", "numbers"])
def test_a_pipe_in_place_of_a_folder_is_removed(job: FilmJob, name: str):
    folder = job.folder.path / name
    if folder.is_dir():
        folder.rmdir()
    os.mkfifo(folder)
    job.folder.remove()
    assert not job.folder.path.exists()


@pytest.mark.parametrize("value", [{"starts": []}, {"size": [1 << 30, 96, "yuv420p"]}, {"size": [160, 0, "yuv420p"]}])
def test_a_plan_that_no_film_has_is_refused(job: FilmJob, value: dict[str, object]):
    plan = job.folder.plan
    values = json.loads(plan.read_text())
    plan.write_text(json.dumps(values | {"job": values["job"] | value}))
    with pytest.raises(InputError, match="cannot be used"):
        JobPlan.load(job.folder)


@pytest.mark.parametrize("name", ["log.txt", "plan.json", "join.json", "progress.json", "lock"])
def test_no_file_of_a_job_is_a_link(job: FilmJob, docs: Path, name: str):
    path = job.folder.path / name
    path.unlink(missing_ok=True)
    path.symlink_to(docs / "thesis.txt")
    job.folder.log("touch PWNED")
    if name != "log.txt":
        with pytest.raises(InputError, match="link"):
            job.folder.read(path)
    assert untouched(docs)


def test_a_log_with_a_second_name_is_not_written(job: FilmJob, docs: Path):
    log = job.folder.path / "log.txt"
    job.folder.log("first")
    before = log.read_text()
    log.unlink()
    os.link(docs / "thesis.txt", log)
    job.folder.log("second")
    assert "first" in before and untouched(docs)


def test_a_line_of_the_log_is_one_line(job: FilmJob):
    job.folder.log("worker x-1\ntouch PWNED \x1b[1m\ud800")
    lines = (job.folder.path / "log.txt").read_text().splitlines()
    assert lines[-1].endswith("worker x-1\\ntouch PWNED \\x1b[1m?")
    assert not any(line.startswith("touch") for line in lines)


def test_a_link_of_ones_own_to_another_disk_is_followed(tmp_path: Path):
    (tmp_path / "large disk").mkdir()
    (tmp_path / "out.mkv.rtface").symlink_to(tmp_path / "large disk")
    made = FilmJob.open(films.FILMS["few frames"](tmp_path), tmp_path / "out.mkv", OPTIONS)
    assert isinstance(made, FilmJob)
    made.run()
    assert (tmp_path / "out.mkv").is_file()


# -- the note of a join ----------------------------------------------------------------------------------------------


def test_a_note_names_only_films_of_the_job(job: FilmJob, docs: Path):
    thesis, out = docs / "thesis.txt", job.plan.target
    job.folder.joining.write_text(json.dumps({str(thesis): fingerprint.fingerprint(thesis), str(docs): None}))
    assert named_films(job.folder, job.plan.films) == set()
    out.write_bytes(b"whole")
    job.folder.joining.write_text(json.dumps({str(out): fingerprint.fingerprint(out)}))
    assert named_films(job.folder, job.plan.films) == {out}
    out.write_bytes(b"other")
    assert named_films(job.folder, job.plan.films) == set()


@pytest.mark.parametrize("readable", [True, False])
def test_a_restart_removes_what_a_killed_join_left(tmp_path: Path, readable: bool):
    """Of the films of the old options; where the plan that named them cannot be read, of the new ones."""
    source, out, pairs = films.FILMS["few frames"](tmp_path), tmp_path / "out.mkv", tmp_path / "pairs.mkv"
    job = FilmJob.open(source, out, replace(OPTIONS, compare=pairs))
    assert isinstance(job, FilmJob)
    works = [path.with_name(f".{path.stem}.joining.mkv") for path in (out, pairs)]
    for work in works:
        work.write_bytes(b"half")
    if not readable:
        job.folder.plan.write_text('{"format": 9, "versions": {"rtface": "9"}}')
    options = OPTIONS if readable else replace(OPTIONS, compare=pairs)
    assert isinstance(FilmJob.open(source, out, options, restart=True), FilmJob)
    assert not any(work.exists() for work in works)


@pytest.mark.usefixtures("written_by_another")
def test_a_note_of_another_user_says_nothing(job: FilmJob):
    out = job.plan.target
    out.write_bytes(b"whole")
    job.folder.joining.write_text(json.dumps({str(out): fingerprint.fingerprint(out)}))
    assert named_films(job.folder, [out]) == set()


# -- plans -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("written_by_another")
def test_a_plan_of_another_user_is_not_worked_on(job: FilmJob):
    plan = json.loads(job.folder.plan.read_text())
    plan["options"]["stages"] = ["picture:file=/home/me/secret.png"]
    job.folder.plan.write_text(json.dumps(plan))
    with pytest.raises(UsageError, match="another user planned this job"):
        FilmJob(job.folder.path)
    with pytest.raises(UsageError, match="--stage"):
        FilmJob.open(job.plan.source, job.plan.target, OPTIONS)


@pytest.mark.usefixtures("written_by_another")
def test_a_plan_that_is_agreed_to_is_worked_on(job: FilmJob):
    films.make_segment(job, 0)
    # Who planned it, and gives the same options, is not asked.
    again = FilmJob.open(job.plan.source, job.plan.target, OPTIONS)
    assert isinstance(again, FilmJob) and again.resumed == 1
    again.run()
    assert job.plan.target.is_file() and not job.folder.path.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_owners(job: FilmJob):
    assert JobPlan.load(job.folder) == job.plan
    os.chown(job.folder.plan, 54321, -1)
    with pytest.raises(UsageError, match="another user"):
        JobPlan.load(JobFolder(job.folder.path))


def test_status_shows_a_plan_without_its_control_characters(job: FilmJob):
    plan = json.loads(job.folder.plan.read_text())
    plan["input"] = "/a\x1b]0;x\x07\nb"
    job.folder.plan.write_text(json.dumps(plan))
    result = CliRunner().invoke(app, ["status", str(job.folder.path)])
    assert result.exit_code == 0 and "/a\\x1b]0;x\\x07\\nb ->" in result.output


# -- private films ---------------------------------------------------------------------------------------------------


def test_a_film_is_known_by_its_content(tmp_path: Path):
    film, copy = tmp_path / "private.mkv", tmp_path / "copy.mkv"
    film.write_bytes(b"private")
    known = fingerprint.fingerprint(film)
    copy.write_bytes(b"private")
    os.utime(copy, (1, 1))
    assert fingerprint.same(known, film) and fingerprint.same(known, copy)
    assert not fingerprint.same({**known, "samples_sha256": "0" * 64}, film)  # what stat() tells to everybody


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_segments_are_read_by_whom_may_read_the_film(job: FilmJob, mode: int):
    job.plan.source.chmod(mode)
    before = os.umask(0o002)
    try:
        films.make_segment(job, 0)
    finally:
        os.umask(before)
    [video] = job.folder.segments.glob("*.video")
    assert stat.S_IMODE(video.stat().st_mode) == mode
