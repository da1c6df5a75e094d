"""Analysis, report, contact sheet and marks say the same of the same face."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from typer.testing import CliRunner

import rtface
from rtface.analysis.track_report import TrackReport
from rtface.analysis.verdict import LEFT_ALONE, faults_of, verdict_on
from rtface.cli.analyze import treatment_file
from rtface.cli.app import app
from rtface.config.options import Options
from rtface.contact_sheet.sheet import Sheet, cell_label, make_sheet, row_label
from rtface.pipeline.proposals import little_seen, proposals
from tests.pipeline.fakes import portrait
from tests.pipeline.run_media import write_film


def coded(path: Path, crf: int = 38, **how: Any) -> Path:
    """A film of 1.6 s, coded as poorly as asked for."""
    how = {"blur": 0.0} | how
    pictures = (portrait(shift=(0.5 * t, 0.0), **how)[0] for t in range(40))
    return write_film(path, pictures, codec="libx264", options={"crf": str(crf), "g": "20"})


def sheet_of(path: Path, count: int = 4, **options: Any) -> Sheet:
    return make_sheet(path, Options(**options), ["fake"], count)


def said(tracks: list[TrackReport]) -> list[str]:
    return [track.verdict.sentence() for track in tracks]


@pytest.mark.usefixtures("engines")
def test_analysis_report_and_sidecar_say_the_same(tmp_path: Path) -> None:
    source = coded(tmp_path / "a.mp4")
    found, report = rtface.analyze(source), rtface.run(source, tmp_path / "o.mkv", sidecar=True)
    assert said(found) == said(report.tracks)
    assert len(found) == 1 and found[0].verdict.word != LEFT_ALONE and found[0].strength == report.tracks[0].strength
    (listed,) = treatment_file(source, found)["tracks"].values()
    (written,) = json.loads(report.to_json())["tracks"]
    (kept,) = json.loads((tmp_path / "o.mkv.rtface.json").read_text())["treatments"]
    assert listed["verdict"] == written["verdict"] == kept["verdict"]
    assert " dB" not in json.dumps(listed["verdict"])


@pytest.mark.slow
def test_the_analysis_knows_that_vivid_gets_less(tmp_path: Path) -> None:
    """Once the analysis said 65 % and the report 42 %."""
    source = coded(tmp_path / "a.mp4", 27)
    (found,) = rtface.analyze(source, look="vivid")
    (done,) = rtface.run(source, tmp_path / "o.mkv", look="vivid").tracks
    assert found.verdict == done.verdict and found.factors["vivid"] < 0.95


@pytest.mark.usefixtures("engines")
def test_a_photo_is_judged_alike_by_analysis_run_and_sheet(tmp_path: Path) -> None:
    """How a JPEG was coded counts in each: once the page promised twice the gain of the report."""
    photo = tmp_path / "a.jpg"
    av.VideoFrame.from_ndarray(np.ascontiguousarray(portrait(480, 360, scale=1.3)[0]), "rgb24").to_image().save(
        photo, quality=60
    )
    (found,), (done,) = rtface.analyze(photo), rtface.run(photo, tmp_path / "o.png").tracks
    assert found.verdict == done.verdict and found.treatment["gain_db"] == done.treatment["gain_db"]
    assert row_label(sheet_of(photo).rows[0])[-1] == found.verdict.sentence() and found.treatment["on"]


@pytest.mark.usefixtures("engines")
def test_a_clean_face_is_clean_in_the_table_and_on_the_sheet(tmp_path: Path) -> None:
    source = coded(tmp_path / "a.mp4", 6, width=480, height=360, scale=1.0)
    (found,), sheet = rtface.analyze(source), sheet_of(source)
    (row,) = sheet.rows
    track = row.tracks["fake"]
    assert track is not None and found.verdict.word == track.verdict.word == LEFT_ALONE
    faults = [f"{name} {score:.2f}" for name, score in faults_of(track.analysis)]
    assert [name for name, _ in faults_of(found.analysis)] == [name for name, _ in faults_of(track.analysis)]
    assert row_label(row)[2:] == [*faults, track.verdict.sentence()]
    assert cell_label(row, "fake").endswith(LEFT_ALONE)


@pytest.mark.usefixtures("engines")
def test_a_sheet_begins_with_the_face_that_gains_most(tmp_path: Path) -> None:
    """One that gains nothing is not on it, however large."""
    scenes = [(0.5, 0.0), (2.2, 0.0), (0.9, 3.0)]  # size and blur
    pictures = (portrait(640, 360, scale=scenes[t // 40][0], blur=scenes[t // 40][1])[0] for t in range(120))
    source = write_film(tmp_path / "a.mkv", pictures, codec="libx264", options={"crf": "12", "g": "40"})
    sheet = sheet_of(source)
    gains = [row.face.gain for row in sheet.rows]
    assert gains == sorted(gains, reverse=True) and all(gains) and all(row.corrected for row in sheet.rows)
    assert int(sheet.rows[0].time / 1.6) == 2
    assert len(sheet.rows) < 3 and any("--correct always" in note for note in sheet.notes)


FACTORS = dict.fromkeys(("asked", "decided", "vivid", "pose", "edge", "person", "level", "guard"), 1.0)


def track(gain: float | None, width: float = 200.0, applied: float = 1.0, **more: Any) -> TrackReport:
    """A face with this gain; without, one that is left alone."""
    on = gain is not None
    reasons = [] if on else ["nothing to gain"]
    scores = {"compression": 0.2}
    factors = more.pop("factors", FACTORS if on else {})
    treatment = {"on": on, "gain_db": gain, "reasons": reasons}
    return TrackReport(1, 0, 1, 25, width, scores, treatment, applied, share_of_time=1.0, factors=factors, **more)


@pytest.mark.parametrize("name", ["decided", "pose", "guard"])
def test_the_factor_that_weakens_most_is_the_reason(name: str) -> None:
    weak = track(0.8, applied=0.3, factors=FACTORS | {name: 0.3, "guard" if name != "guard" else "pose": 0.9})
    (why,) = weak.verdict.because
    assert getattr(why, "code", "") == f"because_{name}"
    assert weak.verdict.sentence().endswith(f": asked 100 %, applied 30 %, because {why}")
    assert weak.verdict.word == ("clearly visible" if name == "decided" else "visible")


def test_what_was_asked_for_is_no_reason() -> None:
    told = track(0.8, applied=0.5, factors=FACTORS | {"asked": 0.5}).verdict
    assert told.sentence() == "visible: asked 50 %, applied 50 %"
    mean = track(0.6, factors=FACTORS | {"detail": 0.0}).verdict
    assert mean.word == "hardly visible" and not mean.because, "it weakens nothing, but adds nothing to be seen"
    assert track(None).verdict.sentence() == "left alone: nothing to gain; compression is mild"


def test_a_decision_that_came_to_nothing_says_why() -> None:
    treatment = {"on": False, "gain_db": 0.8, "reasons": ["compression 0.60"]}
    away = verdict_on(treatment, applied=0.0, factors=FACTORS | {"pose": 0.0}, scores={"compression": 0.6}, width=90)
    assert away.sentence() == "left alone: it is turned away"
    none = verdict_on(treatment, applied=0.0, factors=FACTORS | {"asked": 0.0}, scores={}, width=90)
    assert none.sentence() == "left alone: the requested strength is 0"


def codes(*faces: TrackReport, **options: Any) -> list[str]:
    usual: dict[str, Any] = {"engine": "default", "look": "clear", "scale": None}
    found = proposals(faces, **(usual | options))
    return [one.code.removeprefix("propose_") for one in found]


def test_where_little_is_seen_more_is_proposed() -> None:
    hardly, small, clean = track(0.1), track(0.1, width=70.0), track(None)
    assert codes(hardly) == ["vivid", "engine"] and codes(small) == ["twice", "vivid", "engine"]
    assert codes(clean) == ["always"] and codes(clean, hardly) == ["vivid", "always", "engine"]
    assert codes(small, engine="gfpgan-1.4", scale="2") == ["engine"] and codes(hardly, look="vivid") == ["engine"]
    held = track(0.1, factors=FACTORS | {"decided": 0.6})
    assert codes(held) == ["engine"] and codes(hardly, look="faithful") == ["clear", "engine"]
    assert codes(clean, track(0.6)) == [] == codes() == little_seen([])
    (line,) = little_seen(proposals([small], engine="default", look="clear", scale=None))
    assert "--scale 2 restores them at twice the size; --look vivid draws" in line


@pytest.mark.usefixtures("engines")
def test_proposals_are_said_before_a_run_and_after_it(tmp_path: Path) -> None:
    source = coded(tmp_path / "a.mp4", 6, width=480, height=360, scale=1.0)
    table = json.loads(CliRunner().invoke(app, ["analyze", str(source), "--json"]).stdout)
    assert [(one["code"], one["values"]) for one in table["proposals"]] == [
        ("propose_always", {"option": "correct", "value": "always"}),
    ], "a sharp face gains nothing from larger frames, however small"
    notes = rtface.run(source, tmp_path / "o.mkv").notes
    assert sum("correct=always" in str(note) or "--correct always" in str(note) for note in notes) == 1
