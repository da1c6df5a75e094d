"""Status and time left of a job, by a clock that the test sets."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rtface.cli.app import app
from rtface.config.options import Options
from rtface.errors import InputError
from rtface.jobs import FilmJob
from rtface.jobs.folder import JobFolder
from rtface.jobs.hand_out import HandOut, choose
from rtface.jobs.status import JobProgress, read_status
from rtface.jobs.worker import Step
from rtface.pipeline.progress import Progress, eta
from tests.jobs import films
from tests.pipeline.run_media import write_film


@pytest.fixture
def job(tmp_path: Path) -> FilmJob:
    """A film of 6 s in three segments."""
    source = write_film(tmp_path / "in.mkv", films.scenes(12), rate=2)
    made = FilmJob.open(source, tmp_path / "out.mkv", Options(codec="ffv1"), length=Fraction(2))
    assert isinstance(made, FilmJob) and len(made.plan) == 3
    return made


@pytest.mark.parametrize(
    ("finished", "at_work", "expected"),
    [
        ((), (), 0),
        ((), (0,), 5),
        ((0, 1, 2), (), 3),
        (range(10), (), None),
        ((0,), (1, 6), 4),
        ((1,), (9,), 2),
        ((0, 1), (2, 3, 4, 5, 6, 7, 8), 9),
        (range(9), (9,), None),
    ],
)
def test_a_worker_takes_the_longest_stretch(finished, at_work, expected):
    assert choose(10, finished, at_work) == expected


def test_a_segment_has_one_worker_and_is_free_where_that_is_gone(job: FilmJob):
    book = HandOut(job.folder, 3)
    assert [book.take("a"), book.take("b"), book.take("a", 1), book.take("b", 2)] == [0, 2, 1, None]
    book.finish(0)  # a network's disk may not list it yet
    book.give_back("a")
    assert [book.take("c", 0), book.take("c"), book.take("c", 3), book.take("c")] == [None, 1, None, None]


def test_the_time_left_goes_by_the_speed_of_late(job: FilmJob):
    now, shown = 100.0, list[Progress]()

    def at(time: float, segment: int, seconds: float) -> None:
        nonlocal now
        now = time
        show([Step(segment, seconds, 1, round(2 * (2 * segment + seconds)))])

    show = JobProgress(job.folder, job.plan, shown.append, lambda: now)
    at(105, 0, 0.0)  # engines were loaded
    assert show.first_frame_s == 5 and shown[-1].left_s is None
    at(107, 0, 1.0)
    job.folder.write(job.folder.record(0), {})
    at(109, 1, 0.0)
    assert shown[-1].left_s == pytest.approx(8, rel=0.02) and shown[-1].fps == 1.0
    for step in range(1, 65):  # of late it is slower
        at(109 + step, 1, 0.01 * step)
    assert shown[-1].left_s == pytest.approx((4 - 0.64) * 100, rel=0.1)


def test_the_state_of_a_job(job: FilmJob):
    job.folder.write(job.folder.record(0), {})
    with job.folder.lock():
        assert job.status().state == "working"
    status = job.status()
    assert (status.state, status.finished, status.segments, status.done_s) == ("waiting", 1, 3, 2.0)
    assert "waiting: 1 of 3 segments, 33%" in CliRunner().invoke(app, ["status", str(job.folder.path)]).stdout
    with pytest.raises(InputError, match="it has ended, and its OUTPUT is there, or it never began"):
        read_status(JobFolder(job.folder.path.with_name("none.rtface")))


def test_progress_does_not_go_back_at_a_border(job: FilmJob):
    seen = list[float]()
    show = JobProgress(job.folder, job.plan, lambda progress: seen.append(progress.seconds_done))
    for segment, seconds in ((0, 2.0), (1, 0.5)):
        show([Step(segment, seconds, 0, 1)])
    assert seen == [2.0, 2.0]


def test_a_progress_line_shows_the_time_left_that_a_job_knows():
    assert eta(Progress(50, 2.0, 10.0, 25.0, 1, left_s=99.0), 1.0) == 99.0
