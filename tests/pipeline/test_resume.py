"""A run that ends early and is gone on with: every frame is in one of the two parts, and none is in both."""

from __future__ import annotations

import json
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import rtface
from rtface.config.options import Options
from rtface.enhance.corrector import FaceCorrector
from rtface.errors import EngineError, Interrupted, OutputError
from rtface.media.read.source import FileSource
from rtface.media.write.file_sink import FileSink
from rtface.media.write.film_file import FilmFile
from rtface.pipeline import chain
from rtface.pipeline.film import run_file
from rtface.pipeline.progress import Progress
from rtface.util.parse import format_start, parse_time
from tests.pairs import pairs
from tests.pipeline.run_media import decoded, write_film

pytestmark = pytest.mark.usefixtures("engines")


def numbered(path: Path, frames: int, rate: Fraction | int = 25, pts_ms: list[int] | None = None) -> Path:
    """A film whose frame n shows n as eight black or white bars."""
    bars = ([235 if n >> bit & 1 else 16 for bit in range(8)] for n in range(frames))
    return write_film(
        path,
        (np.tile(np.repeat(row, 16).astype(np.uint8), (96, 1)) for row in bars),
        rate=rate,
        codec="libx264",
        options={"preset": "ultrafast", "bf": "2"},
        pts=pts_ms,
        base=Fraction(1, 1000) if pts_ms else None,
    )


def numbers(path: Path) -> list[int]:
    """The numbers that a film's frames show."""
    return [sum(1 << bit for bit in range(8) if picture[48, 8::16][bit] > 128) for picture in decoded(path)]


def stopped(source: Path, target: Path, after: int, **options: Any) -> Interrupted:
    """What a run raises that is stopped when `after` frames are written."""
    stop = threading.Event()

    def watch(progress: Progress) -> None:
        if progress.frames == after:
            stop.set()

    with pytest.raises(Interrupted) as caught:
        run_file(source, target, Options(tracker="none", **options), progress=watch, stop=stop)
    return caught.value


@pytest.mark.parametrize(
    ("rate", "kind"),
    pairs([Fraction(24000, 1001), 25, Fraction(30000, 1001), 60, 120], ["mp4", "mkv"]),
)
def test_a_start_that_is_printed_begins_with_its_frame(tmp_path: Path, rate: Fraction | int, kind: str) -> None:
    source = numbered(tmp_path / f"in.{kind}", 20, rate)
    opened = FileSource(source)
    times = [item.pts * item.time_base - opened.info.clock_start for item in opened]  # type: ignore[union-attr]
    opened.close()
    for n in (1, 2, 7, 13, 19):
        rest = FileSource(source, start=parse_time(format_start(times[n])))
        assert next(iter(rest)).pts * opened.info.time_base - opened.info.clock_start == times[n]  # type: ignore
        rest.close()


UNEVEN = [0, 40, 41, 120, 127, 500, 533, 567, 600, 1600, 1610, 1640, 1641, 1700]


@pytest.mark.parametrize(
    ("kind", "rate", "uneven", "after"),
    [("mkv", 24, False, 11), ("ts", 30, False, 8), ("mp4", 25, True, 5)],
)
def test_two_parts_are_the_whole_film(tmp_path: Path, kind: str, rate: int, uneven: bool, after: int) -> None:
    source = numbered(tmp_path / "in.mkv", len(UNEVEN), rate, UNEVEN if uneven else None)
    first = stopped(source, tmp_path / f"out.{kind}", after)
    assert first.partial and first.resume_at is not None
    rtface.run(source, tmp_path / f"rest.{kind}", start=parse_time(format_start(first.resume_at)), tracker="none")
    assert numbers(Path(first.partial)) + numbers(tmp_path / f"rest.{kind}") == list(range(len(UNEVEN)))


def test_a_stop_reports_the_rest_and_keeps_its_side_outputs(tmp_path: Path) -> None:
    source, report = numbered(tmp_path / "in.mkv", 60, 30), tmp_path / "r.json"
    error = stopped(source, tmp_path / "out.mp4", 20, report=report, compare=tmp_path / "pair.mp4")
    assert str(tmp_path / "out.partial.mp4") in str(error) and "continue with --start 0:00:00.66" in str(error)
    assert "; finished parts of the other films are in " in str(error)
    assert str(tmp_path / "pair.partial.mp4") in str(error)
    assert len(numbers(tmp_path / "pair.partial.mp4")) >= 20
    told = json.loads(report.read_text())
    assert told["interrupted"] is True and told["frames_out"] == 20
    assert told["partial"] == error.partial and told["resume_at_s"] == error.resume_at


def test_the_report_of_a_stopped_run_is_replaced_by_the_same(tmp_path: Path) -> None:
    source, report = numbered(tmp_path / "in.mkv", 60, 30), tmp_path / "r.json"
    stopped(source, tmp_path / "out.mp4", 20, report=report)
    another = numbered(tmp_path / "another.mkv", 5)
    for film, output, start in ((source, "other.mp4", None), (source, "out.mp4", 0.5), (another, "out.mp4", None)):
        with pytest.raises(OutputError, match="exists already"):
            rtface.run(film, tmp_path / output, report=report, tracker="none", start=start)
    rtface.run(source, tmp_path / "out.mp4", report=report, tracker="none")
    assert json.loads(report.read_text())["frames_out"] == 60
    (tmp_path / "out.mp4").unlink()
    with pytest.raises(OutputError, match="exists already"):
        rtface.run(source, tmp_path / "out.mp4", report=report, tracker="none")


def test_ctrl_c_in_python_is_the_documented_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, written = numbered(tmp_path / "in.mp4", 20), FileSink.write

    def write(self: FileSink, item: Any) -> None:
        written(self, item)
        if item.pts == 9 * 512:
            raise KeyboardInterrupt

    monkeypatch.setattr(FileSink, "write", write)
    with pytest.raises(
        Interrupted, match=r"interrupted; the finished part is in .*out\.partial\.mp4; continue with --start"
    ):
        rtface.run(source, tmp_path / "out.mp4", tracker="none")


def test_ctrl_c_in_live_or_analysis_is_the_documented_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*a: Any, **k: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rtface.live.session.run_live", interrupted)
    monkeypatch.setattr("rtface.pipeline.build.create_tracker", interrupted)
    source = numbered(tmp_path / "in.mp4", 5)
    for work in (lambda: rtface.run(source, "null:"), lambda: rtface.analyze(source)):
        with pytest.raises(Interrupted):
            work()


def test_a_stopped_folder_of_stills_goes_on_with_the_same_line(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for n in range(4):
        assert cv2.imwrite(str(tmp_path / "in" / f"{n}.png"), np.full((48, 64, 3), 40 * n, np.uint8))
    stop = threading.Event()
    with pytest.raises(Interrupted, match="interrupted after 2 of 4 images; the same command continues from there"):
        run_file(
            tmp_path / "in",
            tmp_path / "out",
            Options(tracker="none"),
            stop=stop,
            progress=lambda p: stop.set() if p.frames == 2 else None,
        )
    assert rtface.run(tmp_path / "in", tmp_path / "out", tracker="none").frames_out == 2
    assert len(list((tmp_path / "out").iterdir())) == 4


# -- frames that fail -------------------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten failed frames in a row end a run."""
    monkeypatch.setattr(chain, "FAULTS_IN_A_ROW", 10)
    monkeypatch.setattr(chain, "MIN_HELD_FRAMES", 10)


@pytest.mark.parametrize("step", ["enhance", "tracker"])
@pytest.mark.usefixtures("few")
def test_failing_from_some_frame_on_ends_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    if step == "enhance":

        def submit(self: FaceCorrector, task: Any, faces: Any) -> None:
            if task.frame.pts >= 31 * 40:
                raise RuntimeError("boom")

        monkeypatch.setattr(FaceCorrector, "submit_faces", submit)
    else:
        from rtface.tracking import NoTracker

        def update(self: NoTracker, view: Any, time: float, *, cut: bool = False) -> tuple[()]:
            if time > 30.5 / 25:
                raise RuntimeError("boom")
            return ()

        monkeypatch.setattr(NoTracker, "update", update)
    source = numbered(tmp_path / "in.mkv", 90)
    with pytest.raises(EngineError, match=r"10 frames in a row .*boom.*continue with --start 0:00:01\.240") as caught:
        rtface.run(source, tmp_path / "out.mp4", tracker="none")
    assert numbers(Path(str(caught.value.partial))) == list(range(31))
    assert caught.value.resume_at == 1.24


@pytest.mark.usefixtures("few")
def test_frames_that_fail_now_and_then_end_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rtface.tracking import NoTracker

    count = iter(range(1000))

    def update(self: NoTracker, view: Any, time: float, *, cut: bool = False) -> tuple[()]:
        if next(count) % 10:
            raise RuntimeError("boom")
        return ()

    monkeypatch.setattr(NoTracker, "update", update)
    report = rtface.run(numbered(tmp_path / "in.mkv", 40), tmp_path / "out.mp4", tracker="none")
    assert report.faults == 36 and numbers(tmp_path / "out.mp4") == list(range(40))


# -- an output that cannot be written ---------------------------------------------------------------------------------


def fill_disk(monkeypatch: pytest.MonkeyPatch, name: str, after: int) -> None:
    """The disk is full behind `after` frames of the sink whose output is called `name`."""
    note = FilmFile.note

    def limited(film: FilmFile, pts: int) -> None:
        """Called once for each frame."""
        if Path(film.plan.path).name == name and film.frames >= after:
            raise OSError(28, "No space left on device")
        note(film, pts)

    monkeypatch.setattr(FilmFile, "note", limited)


def test_a_full_disk_says_one_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = numbered(tmp_path / "in.mkv", 60, 30)
    with monkeypatch.context() as full, pytest.raises(OutputError, match="disk is full") as caught:
        fill_disk(full, "out.mp4", 45)
        rtface.run(source, tmp_path / "out.mp4", tracker="none", preset="ultrafast", compare=tmp_path / "pair.mp4")
    assert str(caught.value).count("--start") == 1
    done = numbers(Path(str(caught.value.partial)))
    rtface.run(source, tmp_path / "rest.mp4", tracker="none", start=caught.value.resume_at)
    assert done + numbers(tmp_path / "rest.mp4") == list(range(60))
