"""Leases: one worker a segment, taken over from one that is gone, by the observer's own clock."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from rtface.jobs.folder import JobFolder
from rtface.jobs.leases import Leases, WorkerSign
from rtface.jobs.time_left import choose


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    made = JobFolder(tmp_path / "out.mkv.rtface")
    made.make()
    made.write(made.plan, {})
    return made


def elsewhere(folder: JobFolder, worker: str, beat: int) -> None:
    """A worker on another machine, whose clock is unknown."""
    folder.write(folder.workers / f"{worker}.json", {"beat": beat, "host": "other", "pid": 7})


def test_a_segment_has_one_worker(folder: JobFolder):
    with WorkerSign(folder) as one, WorkerSign(folder) as other:
        mine, others = Leases(folder, one.id), Leases(folder, other.id)
        assert mine.take("00003") == 1
        assert others.take("00003") is None
        mine.release("00003", 1)
        assert others.take("00003") == 1


def test_a_worker_of_this_machine_that_ended_is_gone_at_once(folder: JobFolder):
    with WorkerSign(folder) as one:
        Leases(folder, one.id).take("00000")
    assert Leases(folder, "me").take("00000") == 2
    assert "taken over" in (folder.path / "log.txt").read_text()


@pytest.mark.parametrize("text", ["", "[1]", '{"worker": {}}', '{"worker": "a\\nb"}'])
def test_a_lease_that_cannot_be_read_ages_like_a_silent_worker(folder: JobFolder, text: str):
    (folder.leases / "00000-1.json").write_text(text)
    clock = Clock()
    mine = Leases(folder, "me", stale_s=60, clock=clock)
    assert mine.take("00000") is None and "00000" in mine.held()
    clock.now += 61
    assert not mine.held() and mine.take("00000") == 2
    assert len((folder.path / "log.txt").read_text().splitlines()) == 1


def test_what_a_farm_takes_back_is_free_at_once(folder: JobFolder):
    assert Leases(folder, "").take("00003") == 1
    assert Leases(folder, "other").take("00003") == 2


def test_a_beat_that_is_old_at_the_first_look(folder: JobFolder):
    elsewhere(folder, "ffffff-7-abc", 5)
    Leases(folder, "ffffff-7-abc").take("00000")
    beat = folder.workers / "ffffff-7-abc.json"
    os.utime(beat, (0, beat.stat().st_mtime - 100))
    assert Leases(folder, "me", stale_s=120, clock=Clock()).take("00000") is None
    assert Leases(folder, "me", stale_s=60, clock=Clock()).take("00000") == 2


def test_a_worker_elsewhere_is_gone_when_its_beat_stands_still(folder: JobFolder):
    clock = Clock()
    elsewhere(folder, "ffffff-7-abc", 5)
    Leases(folder, "ffffff-7-abc").take("00000")
    mine = Leases(folder, "me", stale_s=60, clock=clock)
    for beat in (5, 5, 6, 6):
        elsewhere(folder, "ffffff-7-abc", beat)
        assert mine.take("00000") is None
        clock.now += 50
    clock.now += 20
    assert mine.take("00000") == 2


def test_a_lease_that_was_taken_twice_has_one_winner(folder: JobFolder):
    clock = Clock()
    elsewhere(folder, "ffffff-7-abc", 5)
    Leases(folder, "ffffff-7-abc").take("00000")
    with WorkerSign(folder) as one, WorkerSign(folder) as other:
        both = [Leases(folder, sign.id, stale_s=60, clock=clock) for sign in (one, other)]
        assert [leases.take("00000") for leases in both] == [None, None]
        clock.now = 61
        assert [leases.take("00000") for leases in both] == [2, None]


def test_a_record_is_written_once(folder: JobFolder):
    assert folder.write(folder.record(3), {"run": "a"}, new=True)
    assert not folder.write(folder.record(3), {"run": "b"}, new=True)
    assert json.loads(folder.record(3).read_text()) == {"run": "a"} and folder.finished() == {3}


@pytest.mark.parametrize(
    ("finished", "leased", "expected"),
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
def test_a_worker_takes_the_longest_stretch(finished, leased, expected):
    assert choose(10, finished, leased) == expected


def test_a_worker_that_outlives_its_job_leaves_no_folder(folder: JobFolder):
    with WorkerSign(folder):
        folder.plan.unlink()  # the job was removed, but for what NFS keeps of files that are open
        folder.segments.rmdir()
        folder.leases.rmdir()
    assert not folder.path.exists()


def test_a_beat_in_work_does_not_outlive_its_worker(folder: JobFolder):
    begun, unset = threading.Event(), threading.Event()

    def slow_beat() -> None:
        begun.set()
        unset.wait(0.05)

    with WorkerSign(folder, heartbeat_s=0.001, on_heartbeat=slow_beat):
        assert begun.wait(10)
    assert not any(thread.name == "rtface-heartbeat" for thread in threading.enumerate())
    assert not list(folder.workers.iterdir())
