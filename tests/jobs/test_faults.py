"""What can go wrong around a job: one clear line, and nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest
from typer.testing import CliRunner

import rtface
from rtface.cli.app import app
from rtface.concurrency.child_process import ChildProcess
from rtface.config.options import Options
from rtface.engine.recipe import SHIPPED
from rtface.errors import InputError, InputMissing, Interrupted, OutputError, UsageError
from rtface.jobs.folder import folder_of
from rtface.jobs.job import FilmJob
from rtface.jobs.planning import WorkerRefused
from rtface.jobs.run import run_film
from rtface.jobs.segment_file import SegmentWriter
from rtface.pipeline.progress import Progress
from tests.jobs import films
from tests.media.encoded import film_with_sound
from tests.media.failing_disk import each_read
from tests.pipeline.fakes import FakeEngine
from tests.pipeline.run_media import Engines

OPTIONS = Options(tracker="none", codec="ffv1")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return films.FILMS["h264 with B-frames"](tmp_path_factory.mktemp("film"))


@pytest.fixture
def source(film: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy2(film, tmp_path / "in.mp4"))


def planned(source: Path, options: Options = OPTIONS, **more) -> FilmJob:
    job = FilmJob.open(source, source.with_name("out.mkv"), options, length=films.LENGTH, **more)
    assert isinstance(job, FilmJob), job
    return job


def stopped(source: Path, frames: int = 30) -> FilmJob:
    """A job that was stopped in its second segment."""
    stop = threading.Event()
    with pytest.raises(Interrupted, match=r"1 of 4 segments are done .* the same command continues"):
        planned(source).run(stop=stop, progress=lambda p: stop.set() if p.frames >= frames else None)
    return planned(source)


def test_a_job_that_could_not_be_joined_is_not_begun(tmp_path: Path):
    source = film_with_sound(tmp_path / "in.mkv", "pcm_s16le", "hexadecagonal")
    with pytest.raises(OutputError, match="webm cannot hold stream 1"):
        FilmJob.open(source, tmp_path / "out.webm", Options(tracker="none"))
    assert not folder_of(tmp_path / "out.webm").exists()


def test_python_continues_a_job_or_begins_again(source: Path):
    stopped(source)
    out, stop, values = source.with_name("out.mkv"), threading.Event(), {"tracker": "none", "codec": "ffv1"}
    values["report"] = source.with_name("report.json")
    with pytest.raises(Interrupted):
        rtface.run(source, out, progress=lambda _: stop.set(), cancel=stop, **values)
    assert json.loads(values["report"].read_bytes())["interrupted"]
    with pytest.raises(
        UsageError, match=r"--strength was not given .* is 0\.5 now; give the same value to continue.*--restart"
    ):
        rtface.run(source, out, strength=0.5, **values)
    with pytest.raises(Interrupted):
        rtface.run(source, out, progress=lambda _: stop.set(), cancel=stop, restart=True, **values | {"strength": 0.5})
    assert rtface.run(source, out, strength=0.5, **values).frames_out == 80
    assert not json.loads(values["report"].read_bytes())["interrupted"]
    with pytest.raises(OutputError, match=r"report\.json: exists already"):
        rtface.run(source, source.with_name("b.mkv"), **values)


def test_another_input_is_refused(source: Path):
    job = stopped(source)
    source.write_bytes(source.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"is not the film .* --restart"):
        planned(source)
    source.unlink()
    with pytest.raises(InputMissing, match="put it back"):
        films.make_segment(job, 1)


def test_an_input_that_is_replaced_meanwhile_ends_the_run(source: Path):
    job = planned(source)
    other = source.with_name("other")
    other.write_bytes(source.read_bytes() + b"more")
    with pytest.raises(InputError, match="is not the film"):
        job.run(progress=lambda p: other.replace(source) if p.frames == 30 else None)
    assert job.folder.finished() <= {0}  # which a thread may still check by then


@pytest.mark.parametrize(("name", "number"), [("write", 1), ("finish", 3)])
def test_a_full_disk_keeps_what_is_finished(source: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int):
    job, call = planned(source), getattr(SegmentWriter, name)

    def full(self: SegmentWriter, *frame: Any) -> Any:
        if self.path.name.startswith(f"{number:05}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return call(self, *frame)

    with monkeypatch.context() as disk, pytest.raises(OutputError, match=r"disk is full; make room.*continues"):
        disk.setattr(SegmentWriter, name, full)
        job.run()
    assert job.folder.finished() == set(range(number))
    assert len(list(job.folder.segments.glob("*.video"))) == number
    assert planned(source).run().frames_out == 80


@pytest.mark.parametrize("damage", ["", "frame missing", "other segment", "video"])
def test_a_damaged_segment_is_made_again(source: Path, damage: str):
    job = stopped(source)
    record, [video] = job.folder.record(0), job.folder.segments.glob("*.video")
    values: dict[str, Any] = json.loads(record.read_bytes())
    if damage == "video":
        video.write_bytes(video.read_bytes()[:-1] + b"x")
    else:
        values |= {"segment": 1} if damage == "other segment" else {"packets": values["packets"][:-1]}
        record.write_text(damage and json.dumps(values))
    said: list[str] = []
    assert job.run(notify=said.append).frames_out == 80
    assert "1 segment has to be made again" in said[0] and len(films.video_times(job.plan.target)) == 80


def test_a_record_that_cannot_be_read_now_stays(source: Path, monkeypatch: pytest.MonkeyPatch):
    job = stopped(source)

    def broken(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as disk, pytest.raises(InputError, match=r"error\); check the disk .* continues"):
        disk.setattr("rtface.jobs.folder.read_regular", broken)
        job.folder.read(job.folder.record(0))
    assert planned(source).run().frames_out == 80


def test_a_second_call_is_refused_until_the_first_ends(source: Path):
    first, second = (planned(source) for _ in range(2))
    (first.folder.path / "notes.txt").touch()
    refused = list[str]()

    def meanwhile(*_: object) -> None:
        for call in (second.run, lambda: planned(source, restart=True)):
            if len(refused) < 2:
                with pytest.raises(UsageError, match="another process is working on this job") as error:
                    call()
                refused.append(str(error.value))

    assert first.run(progress=meanwhile).frames_out == 80
    assert len(refused) == 2 and not first.folder.planned
    left = [p.name for p in sorted(source.parent.iterdir()) if p != first.folder.path]
    assert left == ["in.mp4", "out.mkv", "out.mkv.rtface.json"]
    assert [p.name for p in first.folder.path.iterdir()] == ["notes.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be ended by a signal there")
def test_a_worker_that_is_killed_loses_nothing(source: Path, monkeypatch: pytest.MonkeyPatch):
    """Its segment is given to another one, which the same call starts."""
    children, killed = list[ChildProcess](), list[int]()
    begin = ChildProcess.__init__

    def noted(self, *arguments, **more):
        begin(self, *arguments, **more)
        children.append(self)

    monkeypatch.setattr(ChildProcess, "__init__", noted)
    options, other = replace(OPTIONS, engine="rtface-s"), source.with_name("other.mkv")
    job = planned(source, options)

    def kill(progress: Progress) -> None:
        if progress.frames > 5 and len(children) == 2 and not killed:
            killed.append(children[0].pid)
            os.kill(*killed, signal.SIGKILL)

    assert job.run(workers=2, progress=kill).frames_out == 80
    assert len(children) == 3
    run_film(source, other, options)
    assert films.frame_hashes(job.plan.target) == films.frame_hashes(other)


@pytest.mark.parametrize(("output", "dies"), [("out.mkv", True), ("stills/", False)])
def test_a_job_tells_a_damaged_container(
    source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, output: str, dies: bool
):
    data = bytearray(source.read_bytes())
    data[data.rindex(b"stsz") + 15] -= 1  # sound packets
    source.write_bytes(data)

    def opened(**more: bool) -> FilmJob:
        job = FilmJob.open(source, f"{source.parent}/{output}", replace(OPTIONS, **more), length=films.LENGTH)
        assert isinstance(job, FilmJob) and len(job.plan) == 4
        return job

    with pytest.raises(InputError, match="container is damaged"):
        opened(strict=True)
    job = opened()
    if dies:
        with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
            dying.setattr(job.folder, "remove", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
            job.run()
        assert caplog.text.count("container is damaged") == 1
        job = opened()
    caplog.clear()
    assert sum("container is damaged" in line for line in job.run().warnings) == 1
    assert caplog.text.count("container is damaged") == 1


def test_a_film_of_which_a_part_cannot_be_read_is_no_job(source: Path):
    broken = source.with_name("broken.mp4")
    parts = {"movflags": "frag_keyframe+empty_moov"}
    with av.open(str(source)) as film, av.open(str(broken), "w", options=parts) as out:
        streams = [out.add_stream_from_template(stream) for stream in film.streams]
        for packet in film.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    data = bytearray(broken.read_bytes())
    data[data.index(b"trun", data.index(b"trun") + 1) + 11] *= 2  # sound packets of the first fragment
    broken.write_bytes(data)
    why = FilmJob.open(broken, source.with_name("out.mkv"), OPTIONS)
    assert isinstance(why, str) and "a part of it cannot be read" in why


def test_workers_have_the_engine_of_the_job(source: Path, engines: Engines, monkeypatch: pytest.MonkeyPatch):
    engines.all |= {name: FakeEngine(name) for name in ("mine", "default")}
    own = source.with_name("settings") / "engines" / "mine"
    own.mkdir(parents=True)
    recipe = Path(shutil.copy(SHIPPED / "rtface-s" / "recipe.toml", own))
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(source.with_name("settings")))
    job = planned(source, replace(OPTIONS, engine="mine"))
    assert {"engine rtface-s", "engine mine"} <= job.plan.installed.keys()
    films.make_segment(job, 0)
    recipe.write_text(recipe.read_text() + "# other weights\n")
    with pytest.raises(WorkerRefused, match=r"engine mine was .* when the job began, and is .* here"):
        films.make_segment(job, 1)
    recipe.unlink()
    with pytest.raises(WorkerRefused, match="unknown engine"):
        films.make_segment(job, 1)


def test_workers_have_the_stages_of_the_job(source: Path, monkeypatch: pytest.MonkeyPatch):
    place = source.parent / "plugins"
    info = place / "theirs-1.0.dist-info"
    info.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(place))
    module = place / "job_stage.py"
    module.write_text("class Same:\n    api = 1\n    def __call__(self, frame):\n        return frame\n")
    (info / "METADATA").write_text("Name: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rtface.stages]\ntheirs = job_stage:Same\n")
    job = planned(source, replace(OPTIONS, stages=("theirs", "job_stage.Same")))
    assert job.plan.installed["the stage theirs"] == "theirs 1.0"
    films.make_segment(job, 0)
    (info / "METADATA").write_text("Name: theirs\nVersion: 1.1\n")
    with pytest.raises(WorkerRefused, match=r"the stage theirs was theirs 1\.0 when .* is theirs 1\.1 here"):
        films.make_segment(job, 1)


def test_an_output_without_room_for_a_job_beside_it(source: Path):
    with pytest.raises(OutputError, match=r"name too long.*a shorter name"):
        run_film(source, source.with_name("x" * 251 + ".mkv"), Options(dry_run=True))


def test_short_films_are_no_job(source: Path, tmp_path: Path):
    run = CliRunner().invoke
    short = ["run", str(source), str(tmp_path / "a.mkv"), "--tracker", "none"]
    assert run(app, short).exit_code == 0 and not list(tmp_path.glob("*.rtface"))


def test_a_disk_that_fails_while_the_film_is_read(source: Path, monkeypatch: pytest.MonkeyPatch):
    """Whichever read of it fails, in planning, a segment or the join: nothing is written, and the same command
    continues."""
    out = source.with_name("out.mkv")
    for _ in each_read(source, monkeypatch, lambda: planned(source).run(), InputError):
        assert not out.exists()
    assert len(films.packets(out, "video")) == 80
    assert [row[3] for row in films.packets(out, "audio")] == [row[3] for row in films.packets(source, "audio")]
