"""--dry-run says what would be done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rtface
from rtface.config.options import Options
from rtface.errors import OutputError, UsageError
from rtface.pipeline import dry_run
from rtface.pipeline.plan import planned_options
from tests.pipeline.run_media import write_film
from tests.stages import trial_stages


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Grey, 320×180, 25 fps, two seconds, with sound."""
    return write_film(tmp_path / "film.mkv", [np.full((180, 320), 90, np.uint8)] * 50, codec="libx264", sound=True)


@pytest.fixture(autouse=True)
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "may_take_gpu", lambda device: False)


def notes(film: Path, output: str, **options: object) -> str:
    report = rtface.run(film, film.with_name(output), dry_run=True, **options)
    assert not film.with_name(output).exists()
    return "\n".join(report.notes)


def test_codec_engine_and_sound_are_said(film: Path) -> None:
    said = notes(film, "out.mp4")
    assert "input: h264, 320x180, 25 fps, 0:00:02.000" in said
    assert "become lossy (libx264, 320x180, 25 fps, yuv420p)" in said
    assert "stream 1: sound (aac) is copied" in said
    assert "stream 1: sound (aac) becomes libopus" in notes(film, "out.webm")
    assert "engine: rtface-m on the CPU" in said


def test_the_report_has_the_plan(film: Path) -> None:
    plan = rtface.run(film, film.with_name("out.mkv"), dry_run=True, crf=30, sidecar=True).plan
    assert plan["options"] == {"crf": 30.0, "sidecar": True}
    assert {Path(path).name for path in plan["outputs"].values()} == {"out.mkv", "out.mkv.rtface.json"}
    assert plan["video"]["encoder"] == "libx264"
    assert [(one["index"], one["kind"], one["action"]) for one in plan["streams"]] == [(1, "audio", "copy")]


def test_files_in_a_plan_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = Options.of(
        {"person": "anna=a.jpg, b.jpg", "sign": "c.pem,k.pem", "treatment": "t.json", "stages": ["picture:file=a.png"]}
    )
    assert planned_options(options) == {
        "person": [f"anna={tmp_path / 'a.jpg'},{tmp_path / 'b.jpg'}"],
        "treatment": str(tmp_path / "t.json"),
        "sign": f"{tmp_path / 'c.pem'},{tmp_path / 'k.pem'}",
        "stages": [f"picture:file={tmp_path / 'a.png'}"],
    }


def test_stages_are_checked_and_do_not_begin(film: Path) -> None:
    before = len(trial_stages.begun)
    assert "stages: tests.stages.trial_stages.Bar" in notes(film, "out.mp4", stages="tests.stages.trial_stages.Bar")
    with pytest.raises(UsageError, match="heigth"):
        notes(film, "out.mp4", stages="tests.stages.trial_stages.Bar:heigth=3")
    assert len(trial_stages.begun) == before


def test_further_films_are_planned(film: Path) -> None:
    """A comparison that is no film is refused before work."""
    with pytest.raises(UsageError, match=r"pairs\.txt"):
        rtface.run(film, film.with_name("out.mp4"), dry_run=True, compare=film.with_name("pairs.txt"))


def test_a_further_film_needs_its_folder(film: Path) -> None:
    for output in ("new/pictures", "new"):
        with pytest.raises(OutputError, match=r"new/pairs\.mkv: there is no folder .*/new; create it first"):
            rtface.run(film, f"{film.parent}/{output}/", dry_run=True, compare=film.parent / "new" / "pairs.mkv")
