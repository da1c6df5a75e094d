"""``rtface analyze --events``: progress, and what was found so far."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtface.analysis.track_report import TrackReport
from rtface.cli.analyze import AnalysisEvents
from rtface.cli.console import Console
from rtface.pipeline.analysis import Findings
from rtface.pipeline.progress import Progress


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()][1:]  # but for "start"


def test_progress_as_events(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    now = iter([0.0, 0.1, 0.2, 10.0])
    monkeypatch.setattr("rtface.cli.analyze.monotonic", lambda: next(now))
    show = AnalysisEvents(Path("a.mp4"), Findings(), None, Console(stream=stream, events=True))
    for done in (1.0, 2.0, 5.0):
        show(Progress(1, done, 20.0, 30.0, 2))
    lines = events(stream)
    assert [line["share"] for line in lines] == [0.05, 0.25] and lines[1]["left_s"] == 30.0 and lines[0]["faces"] == 2


def test_tracks_and_photos_are_there_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    treatment = {
        "on": True,
        "strength": 1.0,
        "engine": None,
        "first": 0.0,
        "ring": 0.0,
        "gain_db": None,
        "reasons": ["blurred"],
    }
    found = Findings(keep_faces=True)
    now = iter([0.0, 1.0, 2.5, 3.0, 6.0])
    monkeypatch.setattr("rtface.cli.analyze.monotonic", lambda: next(now))
    show = AnalysisEvents(tmp_path / "a.mp4", found, tmp_path / "photos", Console(stream=stream, events=True))
    show(Progress(1, 1.0, 20.0, 30.0, 0))
    found.tracks = lambda: [TrackReport(7, 0.5, 2.0, 40, 90.0, {}, treatment, 1.0, person="P1")]
    show(Progress(1, 2.0, 20.0, 30.0, 1))
    assert not (tmp_path / "photos" / "P1").exists()
    found.faces = lambda: {7: np.full((256, 256, 3), 90, np.uint8)}
    show(Progress(1, 3.0, 20.0, 30.0, 1))
    show(Progress(1, 4.0, 20.0, 30.0, 1))
    lines = events(stream)
    assert ["tracks" in line for line in lines] == [False, True, False, True]
    assert lines[1]["tracks"]["7"]["first_s"] == 0.5 and lines[1]["persons"]["P1"]["tracks"] == [7]
    assert (tmp_path / "photos" / "P1" / "1.png").is_file()
