from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtface.analysis import analyzer as analyze
from rtface.analysis.analyzer import (
    Analysis,
    Analyzer,
    Treatment,
    choose_treatment,
    read_treatments,
    treatments_table,
    write_treatments,
)
from rtface.errors import InputMissing, OutputError, UsageError
from rtface.frame import Bytes, Face

from .conftest import PictureView
from .degrade import noise

CLEAN, NOISY = Analysis(detail=90.0), Analysis(noise=0.6, detail=90.0)


def test_a_clean_face_is_left_alone() -> None:
    chosen = choose_treatment(CLEAN, 200)
    assert chosen == Treatment(False, 0.0, None, ("clean",))
    assert chosen.amount == 0


def test_a_bad_face_is_treated_and_says_why() -> None:
    chosen = choose_treatment(Analysis(noise=0.6, low_resolution=0.3, compression=0.05), 200)
    assert chosen.on
    assert chosen.strength == 1
    assert chosen.reasons == ("noise 0.60", "low resolution 0.30")


def test_the_decision_has_hysteresis() -> None:
    between = Analysis(compression=0.13)
    assert not choose_treatment(between, 200).on
    assert choose_treatment(between, 200, on=True).on
    assert not choose_treatment(Analysis(compression=0.1), 200, on=True).on


def test_small_faults_add_up() -> None:
    assert not choose_treatment(Analysis(low_resolution=0.12), 200).on
    chosen = choose_treatment(Analysis(low_resolution=0.1, compression=0.05, noise=0.04), 200)
    assert chosen.on
    assert 0.8 < chosen.strength < 1


def test_exposure_counts_only_where_something_can_be_done_about_it() -> None:
    dark = Analysis(under_exposure=0.9)
    assert not choose_treatment(dark, 200).on
    assert choose_treatment(dark, 200, exposure=True).reasons == ("under-exposed 0.90",)


def test_a_speck_is_left_alone() -> None:
    chosen = choose_treatment(NOISY, 20)
    assert not chosen.on
    assert chosen.reasons == ("too small (20 px)",)


class _Script:
    """Stands for the measurement: gives what the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = CLEAN
        self.calls = 0
        monkeypatch.setattr(analyze, "analyze_crop", self)

    def __call__(self, *_: Any) -> Analysis:
        self.calls += 1
        return self.now


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> _Script:
    return _Script(monkeypatch)


CROP = np.zeros((3, 64, 64), np.float32)


def _feed(analyzer: Analyzer, face: Face, frames: int, start: int = 0) -> list[float]:
    return [analyzer.update(CROP, face, (start + i) / 25) for i in range(frames)]


def test_the_first_picture_decides_at_once(script: _Script, face: Face) -> None:
    script.now = NOISY
    assert _feed(Analyzer(), face, 3) == [1, 1, 1]
    script.now = CLEAN
    assert _feed(Analyzer(), face, 3) == [0, 0, 0]


def test_a_change_never_pops(script: _Script, face: Face) -> None:
    analyzer = Analyzer(every=5, ramp_s=0.5)
    before = _feed(analyzer, face, 50)
    script.now = NOISY
    rise = _feed(analyzer, face, 100, 50)
    script.now = CLEAN
    fall = _feed(analyzer, face, 100, 150)
    amounts = before + rise + fall
    assert amounts[0] == 0
    assert max(rise) == 1
    assert amounts[-1] == 0
    assert max(abs(b - a) for a, b in pairwise(amounts)) <= 0.04 / 0.5 + 1e-9


def test_one_bad_picture_changes_nothing(script: _Script, face: Face) -> None:
    analyzer = Analyzer(every=1)
    _feed(analyzer, face, 20)
    script.now = NOISY
    _feed(analyzer, face, 2, 20)
    script.now = CLEAN
    assert max(_feed(analyzer, face, 20, 22)) == 0


def test_a_score_at_the_threshold_does_not_flicker(script: _Script, face: Face) -> None:
    analyzer = Analyzer(every=1)
    rng = np.random.default_rng(4)
    states: list[bool] = []
    for i in range(200):
        script.now = Analysis(compression=float(0.28 + rng.normal(0, 0.03)))
        analyzer.update(CROP, face, i / 25)
        states.append(analyzer.treatment.on)
    assert sum(a != b for a, b in pairwise(states)) <= 1


def test_not_every_picture_is_measured(script: _Script, face: Face) -> None:
    analyzer = Analyzer(every=10)
    _feed(analyzer, face, 101)
    assert script.calls == 3 + 10


def test_a_persons_decision_stands(script: _Script, face: Face) -> None:
    script.now = NOISY
    analyzer = Analyzer(forced=Treatment(False))
    assert _feed(analyzer, face, 30) == [0] * 30
    assert analyzer.analysis.noise == pytest.approx(0.6)
    script.now = CLEAN
    assert _feed(Analyzer(forced=Treatment(True, 0.3)), face, 5) == [0.3] * 5


def test_the_tracks_analysis_is_the_mean_and_the_angle_a_mean_axis(script: _Script, face: Face) -> None:
    analyzer = Analyzer(every=1)
    for i, angle in enumerate((175.0, 5.0, 175.0, 5.0)):
        script.now = Analysis(noise=0.1 * i, motion_blur=0.5, motion_angle=angle)
        analyzer.update(CROP, face, i / 25)
    assert analyzer.analysis.noise == pytest.approx(0.15)
    assert min(analyzer.analysis.motion_angle, 180 - analyzer.analysis.motion_angle) < 1e-6


def test_pictures_are_measured_through_the_view(portrait: Bytes, face: Face) -> None:
    analyzer = Analyzer()
    assert analyzer.update(None, face, 0.0, view=PictureView(portrait)) == 0
    analyzer = Analyzer()
    assert analyzer.update(None, face, 0.0, view=PictureView(noise(portrait, 16))) == 1
    assert analyzer.treatment.reasons[0].startswith("noise")


def test_a_treatment_file_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "treatment.json"
    tracks = {3: Treatment(True, 0.8, "rtface-m", ("noise 0.5",)), 1: Treatment(False, 0.0, None, ("clean",))}
    write_treatments(path, tracks, {3: {"analysis": NOISY.scores(), "mean_width_px": 120.5}})
    read = read_treatments(path)
    assert list(read) == [1, 3]
    assert (read[3].on, read[3].strength, read[3].engine) == (True, 0.8, "rtface-m")
    assert not read[1].on
    table = json.loads(path.read_text())
    assert table["version"] == 1
    # Who turns a clean track on wants to see something.
    assert table["tracks"]["1"]["strength"] == 1.0
    assert table["tracks"]["3"]["analysis"]["noise"] == 0.6


@pytest.mark.parametrize(("text", "message"), [
    ("{", "is not valid JSON"),
    ("[]", '"tracks" is missing'),
    ('{"version": 1}', '"tracks" is missing'),
    ('{"version": 7, "tracks": {}}', '"version" is 7, this rtface reads 1'),
    ('{"version": 1, "tracks": []}', '"tracks" must be a table'),
    ('{"version": 1, "tracks": {"one": {}}}', r"tracks\.one is not a track number"),
    ('{"version": 1, "tracks": {"0": {}}}', r"tracks\.0 is not a track number"),
    ('{"version": 1, "tracks": {"' + "9" * 5000 + '": {}}}', r"tracks\.9+ is not a track number"),
    ('{"version": 1, "tracks": {"1": {"strength": ' + "9" * 400 + "}}}", "must be a number from 0 to 1"),
    ("[" * 200_000, "nested too deeply"),
    ('{"version": 1, "tracks": {"1": 5}}', r"tracks\.1 must be a table"),
    ('{"version": 1, "tracks": {"1": {"on": 1}}}', r"tracks\.1\.on must be true or false, got 1"),
    ('{"version": 1, "tracks": {"1": {"strength": 2}}}', r"tracks\.1\.strength must be a number from 0 to 1, got 2"),
    ('{"version": 1, "tracks": {"1": {"strength": NaN}}}', r"tracks\.1\.strength must be a number from 0 to 1"),
    ('{"version": 1, "tracks": {"1": {"strength": true}}}', r"tracks\.1\.strength must be a number"),
    ('{"version": 1, "tracks": {"1": {"engine": ""}}}', r"tracks\.1\.engine must be an engine's name or null"),
    ('{"version": 1, "tracks": {"1": {"strenght": 0.5}}}', r"strenght is not a key \(did you mean strength\?\)"),
])
def test_a_wrong_treatment_file_is_named_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_treatments(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match="rtface analyze INPUT --json"):
        read_treatments(tmp_path / "none.json")
    with pytest.raises(UsageError, match="cannot be read"):
        read_treatments(tmp_path)
    with pytest.raises(OutputError, match="cannot be written"):
        write_treatments(tmp_path / "no" / "t.json", {})


def test_the_table_is_the_file(tmp_path: Path) -> None:
    tracks = {2: Treatment(True)}
    write_treatments(tmp_path / "t.json", tracks)
    assert json.loads((tmp_path / "t.json").read_text()) == treatments_table(tracks)
