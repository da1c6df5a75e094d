"""rtface.run and rtface.analyze as a Python program calls them, and the names that rtface exports."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import av
import cv2
import pytest

import rtface
from rtface.errors import InputError, Interrupted, Message, OptionFlag, UsageError
from tests.pipeline.fakes import portrait
from tests.pipeline.run_media import write_film

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The portrait for 20 frames, 320×180."""
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4", [portrait()[0]] * 20, codec="libx264", rate=20)


@pytest.mark.usefixtures("engines")
def test_progress_is_told_after_every_frame(film: Path, tmp_path: Path) -> None:
    told: list[rtface.Progress] = []
    report = rtface.run(film, tmp_path / "out.mp4", progress=told.append)
    assert [p.frames for p in told] == list(range(1, 21))
    assert told[-1].seconds_done == pytest.approx(1.0) and told[-1].duration_s == pytest.approx(1.0)
    assert report.frames_out == 20


@pytest.mark.usefixtures("engines")
def test_cancel_leaves_a_playable_part(film: Path, tmp_path: Path) -> None:
    cancel = threading.Event()

    def stop(progress: rtface.Progress) -> None:
        if progress.frames == 8:
            cancel.set()

    (tmp_path / "out.mp4").write_bytes(b"an older good output")
    with pytest.raises(Interrupted) as caught:
        rtface.run(film, tmp_path / "out.mp4", progress=stop, cancel=cancel, overwrite=True)
    assert (tmp_path / "out.mp4").read_bytes() == b"an older good output"
    assert caught.value.partial is not None and caught.value.resume_at is not None
    assert "continue with --start 0:00:00." in str(caught.value)
    with av.open(caught.value.partial) as part:
        assert 0 < sum(1 for _ in part.decode(video=0)) < 20


def test_a_live_run_tells_its_progress_and_is_cancelled(film: Path) -> None:
    cancel, told = threading.Event(), list[rtface.Progress]()

    def note(progress: rtface.Progress) -> None:
        told.append(progress)
        if progress.frames:
            cancel.set()

    report = rtface.run(film, "null:", engine="rtface-s", tracker="none", progress=note, cancel=cancel)
    assert told[-1].frames > 0 and told[-1].duration_s is None
    assert report.frames_out > 0


def test_analyze_gives_typed_reports(film: Path) -> None:
    told: list[rtface.Progress] = []
    (track,) = rtface.analyze(film, end=0.5, progress=told.append)
    assert isinstance(track, rtface.TrackReport)
    assert (track.id, track.frames, track.first_s) == (1, 10, 0.0)
    assert set(track.treatment) >= {"on", "strength", "engine", "reasons"}
    assert told


def test_analyze_goes_on_past_a_bad_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture, _ = portrait()
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"a.png: is empty"):
        rtface.analyze(tmp_path)
    cv2.imwrite(str(tmp_path / "b.png"), picture[:, :, ::-1])
    assert [track.frames for track in rtface.analyze(tmp_path)] == [1]
    assert "a.png: is empty" in caplog.text


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda p: rtface.run([p], "o.mp4"), "input must be a path .* not list; call rtface.run once per file"),
        (lambda p: rtface.run(None, "o.mp4"), "input must be .* not None"),
        (lambda p: rtface.run(p, 3), "output must be a path .* not int"),
        (lambda p: rtface.run(p, ""), "output must be .* not ''"),
        (lambda p: rtface.run(p, "o.mp4", start=float("nan")), "start must be seconds"),
        (lambda p: rtface.run(p, "o.mp4", grian="none"), "grian is not an option: the nearest is grain"),
        (lambda p: rtface.run(p, "o.mp4", colour="fade"), "^colour must be lock or restore"),
        (lambda p: rtface.run(p, "null:", colour="restore"), "^--colour has no effect here: it is for films or stills"),
        (
            lambda p: rtface.run(p, "o.mp4", control="show"),
            "^--control has no effect here: it is for live runs of the command",
        ),
        (lambda p: rtface.run(p, "null:", control=0), "^--control has no effect here"),
        (lambda p: rtface.run(p, "null:", restart=True), "^--restart has no effect here: it is for films"),
        (lambda p: rtface.run(p, "null:", end=3), "^--end has no effect here: it is for films"),
        (lambda p: rtface.analyze([p]), "call rtface.analyze once per file"),
        (lambda p: rtface.analyze(p, crf=3), "^--crf has no effect here"),
    ],
)
def test_wrong_arguments_say_the_fix(call: Any, says: str, film: Path) -> None:
    with pytest.raises(UsageError, match=says):
        call(film)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("take {--overwrite=True}", "take --overwrite"),
        ("check {--crf} and {--preset:slow}", "check --crf and --preset slow"),
        ("{--max-faces:{count}}: at least", "--max-faces 0: at least"),
        ("{--start:{seconds:g}}: {why}", "--start 1.5: see --stage help"),
        ("{option} is not", "--end is not"),
    ],
)
def test_messages_name_options(template: str, said: str) -> None:
    why = Message("see {--stage} help", code="why")
    line = Message(template, code="one", count=0, seconds=1.5, why=why, option=OptionFlag("--end"))
    assert {str(same) for same in (line, Message.of(line.to_dict()), Message(line), line.one_line())} == {said}


def test_exported_and_documented_names_are_the_same() -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\brtface\.([A-Za-z_]+)", page)) - {"errors"}
    assert named == set(rtface.__all__)
    assert all(hasattr(rtface, name) for name in rtface.__all__)
