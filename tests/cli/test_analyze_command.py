"""``rtface analyze``: a table for people, a treatment file for `rtface run --treatment`."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from rtface.analysis.track_report import TrackReport
from rtface.analysis.treatment_file import read_treatments
from rtface.cli.app import app

SCORES = {
    "motion_blur": 0.02,
    "low_resolution": 0.61,
    "compression": 0.33,
    "pixelation": 0.0,
    "missing": 0.0,
    "noise": 0.11,
    "under_exposure": 0.0,
    "over_exposure": 0.0,
    "low_contrast": 0.0,
}
TRACKS = [
    TrackReport(
        1,
        0.0,
        6.96,
        175,
        143.2,
        SCORES,
        {
            "on": True,
            "strength": 0.9,
            "first": 0.7,
            "ring": 0.2,
            "engine": None,
            "gain_db": 0.44,
            "reasons": ["low resolution 0.61"],
        },
        0.9,
        factors={"asked": 1.0, "decided": 0.9, "pose": 1.0},
        share_of_time=1.0,
    ),
    TrackReport(
        4,
        2.0,
        3.0,
        25,
        300.0,
        dict.fromkeys(SCORES, 0.0),
        {
            "on": False,
            "strength": 0.0,
            "first": 0.0,
            "ring": 0.0,
            "engine": "rtface-s",
            "gain_db": None,
            "reasons": ["nothing to gain"],
        },
        0.0,
    ),
]


def test_table_has_a_line_per_track_and_the_worst_first(analysis):
    calls = analysis(TRACKS)
    result = CliRunner().invoke(app, ["analyze", "a.mp4", "--start", "1", "--faces", "1,4"])
    assert result.exit_code == 0
    assert calls[0][1].start == 1.0
    assert calls[0][1].faces == "1,4"
    heading, first, second = result.stdout.splitlines()
    assert heading.startswith("TRACK")
    assert " visible: asked 100 %, applied 90 %, because more would harm it " in first and "dB" not in result.stdout
    assert "+0.4 dB expected" in CliRunner().invoke(app, ["analyze", "a.mp4", "-v"]).stdout
    assert "low resolution 0.61, compression 0.33, noise 0.11" in first
    assert "motion blur" not in first
    assert "left alone: nothing to gain " in second
    assert second.endswith("nothing")


def test_json_is_a_treatment_file_that_can_be_read_back(analysis, tmp_path):
    analysis(TRACKS)
    result = CliRunner().invoke(app, ["analyze", "a.mp4", "--json"])
    file = tmp_path / "treatment.json"
    file.write_text(result.stdout)
    treatments = read_treatments(file).by_track
    assert (treatments[1].on, treatments[1].applied) == (True, (0.9, 0.7, 0.2))
    assert not treatments[4].on
    table = json.loads(result.stdout)
    assert table["tracks"]["1"]["analysis"]["low_resolution"] == 0.61
    assert [table["tracks"][key]["gain_db"] for key in ("1", "4")] == [0.44, None]
    assert table["input"] == "a.mp4"


def test_no_face_is_reported_on_stderr_and_writes_an_empty_file(analysis, tmp_path):
    analysis([])
    result = CliRunner().invoke(app, ["analyze", "a.mp4"])
    assert result.stdout == ""
    assert "no face found" in result.stderr
    file = tmp_path / "treatment.json"
    file.write_text(CliRunner().invoke(app, ["analyze", "a.mp4", "--json"]).stdout)
    assert read_treatments(file).by_track == {}
