"""Who makes which segment of a job, and its progress."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from rtface.config.options import Options
from rtface.jobs.hand_out import HandOut, choose
from rtface.jobs.job import FilmJob
from rtface.jobs.local_workers import JobProgress
from rtface.jobs.worker import Step
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
        (range(10), (), None),
        ((0,), (1, 6), 4),
        ((1,), (9,), 2),
        ((0, 1), (2, 3, 4, 5, 6, 7, 8), 9),
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


def test_progress_does_not_go_back_at_a_border(job: FilmJob):
    seen = list[float]()
    show = JobProgress(job.folder, job.plan, lambda progress: seen.append(progress.seconds_done))
    for segment, seconds in ((0, 2.0), (1, 0.5)):
        show([Step(segment, seconds, 0, 1)])
    assert seen == [2.0, 2.0]
