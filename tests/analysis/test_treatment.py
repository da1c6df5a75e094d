from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from rtface.analysis.analyzer import Analyzer
from rtface.analysis.look_ahead import look_ahead
from rtface.analysis.measure import Analysis
from rtface.analysis.treatment import (
    FORCED,
    INSIDE,
    MAX_STRENGTH,
    Treatment,
    choose_treatment,
    first_strengths,
    gain_of,
    of_colours,
    predicted,
)
from rtface.analysis.treatment_file import read_treatments, treatments_table
from rtface.errors import InputMissing, UsageError
from rtface.frame import Face, Frame
from tests.analysis.conftest import BOX, POINTS

PREDICTED = predicted
CLEAN, NOISY = Analysis(detail=90.0), Analysis(noise=0.6, detail=90.0, error=40.0, remaining=20.0)
"""Of the first no error was measured: nothing is expected to be gained."""


@pytest.fixture(autouse=True)
def _whatever_the_coefficients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's strength is 1 and its gain 0, wherever an error was measured."""
    monkeypatch.setattr(
        "rtface.analysis.treatment.predicted",
        lambda found, width: (float(found.error > 0), gain_of(found.error, found.remaining)),
    )


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The expected gain in dB is what the analysis has as its error, whatever the coefficients of a prediction."""
    monkeypatch.setattr("rtface.analysis.treatment.predicted", lambda found, width: (1.0, found.error))


def _gain(gain: float, **scores: float) -> Analysis:
    """An analysis with a gain of so many dB, where `told` holds."""
    return Analysis(error=gain, remaining=gain, **scores)


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(
    ("found", "more", "on", "reasons"),
    [
        (_gain(0.0), {}, False, ("nothing to gain",)),
        (
            _gain(0.4, noise=0.6, low_resolution=0.3, compression=0.05),
            {},
            True,
            ("noise 0.60", "low resolution 0.30"),
        ),
        (_gain(3.0), {}, True, ()),
        (_gain(3.0), {"width": 19}, False, ("too small (19 px)",)),
        (_gain(3.0), {"width": 24}, True, None),
        # However bad it looks: what cannot be gained is not tried.
        (_gain(-0.2, noise=0.9, compression=0.9), {}, False, ("nothing to gain",)),
        # Hysteresis.
        (_gain(0.059), {}, False, None),
        (_gain(0.06), {}, True, None),
        (_gain(0.03), {"on": True}, True, None),
        (_gain(0.029), {"on": True}, False, ("nothing to gain",)),
        # Exposure and contrast are no reason: no correction changes them.
        (_gain(0.0, under_exposure=0.9), {}, False, ("nothing to gain",)),
        (_gain(0.5, under_exposure=0.9), {}, True, ()),
        (_gain(0.0, low_contrast=0.9), {}, False, ("nothing to gain",)),
    ],
)
def test_what_is_decided_and_why(
    found: Analysis, more: dict[str, Any], on: bool, reasons: tuple[str, ...] | None
) -> None:
    chosen = choose_treatment(found, more.pop("width", 200), **more)
    assert chosen.on == on and chosen.reasons == (reasons or chosen.reasons)
    assert chosen.gain in (None, round(found.error, 2))


def test_a_face_whose_error_was_not_measured_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtface.analysis.treatment.predicted", PREDICTED)
    left = choose_treatment(Analysis(noise=0.9, compression=0.9), 200)
    assert left == Treatment(False, 0.0, ("nothing to gain",), gain=0.0) and left.applied == (0, 0, 0)


@pytest.mark.parametrize("width", [20.0, 90.0, 400.0, 3000.0])
@pytest.mark.parametrize("step", [0.0, 1.0, 20.0, 400.0])
@pytest.mark.parametrize(("error", "remaining"), [(1e-4, 1e-4), (3.0, 3.5), (40.0, 20.0), (60000.0, 1e-3)])
def test_predictions_are_within_their_range(error: float, remaining: float, step: float, width: float) -> None:
    for more in ({}, {"noise": 1.0, "compression": 1.0, "motion_blur": 1.0, "low_resolution": 1.0, "detail": 2.0}):
        strength, gain = PREDICTED(Analysis(error=error, remaining=remaining, step=step, **more), width)
        assert 0 <= strength <= MAX_STRENGTH and math.isfinite(gain)
        assert gain >= 0.0, "what is expected to harm is not asked"


@pytest.mark.parametrize("step", [0.0, 1.0, 20.0])
@pytest.mark.parametrize(("error", "remaining"), [(3.0, 3.0), (40.0, 20.0), (900.0, 500.0)])
def test_a_face_made_larger_gets_no_less(error: float, remaining: float, step: float) -> None:
    """A small one lacks detail that an engine has, however well it was coded; of a large one nothing is lacking."""
    for width, more in ((40.0, 1), (90.0, 1), (200.0, 0)):
        for low_resolution in (0.0, 0.3, 0.8):
            found = Analysis(error=error, remaining=remaining, step=step, detail=width, low_resolution=low_resolution)
            as_read, larger = PREDICTED(found, width), PREDICTED(replace(found, shown=2.0), width)
            assert all(a >= b for a, b in zip(larger, as_read, strict=True))
            assert larger == as_read or more
        clean = replace(found, low_resolution=0.0, shown=2.0)
        strength, gain = PREDICTED(clean, 40.0)
        assert strength >= 1.0 and gain > 0.1
        assert first_strengths(clean, width) == first_strengths(replace(clean, shown=1.0), width)


def test_what_a_codec_does_not_reach_is_not_promised() -> None:
    found = Analysis(detail=90.0, error=40.0, remaining=20.0, step=20.0)
    strength, gain = PREDICTED(found, 120.0)
    assert PREDICTED(replace(found, unreached=0.6), 120.0) == (strength, pytest.approx(0.4 * gain))


def test_of_a_very_noisy_face_little_is_promised() -> None:
    """Its noise stays, as grain: of 0.6 dB that were promised at a score of 0.93, 0.02 dB were measured."""
    found = Analysis(detail=90.0, error=200.0, remaining=100.0, step=20.0, noise=0.55)
    promised, noisier = (PREDICTED(replace(found, noise=noise), 120.0)[1] for noise in (0.55, 0.93))
    assert 0.0 < noisier < 0.2 * promised


def test_the_first_stage_follows_what_it_gains_itself() -> None:
    def strengths(error: float, remaining: float, ring: float, ring_remaining: float) -> tuple[float, float]:
        chosen = choose_treatment(
            Analysis(error=error, remaining=remaining, ring_error=ring, ring_remaining=ring_remaining), 200
        )
        assert chosen.on and chosen.applied == (chosen.strength, chosen.first, chosen.ring)
        return chosen.first, chosen.ring

    assert strengths(80.0, 40.0, 80.0, 40.0) == (INSIDE, 1)
    assert strengths(80.0, 40.0, 80.0, 80.0) == (INSIDE, 0) and strengths(80.0, 40.0, 40.0, 80.0) == (INSIDE, 0)
    assert strengths(80.0, 40.0, 0.0, 0.0) == (INSIDE, 0)
    some = strengths(80.0, 40.0, 80.0, 78.2)[1], strengths(80.0, 40.0, 80.0, 77.8)[1]
    assert 0 < some[0] < some[1] < 1


def test_where_coding_is_fine_the_first_stage_corrects_colours() -> None:
    """A fine step leaves detail of the luma, which the network takes for an error."""
    found = Analysis(detail=90.0, error=40.0, remaining=20.0, ring_error=40.0, ring_remaining=20.0)
    strengths = {step: first_strengths(replace(found, step=step), 120.0)[1] for step in (9.0, 12.0, 20.0)}
    assert 0.3 < strengths[9.0] < strengths[12.0] < strengths[20.0] <= 1.0
    assert all(of_colours(s, 1.0) == 1.0 > s for s in (strengths[9.0], strengths[12.0]))


@pytest.mark.parametrize("strength", [0.0, 0.01, 0.2, 0.4, 0.9, 1.0])
@pytest.mark.parametrize("most", [INSIDE, 1.0])
def test_colours_are_never_corrected_less_than_the_luma(most: float, strength: float) -> None:
    colours = of_colours(strength, most)
    assert strength <= colours <= max(strength, most) and colours <= 2 * strength


def _feed(analyzer: Analyzer, found: Analysis, seconds: float, start: float = 0.0, *, fps: float = 25) -> list[float]:
    """The strengths of so many seconds on which the face looks the same."""
    strengths: list[float] = []
    for k in range(round(seconds * fps)):
        time = start + k / fps
        if analyzer.due(time):
            analyzer.learn(found, 200, time)
        strengths.append(analyzer.advance(time))
    return strengths


def test_the_first_picture_decides_where_frames_cannot_wait() -> None:
    assert set(_feed(Analyzer(), NOISY, 1)) == {1}
    assert set(_feed(Analyzer(), CLEAN, 1)) == {0}


def test_a_bad_first_picture_does_not_decide_the_shot() -> None:
    analyzer = Analyzer()
    analyzer.learn(NOISY, 200, 0.0)
    assert not analyzer.decided
    for k in range(1, 7):
        analyzer.learn(CLEAN, 200, 0.2 * k)
    assert analyzer.decided and not analyzer.treatment.on


def test_a_track_that_ends_early_is_decided_by_what_is_known() -> None:
    analyzer = Analyzer()
    analyzer.learn(NOISY, 200, 0.0)
    analyzer.settle()
    assert analyzer.decided and analyzer.advance(0.0) == 1
    unseen = Analyzer()
    unseen.settle()
    assert unseen.decided and not unseen.treatment.on


@pytest.mark.parametrize(("fps", "most"), [(50, 0.02), (25, 0.04), (15, 0.05), (5, 0.05)])
def test_a_change_never_pops(fps: int, most: float) -> None:
    """It takes a second, or 20 frames where these are few."""
    analyzer, parts = Analyzer(), ((CLEAN, 8, 0), (NOISY, 20, 8), (CLEAN, 20, 28))
    strengths = [strength for part in parts for strength in _feed(analyzer, *part, fps=fps)]
    assert strengths[0] == 0 and max(strengths) == 1 and strengths[-1] == 0
    assert max(abs(b - a) for a, b in pairwise(strengths)) == pytest.approx(most)


@pytest.mark.usefixtures("told")
def test_no_part_of_a_treatment_pops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where one treatment replaces another, nor where the engine's strength is above 1."""
    shown, analyzer = list[tuple[float, float, float]](), Analyzer()
    monkeypatch.setattr(
        "rtface.analysis.treatment.predicted", lambda found, width: (MAX_STRENGTH if found.error else 0.3, 1.0)
    )
    for begins, found in (
        (0, Analysis(ring_error=80.0, ring_remaining=20.0)),
        (8, Analysis(error=80.0, remaining=20.0)),
        (30, Analysis()),
    ):
        for k in range(25 * begins, 25 * (begins + 22)):
            if analyzer.due(k / 25):
                analyzer.learn(found, 200, k / 25)
            analyzer.advance(k / 25)
            shown.append(analyzer.applied)
    assert shown[0] == (0.3, 0, 1) and (MAX_STRENGTH, INSIDE, 0) in shown and shown[-1] == (0.3, 0, 0)
    assert max(abs(b - a) for one, two in pairwise(shown) for a, b in zip(one, two, strict=True)) <= 0.05


def test_a_track_changes_its_mind_at_most_once_in_ten_seconds() -> None:
    analyzer, states = Analyzer(), list[bool]()
    for k in range(40):  # three seconds bad, three seconds good
        _feed(analyzer, CLEAN if k % 2 else NOISY, 3, 3.0 * k)
        states.append(analyzer.treatment.on)
    turns = [3.0 * k for k, (a, b) in enumerate(pairwise(states)) if a != b]
    assert all(b - a >= 9.0 for a, b in pairwise(turns))


@pytest.mark.usefixtures("told")
def test_a_gain_at_the_threshold_does_not_flicker() -> None:
    analyzer, rng, states = Analyzer(), np.random.default_rng(4), list[bool]()
    for k in range(200):
        analyzer.learn(_gain(float(0.06 + rng.normal(0, 0.02))), 200, 0.4 * k)
        states.append(analyzer.treatment.on)
    assert sum(a != b for a, b in pairwise(states[1:])) <= 1


@pytest.mark.parametrize("begins", [0.0, 0.28, 1.72])
def test_measured_frames_do_not_depend_on_the_first(begins: float) -> None:
    analyzer, measured = Analyzer(), list[float]()
    for k in range(round(25 * begins), 175):
        if analyzer.due(k / 25):
            measured.append(k / 25)
            analyzer.learn(CLEAN, 200, k / 25)
    assert [time for time in measured if time > 3.5] == pytest.approx([3.6, 4.0, 4.4, 4.8, 5.2, 5.6, 6.0, 6.4, 6.8])


def test_a_change_under_way_goes_on_in_another_process() -> None:
    """Its lead-in shows frames again that the first one has shown."""
    here, there = Analyzer(), Analyzer()
    for analyzer in here, there:
        analyzer.treatment = Treatment(False)
        analyzer.advance(0.0)
    here.treatment = Treatment(True, 1.0)
    shown = [here.advance(k / 25) for k in range(1, 11)]
    there.take_over(json.loads(json.dumps(here.handed_over(0.0))))
    assert {there.advance(k / 25) for k in range(11)} == {shown[-1]}
    assert there.advance(11 / 25) == here.advance(11 / 25) == pytest.approx(0.44)


@pytest.mark.parametrize("seconds", [0.7, 2.0, 7.0, 12.5])
def test_another_process_continues_where_one_ended(seconds: float) -> None:
    here, there = Analyzer(), Analyzer()
    _feed(here, replace(NOISY, ring_error=40.0, ring_remaining=39.0), seconds)
    state = here.handed_over(seconds)
    assert set(state) == {"treatment", "decided", "applied", "time", "changed", "recent"}
    there.take_over(json.loads(json.dumps(state)))
    assert (there.treatment, there.decided, there.applied) == (here.treatment, here.decided, here.applied)
    assert 0 < there.treatment.ring < 1 and there.treatment.gain == here.treatment.gain
    later = round(25 * seconds) / 25
    assert _feed(there, CLEAN, 20, later) == _feed(here, CLEAN, 20, later)
    assert there.treatment == here.treatment and not here.treatment.on


def test_what_is_handed_over_leaves_out_what_comes_later() -> None:
    here, there = Analyzer(), Analyzer()
    _feed(here, NOISY, 3)
    there.take_over(here.handed_over(1.0))
    assert there.last_s < 1.0 < here.last_s


def test_a_decision_of_the_user_is_not_taken_over() -> None:
    here, there = Analyzer(), Analyzer(forced=FORCED["never"])
    _feed(here, NOISY, 3)
    there.take_over(here.handed_over(3.0))
    assert there.treatment == FORCED["never"]


def test_the_analysis_of_a_track_is_a_mean_its_angle_an_axis() -> None:
    analyzer = Analyzer()
    for i, angle in enumerate((175.0, 5.0, 175.0, 5.0)):
        analyzer.learn(Analysis(noise=0.1 * i, motion_blur=0.5, motion_angle=angle), 200, i / 25)
    assert analyzer.analysis.noise == pytest.approx(0.15)
    assert min(analyzer.analysis.motion_angle, 180 - analyzer.analysis.motion_angle) < 1e-6


def _shot(frames: int, ids: tuple[int, ...] = (1,), start: int = 0, *, cut: bool = False) -> list[Frame]:
    image = av.VideoFrame(32, 32, "yuv420p")
    faces = tuple(Face(i, BOX, POINTS) for i in ids)
    return [Frame(image, start + k, Fraction(1, 25), 1, faces=faces, cut=cut and not k) for k in range(frames)]


class _Examiner:
    """Measures what the test says; counts how far ahead of what was given out it has looked."""

    def __init__(self, found: Analysis = CLEAN) -> None:
        self.found, self.all, self.seen = found, dict[int, Analyzer](), 0

    def __call__(self, frame: Frame) -> list[Analyzer]:
        self.seen += 1
        for face in frame.faces:
            analyzer = self.all.setdefault(face.track_id, Analyzer())
            if analyzer.due(frame.time):
                analyzer.learn(self.found, 200, frame.time)
        return [self.all[face.track_id] for face in frame.faces]


def test_a_film_waits_for_a_new_track_and_then_goes_through() -> None:
    examine, ahead = _Examiner(), list[int]()
    for frame in look_ahead(_shot(60), examine):
        assert examine.all[1].decided
        ahead.append(examine.seen - frame.pts)
    assert len(ahead) == 60 and ahead[0] == 31 and ahead[40:] == [1] * 20


def test_a_cut_and_a_lost_track_decide_what_is_open() -> None:
    items = [*_shot(5), *_shot(5, (2,), 5, cut=True), *_shot(20, (), 10)]
    examine = _Examiner(NOISY)
    out = [(frame.pts, examine.seen) for frame in look_ahead(items, examine)]
    assert [pts for pts, _ in out] == list(range(30))
    assert out[4][1] <= 6, "a scene change"
    assert out[5][1] < 25, "half a second without the track"
    assert all(analyzer.treatment.on for analyzer in examine.all.values())


def test_what_came_before_an_error_is_given_out_first() -> None:
    def broken() -> Iterator[Frame]:
        yield from _shot(10)
        raise OSError("the film ends here")

    ahead = look_ahead(broken(), _Examiner())
    assert [next(ahead).pts for _ in range(10)] == list(range(10))
    with pytest.raises(OSError, match="ends here"):
        next(ahead)


def test_a_fault_while_looking_ahead_holds_nothing_back() -> None:
    def fail(_: Frame) -> list[Analyzer]:
        raise ValueError("a broken picture")

    assert len(list(look_ahead(_shot(10), fail))) == 10


def test_a_treatment_file_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "treatment.json"
    tracks = {3: Treatment(True, 0.8, ("noise 0.5",)), 1: Treatment(False, 0.0, ("nothing to gain",))}
    notes = {3: {"analysis": NOISY.scores(), "mean_width_px": 120.5}}
    path.write_text(json.dumps(treatments_table(tracks, notes)))
    read = read_treatments(path).by_track
    assert list(read) == [1, 3]
    assert (read[3].on, read[3].strength) == (True, 0.8)
    assert not read[1].on
    table = json.loads(path.read_text())
    assert table["version"] == 1
    # Who turns such a track on wants to see something.
    assert table["tracks"]["1"]["strength"] == 1.0
    assert table["tracks"]["3"]["analysis"]["noise"] == 0.6
    # What was predicted may be more than 1, and is done by a run with the file, too.
    strong = Treatment(True, MAX_STRENGTH, first=0.4, ring=0.2)
    path.write_text(json.dumps(treatments_table({2: strong})))
    assert read_treatments(path).by_track[2].applied == strong.applied == (MAX_STRENGTH, 0.4, 0.2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "expected `object`, got `array`"),
        ('{"version": 7, "tracks": {}}', "invalid enum value 7 - at `version`"),
        ('{"version": 1, "tracks": []}', "expected `object`, got `array` - at `tracks`"),
        ('{"version": 1, "tracks": {"one": {}}}', r"tracks\.one must be the number of a track"),
        ('{"version": 1, "tracks": {"' + "9" * 5000 + '": {}}}', r"tracks\.9+ must be the number of a track"),
        ('{"version": 1, "tracks": {"1": {"strength": ' + "9" * 400 + "}}}", "must be a number between 0 and 1"),
        ('{"version": 1, "tracks": {"1": 5}}', r"tracks\.1 must be .* with a table"),
        ('{"version": 1, "tracks": {"1": {"on": 7}}}', r"tracks\.1\.on must be true or false, not 7"),
        (
            '{"version": 1, "tracks": {"1": {"strength": 2}}}',
            r"tracks\.1\.strength must be a number between 0 and 1.5, not 2",
        ),
        ('{"version": 1, "tracks": {"1": {"ring": null}}}', r"tracks\.1\.ring must be a number between 0 and 1"),
        ('{"version": 1, "tracks": {"1": {"strenght": 0.5}}}', r"strenght is not a key: the nearest is strength"),
    ],
)
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


def test_a_file_made_for_another_input_is_known(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text('{"version": 1, "tracks": {}, "input": "films/one.mp4"}')
    assert read_treatments(path).other_than(Path("elsewhere") / "one.mp4") is None
    assert read_treatments(path).other_than(Path("two.mp4")) == "films/one.mp4"
    path.write_text('{"version": 1, "tracks": {}}')
    assert read_treatments(path).other_than(Path("two.mp4")) is None
