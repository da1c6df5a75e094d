"""A correction that is kept by a job is that of one process: `rtface undo` gives the input back to the bit."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path

import av
import pytest

from rtface.config.options import Options
from rtface.errors import Interrupted, OutputError, UsageError
from rtface.jobs import FilmJob, Outcome, do_segment
from rtface.jobs.leases import Leases
from rtface.media.files.workfile import WorkFile
from rtface.media.write.film_file import FilmFile
from rtface.pipeline.film import run_file
from rtface.trust.undo import undo
from tests.jobs import films
from tests.pipeline.run_media import film

LENGTH = Fraction(12, 25)
"""Of a segment."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("film") / "in.mkv", frames=36, sound=True)


def options(folder: Path, **more: object) -> Options:
    return Options.of({"codec": "ffv1", "correct": "always", "keep_correction": folder / "d.mkv", **more})


def planned(source: Path, folder: Path, **more: object) -> FilmJob:
    job = FilmJob.open(source, folder / "out.mkv", options(folder, **more), length=LENGTH)
    assert isinstance(job, FilmJob), job
    return job


def check_undone(source: Path, folder: Path) -> None:
    """Undoes a film; its frames are the source's, and nothing of the job is left."""
    assert sorted(path.name for path in folder.iterdir()) == ["d.mkv", "out.mkv", "out.mkv.rtface.json"]
    done = undo(folder / "out.mkv", folder / "d.mkv", folder / "back.mkv")
    count = len(films.frame_hashes(source))
    assert (done.frames, done.exact) == (count, count)
    assert films.frame_hashes(folder / "back.mkv") == films.frame_hashes(source)
    assert films.frame_hashes(folder / "out.mkv") != films.frame_hashes(source)


def content(path: Path) -> tuple:
    with av.open(str(path)) as box:
        described = dict(box.metadata), [dict(stream.metadata) for stream in box.streams]
        return described, [(p.stream_index, p.pts, p.duration, bytes(p)) for p in box.demux() if p.size]


@pytest.mark.slow
def test_a_stopped_job_keeps_the_correction_of_one_process(made: Path, tmp_path: Path) -> None:
    one, several = tmp_path / "one", tmp_path / "several"
    one.mkdir()
    several.mkdir()
    run_file(made, one / "out.mkv", options(one))
    stop = threading.Event()
    with pytest.raises(Interrupted):
        planned(made, several).run(stop=stop, progress=lambda p: stop.set() if p.frames == 20 else None)
    job = planned(made, several)
    assert 0 < job.resumed < len(job.plan)
    job.run()
    check_undone(made, several)
    # corrected faces may differ slightly where another run of the chain continued, so bytes of frames do too
    first, other = content(one / "d.mkv"), content(several / "d.mkv")
    assert first[0] == other[0]
    assert [entry[:3] for entry in first[1]] == [entry[:3] for entry in other[1]]


@pytest.mark.slow
def test_workers_of_a_farm_keep_a_lossy_films_correction(made: Path, tmp_path: Path) -> None:
    job = planned(made, tmp_path, codec="libx264", start=0.2)
    assert [do_segment(job.folder.path, k) for k in reversed(range(len(job.plan)))] == [Outcome.DONE] * len(job.plan)
    job.run()
    done = undo(tmp_path / "out.mkv", tmp_path / "d.mkv", tmp_path / "back.mkv")
    assert (done.frames, done.taken_back, done.lossless) == (31, 31, False)
    assert done.psnr_db is not None and done.psnr_db > 35


def killed_after(name: str, job: FilmJob) -> None:
    """Runs a job until a film got its name; as after a kill, nothing is tidied up."""
    publish = WorkFile.publish

    def die(self: WorkFile, **more: bool) -> None:
        publish(self, **more)
        if self.path.name == name:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(WorkFile, "publish", die)
        killed.setattr(FilmFile, "abort", lambda *_a, **_k: None)
        killed.setattr("rtface.jobs.join.remove_unfinished", lambda *_: None)
        killed.setattr("rtface.jobs.job.remove_unfinished", lambda *_: None)
        job.run()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["d.mkv", "out.mkv"])
def test_killed_when_one_of_the_two_films_got_its_name(name: str, made: Path, tmp_path: Path) -> None:
    killed_after(name, planned(made, tmp_path))
    assert (tmp_path / "d.mkv").exists() and (tmp_path / "out.mkv").exists() == (name == "out.mkv")
    planned(made, tmp_path).run()
    check_undone(made, tmp_path)


def killed_elsewhere(job: FilmJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the join of a job ended on another machine, whose worker counts as there for some looks."""
    job.folder.write(job.folder.leases / "join-9.json", {"worker": "ffffff-7-abc"})
    looks = iter([True] * 4)
    monkeypatch.setattr(Leases, "alive", lambda self, worker: worker == "ffffff-7-abc" and next(looks, False))


@pytest.mark.slow
def test_a_join_killed_elsewhere_is_finished(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, kept = planned(made, tmp_path), tmp_path / "d.mkv"
    killed_after("d.mkv", job)
    kept.write_bytes(kept.rename(tmp_path / "moved").read_bytes())  # other inode and time, as seen from elsewhere
    (tmp_path / "moved").unlink()
    killed_elsewhere(job, monkeypatch)
    planned(made, tmp_path).run()
    check_undone(made, tmp_path)


@pytest.mark.slow
def test_another_file_in_place_of_a_correction_stays(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, kept = planned(made, tmp_path), tmp_path / "d.mkv"
    killed_after("d.mkv", job)
    kept.write_bytes(b"mine")
    killed_elsewhere(job, monkeypatch)
    with pytest.raises(OutputError, match=r"keep-correction .* exists already"):
        planned(made, tmp_path).run()
    assert kept.read_bytes() == b"mine"


@pytest.mark.slow
def test_a_film_that_came_meanwhile_leaves_no_correction(made: Path, tmp_path: Path) -> None:
    job = planned(made, tmp_path)
    for number in range(len(job.plan)):
        do_segment(job.folder.path, number)
    finish, output = FilmFile.finish, tmp_path / "out.mkv"

    def late(self: FilmFile) -> None:
        finish(self)
        output.write_bytes(b"mine")

    with pytest.MonkeyPatch.context() as other, pytest.raises(OutputError, match=r"came there .* all segments stay"):
        other.setattr(FilmFile, "finish", late)
        job.run()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["out.mkv", "out.mkv.rtface"]
    assert output.read_bytes() == b"mine"
    output.unlink()
    planned(made, tmp_path).run(progress=lambda p: pytest.fail("a segment was made again"))
    check_undone(made, tmp_path)


@pytest.mark.slow
def test_a_damaged_correction_is_made_again(made: Path, tmp_path: Path) -> None:
    job = planned(made, tmp_path)
    do_segment(job.folder.path, 1)
    [path] = job.folder.segments.glob("*.correction")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    said: list[str] = []
    job.run(notify=said.append)
    assert "1 segment has to be made again" in said[0]
    check_undone(made, tmp_path)


def test_names_and_formats_are_checked_before_the_work(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"name a \.mkv"):
        planned(made, tmp_path, keep_correction=tmp_path / "d.mp4")
    films.check_place(
        lambda path: planned(made, tmp_path, keep_correction=path),
        "--keep-correction",
        tmp_path / "d.mkv",
        tmp_path / "e.mkv",
    )
