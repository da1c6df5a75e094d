"""Time left of a job, by a clock that the test sets."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from rtface.cli.app import app
from rtface.config.options import Options
from rtface.errors import InputError
from rtface.jobs import FilmJob, faces_ahead
from rtface.jobs.folder import JobFolder
from rtface.jobs.job_progress import JobProgress
from rtface.jobs.leases import Leases
from rtface.jobs.status import read_status
from rtface.jobs.time_left import AtWork, Pace, Row, spread, time_left
from rtface.jobs.worker import Step, Worker
from rtface.pipeline.progress import Progress, eta
from tests.jobs import films
from tests.pipeline.run_media import write_film

FRAMES = [100] * 10
EASY, HARD = Row(100, 0, 1.0), Row(100, 100, 11.0)  # seconds of a segment without and with a face


def test_samples_tell_how_many_faces_follow():
    half = AtWork(5.0, [EASY, HARD] * 3 + [HARD] * 6)
    finished = range(5)
    none = [(n + 0.5, 0) for n in range(5, 10)]
    faces = [(n + 0.5, 1) for n in range(5, 10)]
    assert 5 < (time_left(FRAMES, finished, [half], none * 9) or 0) < 12
    assert time_left(FRAMES, finished, [half], faces) == pytest.approx(55, rel=0.1)
    assert time_left(FRAMES, finished, [half]) == pytest.approx(5 * (3 + 9 * 11) / 12, rel=0.1)


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        ([], None),
        ([AtWork(2.0)], None),
        ([AtWork(2.0, [EASY])], 8.0),
        ([AtWork(2.5, [EASY])], 7.5),
        ([AtWork(2.0, [EASY]), AtWork(6.0, [EASY])], 4.0),
        ([AtWork(2.0, [EASY]), AtWork(6.0)], 4.0),  # one that has no frames yet
        ([AtWork(2.0, [EASY]), AtWork(5.0, [EASY]), AtWork(8.0, [EASY])], 3.0),  # the last segments
        # segment 4, then 8 and 9 by one, 6 and 7 by the other, which makes segment 2 last
        ([AtWork(3.9, [EASY]), AtWork(5.0, [EASY])], 4.0),
        ([AtWork(2.0, [EASY] * 12 + [Row(50, 0, 1.0)] * 4)], 16.0),
    ],
)  # slower of late
def test_workers_that_are_there_share_what_is_missing(workers, expected):
    found = time_left(FRAMES, {0, 1}, workers)
    assert found == (None if expected is None else pytest.approx(expected, rel=0.05))


def test_a_speed_that_varies_widens_the_range():
    steady = AtWork(2.0, [EASY] * 16)
    assert spread([steady]) == (pytest.approx(0.9), pytest.approx(1.1))
    slow = AtWork(2.0, [EASY] * 4 + [Row(50, 0, 1.0)] * 4 + [EASY] * 8)  # a neighbour took half the machine for a while
    least, most = spread([steady, slow])
    assert least == pytest.approx(0.9) and most == pytest.approx(2.0, rel=0.05)


def test_nothing_is_left_of_finished_segments():
    assert time_left(FRAMES, range(10), []) == 0.0


def test_pace_keeps_few_rows_and_leaves_out_the_start():
    now = 100.0
    pace = Pace(lambda: now)
    for _ in range(5001):
        pace.add(2)
        now += 0.5
    assert 32 <= len(pace.rows) < 64
    frames, faces, seconds = map(sum, zip(*pace.rows, strict=True))
    assert frames == pytest.approx(5000, abs=130) and faces == 2 * frames
    assert seconds == pytest.approx(frames * 0.5)


def test_the_variant_of_the_job_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def sampler(path: Path, *, variant: str):
        asked.append(variant)
        raise InputError("enough")

    monkeypatch.setattr(faces_ahead, "FrameSampler", sampler)
    (tmp_path / "job").mkdir()
    plan: Any = SimpleNamespace(source=tmp_path / "in.m3u8")
    faces_ahead.sample(JobFolder(tmp_path / "job"), plan, Options(tracker="none"), "72", lambda _: True)
    assert asked == ["72"]


@pytest.mark.slow
def test_a_film_is_sampled_for_its_time_left(tmp_path: Path):
    source = write_film(tmp_path / "in.mkv", films.scenes(122), rate=2)
    job = FilmJob.open(source, tmp_path / "out.mkv", Options(codec="ffv1"), length=Fraction(20))
    assert isinstance(job, FilmJob) and len(job.plan) == 3
    spent = faces_ahead.budget_s(job.plan.duration_s, faces=False) / 2
    waits, seconds = iter([False] * 3 + [True]), iter([0.0] + [spent] * 4)
    faces_ahead.sample(job.folder, job.plan, job.options, "best", lambda _: next(waits), lambda: next(seconds))
    assert len(job.folder.read(job.folder.faces)["samples"]) == 4
    with Worker(job.folder) as worker:
        worker.do(0)
        worker.do(1)
    faces_ahead.sample(job.folder, job.plan, job.options, "best", lambda _: False, lambda: 0.0)
    assert not faces_ahead.wanted(job.folder, job.plan, job.options)
    samples = dict(job.folder.read(job.folder.faces)["samples"])
    assert len(samples) > 4 and all(0 <= at < 61 and faces == 0 for at, faces in samples.items())

    assert job.status().time_left_s is None  # nobody is at work
    half = job.plan.seconds(2) / 2
    worker = {"beat": 1, "host": "other", "pid": 7, "segment": 2, "seconds": half, "frames": 40, "pace": [[40, 0, 5.0]]}
    job.folder.write(job.folder.workers / "ffffff-7-abc.json", worker)
    Leases(job.folder, "ffffff-7-abc").take("00002")
    status = read_status(job.folder)
    assert status.time_left_s == pytest.approx(job.plan.frames[2] * 0.5 / 8, rel=0.05)
    assert [worker.frames for worker in status.workers] == [40]  # what the progress of a farm counts
    shown = CliRunner().invoke(app, ["status", str(job.folder.path)])
    assert "0:00:03 to 0:00:04 left" in shown.stdout


def test_a_job_that_has_ended_names_its_report(tmp_path: Path) -> None:
    folder = tmp_path / "out.mkv.rtface"
    with pytest.raises(InputError, match="it has ended, and its OUTPUT is there, or it never began"):
        read_status(JobFolder(folder))
    report = tmp_path / "out.mkv.rtface.json"
    report.write_text("{}")
    with pytest.raises(InputError, match="this job has ended; its report is") as caught:
        read_status(JobFolder(folder))
    assert caught.value.message.values["report"] == str(report)


def test_a_segment_that_is_being_encoded_counts_as_done(tmp_path: Path):
    source = write_film(tmp_path / "in.mkv", films.scenes(12), rate=2)
    job = FilmJob.open(source, tmp_path / "out.mkv", Options(codec="ffv1"), length=Fraction(2))
    assert isinstance(job, FilmJob) and len(job.plan) == 3
    worker = {"beat": 1, "host": "other", "pid": 7, "segment": 1, "seconds": 0.5, "frames": 5, "pace": [[5, 0, 5.0]]}
    job.folder.write(job.folder.workers / "ffffff-7-abc.json", worker)
    for name in ("00000", "00001"):  # the encoder of the first may still be ending
        Leases(job.folder, "ffffff-7-abc").take(name)
    status = read_status(job.folder)
    assert (status.finished, status.done_s) == (0, job.plan.seconds(0) + 0.5)
    assert status.time_left_s == pytest.approx(job.plan.duration_s * 2 - 5, rel=0.05)


def test_progress_does_not_go_back_at_a_border(tmp_path: Path):
    source = write_film(tmp_path / "in.mkv", films.scenes(12), rate=2)
    job = FilmJob.open(source, tmp_path / "out.mkv", Options(codec="ffv1"), length=Fraction(2))
    assert isinstance(job, FilmJob)
    seen = list[float]()
    show = JobProgress(job.folder, job.plan, lambda progress: seen.append(progress.seconds_done))
    for segment, seconds in ((0, 2.0), (1, 0.5)):
        show(Step(segment, seconds, 0, 1))
    assert seen == [2.0, 2.0]


def test_workers_that_fell_silent_do_not_count(tmp_path: Path):
    source = write_film(tmp_path / "in.mkv", films.scenes(12), rate=2)
    job = FilmJob.open(source, tmp_path / "out.mkv", Options(codec="ffv1"), length=Fraction(2))
    assert isinstance(job, FilmJob)
    for number, ago in enumerate((0, 170)):  # killed on another machine, which nobody can ask
        name, beat = f"ffffff-{number}-abc", job.folder.workers / f"ffffff-{number}-abc.json"
        job.folder.write(
            beat,
            {
                "beat": 1,
                "host": f"m{number}",
                "pid": 7,
                "segment": number,
                "seconds": 0.1,
                "speed": 2.0,
                "pace": [[40, 0, 5.0]],
            },
        )
        os.utime(beat, (0, beat.stat().st_mtime - ago))
        Leases(job.folder, name).take(f"{number:05}")
    status = read_status(job.folder)
    assert (status.state, status.speed, [worker.host for worker in status.workers]) == ("working", 2.0, ["m0"])
    (job.folder.workers / "ffffff-0-abc.json").unlink()
    status = read_status(job.folder)
    assert (status.state, status.time_left_s, status.workers) == ("waiting", None, [])
    shown = CliRunner().invoke(app, ["status", str(job.folder.path)])
    assert " left" not in shown.stdout and "ffffff-1-abc (m1): not heard of for 0:02:5" in shown.stdout


def test_a_progress_line_shows_the_time_left_that_a_job_knows():
    assert eta(Progress(50, 2.0, 10.0, 25.0, 1, left_s=99.0), 1.0) == 99.0
