"""What whole runs do to the paths that they write: nothing of the user's is replaced, removed or mixed."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

import rtface
from rtface.config.options import Options
from rtface.errors import Interrupted, OutputError, RtfaceError, UsageError
from rtface.media.files.workfile import Target
from rtface.media.stills import folder_sink
from rtface.pipeline import runtime
from rtface.pipeline.film import run_file
from rtface.pipeline.progress import Progress
from tests.pipeline.run_media import film, still

pytestmark = pytest.mark.usefixtures("engines")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three frames without a face."""
    return film(tmp_path / "in.mkv", frames=3, face=False)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def stopped(source: Path, output: Path | str, after: int, **options: object) -> Interrupted:
    """Runs until so many frames are written."""
    stop = threading.Event()

    def look(progress: Progress) -> None:
        if progress.frames == after:
            stop.set()

    with pytest.raises(Interrupted) as info:
        run_file(source, output, Options(**options), progress=look, stop=stop)
    return info.value


@pytest.mark.parametrize(
    ("option", "place"), [("report", "input"), ("compare", "output"), ("report", "existing"), ("compare", "folder")]
)
def test_report_and_comparison_never_destroy_a_film(source: Path, tmp_path: Path, option: str, place: str) -> None:
    output = tmp_path / "out.mkv"
    (tmp_path / "existing.mkv").write_bytes(b"old")
    path = {
        "input": source,
        "output": output,
        "existing": tmp_path / "existing.mkv",
        "folder": tmp_path / "none" / "r.mkv",
    }[place]
    before, old = source.read_bytes(), names(tmp_path)
    with pytest.raises(OutputError, match=option):
        rtface.run(source, output, overwrite=place == "input", **{option: path})
    assert source.read_bytes() == before and (tmp_path / "existing.mkv").read_bytes() == b"old"
    assert names(tmp_path) == old  # before any work


def test_a_report_is_replaced_only_with_overwrite(source: Path, tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    report.write_text("notes")
    with pytest.raises(OutputError, match="exists already; --overwrite"):
        rtface.run(source, tmp_path / "out.mkv", report=report)
    assert report.read_text() == "notes"
    rtface.run(source, tmp_path / "out.mkv", report=report, overwrite=True)
    assert json.loads(report.read_text())["frames_out"] == 3 and names(tmp_path) == ["in.mkv", "out.mkv", "r.json"]


# -- a film into a folder ---------------------------------------------------------------------------------------------


def test_a_folder_has_to_be_meant(source: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"text")
    for output in ("better", "plain", "-"):
        with pytest.raises(UsageError):
            rtface.run(source, output if output == "-" else tmp_path / output)
    with pytest.raises(RtfaceError):
        rtface.run(source, "/dev/null")
    assert names(tmp_path) == ["in.mkv", "plain"]
    (tmp_path / "there").mkdir()
    rtface.run(source, tmp_path / "there")
    assert len(names(tmp_path / "there")) == 3


def test_a_users_own_partial_folder_stays(source: Path, tmp_path: Path) -> None:
    for name in ("st.partial", ".st.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("mine")
    rtface.run(source, f"{tmp_path}/st/")
    assert len(names(tmp_path / "st")) == 3
    for name in ("st.partial", ".st.partial"):
        assert (tmp_path / name / "thesis.txt").read_text() == "mine"


def test_an_interrupted_folder_stays_beside_the_next(tmp_path: Path) -> None:
    source, output, part = film(tmp_path / "in.mkv", frames=12, face=False), f"{tmp_path}/st/", tmp_path / "st.partial"
    interrupted = stopped(source, output, 5)
    assert interrupted.partial == str(part) and interrupted.resume_at == pytest.approx(5 / 25)
    assert names(part) == [f"{n:06d}.png" for n in range(1, 6)]
    rtface.run(source, output)
    assert len(names(tmp_path / "st")) == 12 and len(names(part)) == 5


def test_two_runs_into_one_folder_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = film(tmp_path / "in.mkv", frames=4, face=False)
    finish, other = folder_sink.FolderSink.finish, [True]

    def behind_another(self: folder_sink.FolderSink) -> None:
        if other.pop():
            other.append(False)
            rtface.run(source, f"{tmp_path}/st/", end=0.08)
        finish(self)

    monkeypatch.setattr(folder_sink.FolderSink, "finish", behind_another)
    with pytest.raises(OutputError, match=r"the stills are in .*st\.partial"):
        rtface.run(source, f"{tmp_path}/st/")
    assert len(names(tmp_path / "st")) == 2
    assert len(list((tmp_path / "st.partial").glob("*.png"))) == 4


def test_stills_of_a_killed_run_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, output = film(tmp_path / "in.mkv", frames=8, face=False), f"{tmp_path}/st/"

    def refuse(target: Target, work: Path) -> Path:
        raise OSError("as after a killed run: no new name")

    monkeypatch.setattr(Target, "keep", refuse)
    stopped(source, output, 5)
    monkeypatch.undo()
    monkeypatch.setattr(runtime, "EngineSet", lambda *a, **k: None)
    with pytest.raises(Exception):  # noqa: B017 - the run need not come far
        rtface.run(source, output, end=0.04)
    assert names(tmp_path) == ["in.mkv"]


# -- stills ----------------------------------------------------------------------------------------------------


def test_stills_are_not_written_into_their_own_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    before = still(tmp_path / "in" / "a.png", face=False).read_bytes()
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="is the input itself"):
            rtface.run(tmp_path / "in", tmp_path / "in", overwrite=overwrite)
    assert (tmp_path / "in" / "a.png").read_bytes() == before


def test_a_comparison_of_a_folder_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    still(tmp_path / "in" / "a.png", face=False)
    with pytest.raises(UsageError, match=r"in is a folder of stills.*one of the images"):
        rtface.run(tmp_path / "in", tmp_path / "out", compare=tmp_path / "c.png")
