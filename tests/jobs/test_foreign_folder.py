"""A job folder that somebody else wrote: each of its files is used, or refused in one line."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from rtface.config.options import Options
from rtface.errors import InputError, Interrupted, RtfaceError, UsageError
from rtface.jobs import FilmJob
from rtface.jobs.face_numbers import FaceNumbers
from rtface.jobs.folder import JobFolder
from rtface.jobs.join import named_films
from rtface.jobs.plan import JobPlan
from rtface.jobs.segment_file import SegmentFile
from rtface.jobs.status import read_status
from tests.jobs import films
from tests.util.mutations import mutated


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> JobFolder:
    """A job of which the first segment is finished."""
    made, stop = tmp_path_factory.mktemp("job"), threading.Event()
    with pytest.MonkeyPatch.context() as patch:
        from rtface.pipeline import runtime
        from tests.pipeline.fakes import FakeEngine
        from tests.pipeline.run_media import Engines

        patch.setattr(runtime, "EngineSet", lambda *a, **k: Engines(FakeEngine()))
        job = FilmJob.open(
            films.FILMS["odd size"](made), made / "out.mkv", Options(tracker="none", codec="ffv1"), length=films.LENGTH
        )
        assert isinstance(job, FilmJob)
        with pytest.raises(Interrupted):
            job.run(stop=stop, progress=lambda p: stop.set() if p.frames > 30 else None)
    return job.folder


def segment_file(folder: JobFolder) -> None:
    with suppress(KeyError, TypeError, ValueError):  # which a join takes for a segment to be made again
        SegmentFile.of(folder.segments, folder.read(folder.record(0))).check()


def status_at_work(folder: JobFolder) -> None:
    with folder.lock():
        assert read_status(folder).state == "working"


OUTPUT = Path("/nowhere/out.mkv")
FILES: dict[str, tuple[Callable[[JobFolder], Path], object, Callable[[JobFolder], object]]] = {
    "plan": (lambda f: f.plan, None, lambda f: (JobPlan.load(f), read_status(f))),
    "record": (lambda f: f.record(0), None, segment_file),
    "note": (
        lambda f: f.joining,
        {str(OUTPUT): {"size": 3, "changed_ns": 4, "samples_sha256": "a"}, "/nowhere/stills": None},
        lambda f: named_films(f, [OUTPUT]),
    ),
    "numbers": (
        lambda f: f.numbers / "state.json",
        {"segments": 2, "highest": 3},
        lambda f: FaceNumbers(f, JobPlan.load(f)).highest + 1,
    ),
    "progress": (
        lambda f: f.progress,
        {
            "state": "working",
            "done_s": 1.5,
            "speed": 1.0,
            "time_left_s": None,
            "time_left_range_s": [1.0, 2.5],
            "workers": [{"segment": 1, "seconds": 0.4, "faces": 2, "frames": 7}],
        },
        status_at_work,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_a_job_is_used_or_refused(folder: JobFolder, kind: str):
    place, value, read = FILES[kind]
    path = place(folder)
    path.parent.mkdir(exist_ok=True)
    before = path.read_bytes() if path.exists() else None
    whole = json.loads(before) if before is not None and value is None else value
    try:
        path.write_text(json.dumps(whole))
        read(folder)  # as it should be
        for data in mutated(whole, 400):
            path.write_bytes(data)
            try:
                read(folder)
            except RtfaceError as error:
                assert "\n" not in str(error)
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("output", "/"),
        ("output", "../x"),
        ("output", "/nowhere/out.png"),
        ("options", {"a": 1}),
        ("size", [64, 48, "/dev/zero"]),
        ("size", [60_000, 60_000, "yuv420p"]),
    ],
)
def test_a_plan_names_what_there_can_be(folder: JobFolder, key: str, value: object):
    before = folder.plan.read_text()
    try:
        plan = json.loads(before)
        (plan["job"] if key in plan["job"] else plan)[key] = value
        folder.plan.write_text(json.dumps(plan))
        with pytest.raises(InputError, match=f"{key} is"):
            JobPlan.load(folder)
    finally:
        folder.plan.write_text(before)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("options", {"damage": "halftone"}, r"another rtface \(\d.*\): .*damage is gone.* finish it with .* --restart"),
        ("format", 3, "has format 3.* use the rtface that began it, or begin again with --restart"),
    ],
)
def test_a_plan_of_an_older_version(folder: JobFolder, key: str, value: object, says: str):
    before = folder.plan.read_text()
    try:
        folder.plan.write_text(json.dumps(json.loads(before) | {key: value}))
        for use in (lambda: FilmJob(folder), lambda: read_status(folder)):
            with pytest.raises((InputError, UsageError), match=says):
                use()
    finally:
        folder.plan.write_text(before)


def test_scans_of_a_job_may_be_as_large_as_stills(folder: JobFolder):
    before = folder.plan.read_text()
    try:
        plan = json.loads(before)
        plan["job"]["size"], plan["options"]["sequence"] = [16_000, 12_000, "rgb24"], True
        folder.plan.write_text(json.dumps(plan))
        assert JobPlan.load(folder).size == (16_000, 12_000, "rgb24")
    finally:
        folder.plan.write_text(before)


def test_a_still_of_no_bytes_names_what_to_do(tmp_path: Path):
    stop = threading.Event()
    job = FilmJob.open(
        films.FILMS["odd size"](tmp_path), f"{tmp_path}/out/", Options(tracker="none", codec="dpx"), length=films.LENGTH
    )
    assert isinstance(job, FilmJob)
    with pytest.raises(Interrupted):
        job.run(stop=stop, progress=lambda p: stop.set() if p.frames > 30 else None)
    record = job.folder.read(job.folder.record(0))
    first, second, *_ = record["packets"]
    second[3] += first[3]
    first[3] = 0
    job.folder.record(0).write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"none for it.* begin again with --restart"):
        job.run()
    assert not (tmp_path / "out").exists()
