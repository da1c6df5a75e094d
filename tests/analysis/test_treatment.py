from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from rtface.analysis.analyzer import (
    Analysis,
    Analyzer,
    Treatment,
    choose_treatment,
    read_treatments,
    treatments_table,
)
from rtface.analysis.look_ahead import look_ahead
from rtface.analysis.treatment import made_for_another
from rtface.enhance.track_measurement import as_input, crop_of, detail_gain_of
from rtface.errors import InputMissing, UsageError
from rtface.frame import Bytes, Face, Frame
from tests.analysis.conftest import BOX, POINTS, PictureView

CLEAN, NOISY = Analysis(detail=90.0), Analysis(noise=0.6, detail=90.0)


@pytest.mark.parametrize(("found", "more", "on", "reasons"), [
    (CLEAN, {}, False, ("clean",)),
    (Analysis(noise=0.6, low_resolution=0.3, compression=0.05), {}, True, ("noise 0.60", "low resolution 0.30")),
    (NOISY, {"width": 19}, False, ("too small (19 px)",)),
    (NOISY, {"width": 24}, True, None),
    # Hysteresis.
    (Analysis(compression=0.12), {}, False, None),
    (Analysis(compression=0.12), {"on": True}, True, None),
    (Analysis(compression=0.07), {"on": True}, False, None),
    # Small faults add up.
    (Analysis(low_resolution=0.12), {}, False, None),
    (Analysis(low_resolution=0.1, compression=0.05, noise=0.04), {}, True, None),
    # Exposure counts only where it can be corrected.
    (Analysis(under_exposure=0.9), {}, False, None),
    (Analysis(under_exposure=0.9), {"exposure": True}, True, ("under-exposed 0.90",)),
    (Analysis(fading=0.2), {"exposure": True, "gain": 1.0}, True, ("faded 0.20",)),
    (Analysis(fading=0.9), {"gain": 1.0}, False, ("clean",)),
    # A face as sharp as the engine's answer is left alone.
    (Analysis(noise=0.2), {"gain": 1.0}, False, ("as sharp as the engine's answer",)),
    (Analysis(noise=0.2), {"gain": 1.03}, True, None),
    (Analysis(noise=0.2), {}, True, None),
    # A face that the engine makes sharper is treated; not a clean face with an engine that invents, but blocks, which
    # are detail to a measure.
    (Analysis(low_resolution=0.09), {}, False, None),
    (Analysis(low_resolution=0.09), {"gain": 1.1}, True, ("the engine's answer is sharper",)),
    (Analysis(), {"gain": 1.5}, False, None),
    (Analysis(compression=0.6), {"gain": 0.9}, True, None),
    # A treated face stays so while the engine adds something.
    (Analysis(compression=0.02), {"on": True, "gain": 1.01}, True, None),
    (Analysis(compression=0.02), {"on": True, "gain": 1.0}, False, None),
    (Analysis(compression=0.3), {"on": True, "gain": 0.98}, True, None)])
def test_what_is_decided_and_why(found: Analysis, more: dict[str, Any], on: bool,
                                 reasons: tuple[str, ...] | None) -> None:
    chosen = choose_treatment(found, more.pop("width", 200), **more)
    assert chosen.on == on and chosen.reasons == (reasons or chosen.reasons)


def test_the_strength_follows_the_faults() -> None:
    assert choose_treatment(NOISY, 200).strength == 1
    assert 0.8 < choose_treatment(Analysis(low_resolution=0.1, compression=0.05, noise=0.04), 200).strength < 1
    assert choose_treatment(CLEAN, 200) == Treatment(False, 0.0, None, ("clean",))
    assert choose_treatment(CLEAN, 200).applied_strength == 0


def _feed(analyzer: Analyzer, found: Analysis, seconds: float, start: float = 0.0, *, fps: float = 25,
          gain: float | None = None) -> list[float]:
    """The strengths of so many seconds on which the face looks the same."""
    strengths: list[float] = []
    for k in range(round(seconds * fps)):
        time = start + k / fps
        if analyzer.due(time):
            analyzer.learn(found, 200, time, gain if analyzer.asks(found, 200, time) else None)
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


def test_a_change_never_pops() -> None:
    analyzer = Analyzer()
    strengths = _feed(analyzer, CLEAN, 8) + _feed(analyzer, NOISY, 20, 8) + _feed(analyzer, CLEAN, 20, 28)
    assert strengths[0] == 0 and max(strengths) == 1 and strengths[-1] == 0
    assert max(abs(b - a) for a, b in pairwise(strengths)) <= 0.04 / 0.5 + 1e-9


def test_two_bad_seconds_change_nothing() -> None:
    analyzer = Analyzer()
    assert max(_feed(analyzer, CLEAN, 10) + _feed(analyzer, NOISY, 2, 10) + _feed(analyzer, CLEAN, 10, 12)) == 0


def test_a_track_changes_its_mind_at_most_once_in_ten_seconds() -> None:
    analyzer, states = Analyzer(), list[bool]()
    for k in range(40):  # three seconds bad, three seconds good
        _feed(analyzer, CLEAN if k % 2 else NOISY, 3, 3.0 * k)
        states.append(analyzer.treatment.on)
    turns = [3.0 * k for k, (a, b) in enumerate(pairwise(states)) if a != b]
    assert all(b - a >= 9.0 for a, b in pairwise(turns))


def test_a_score_at_the_threshold_does_not_flicker() -> None:
    analyzer, rng, states = Analyzer(), np.random.default_rng(4), list[bool]()
    for k in range(200):
        analyzer.learn(Analysis(compression=float(0.16 + rng.normal(0, 0.03))), 200, 0.4 * k)
        states.append(analyzer.treatment.on)
    assert sum(a != b for a, b in pairwise(states[1:])) <= 1


def test_not_every_picture_is_measured() -> None:
    analyzer = Analyzer()
    due = 0
    for k in range(100):
        if analyzer.due(k / 25):
            due += 1
            analyzer.learn(CLEAN, 200, k / 25)
    assert due == 7 + 6  # a fifth of a second apart until 1.2 s, then 0.4 s


@pytest.mark.parametrize("begins", [0.0, 0.28, 1.72])
def test_measured_frames_do_not_depend_on_the_first(begins: float) -> None:
    analyzer, measured = Analyzer(), list[float]()
    for k in range(round(25 * begins), 175):
        if analyzer.due(k / 25):
            measured.append(k / 25)
            analyzer.learn(CLEAN, 200, k / 25)
    assert [time for time in measured if time > 3.5] == pytest.approx([3.6, 4.0, 4.4, 4.8, 5.2, 5.6, 6.0, 6.4, 6.8])


def test_the_gain_counts_over_time() -> None:
    assert set(_feed(Analyzer(), Analysis(noise=0.2), 10, gain=1.0)) == {0}


def test_an_engine_is_asked_only_where_the_scores_do_not_decide() -> None:
    analyzer = Analyzer()
    assert analyzer.asks(CLEAN, 200, 0.0) and not analyzer.asks(NOISY, 200, 0.0)
    assert not analyzer.asks(CLEAN, 20, 0.0)
    assert not Analyzer(forced=Treatment(True)).asks(CLEAN, 200, 0.0)
    _feed(analyzer, Analysis(noise=0.2), 4, gain=1.1)
    assert analyzer.treatment.on and not analyzer.asks(CLEAN, 200, 9.0, only_off=True)
    asked = sum(analyzer.due(4 + k / 25) and analyzer.asks(CLEAN, 200, 4 + k / 25) and
                not analyzer.learn(CLEAN, 200, 4 + k / 25, 1.1) for k in range(150))
    assert asked == 3  # once in two seconds


def test_a_persons_decision_stands() -> None:
    analyzer = Analyzer(forced=Treatment(False))
    assert set(_feed(analyzer, NOISY, 2)) == {0}
    assert analyzer.analysis.noise == pytest.approx(0.6)
    assert set(_feed(Analyzer(forced=Treatment(True, 0.3)), CLEAN, 1)) == {0.3}


def test_the_analysis_of_a_track_is_a_mean_its_angle_an_axis() -> None:
    analyzer = Analyzer()
    for i, angle in enumerate((175.0, 5.0, 175.0, 5.0)):
        analyzer.learn(Analysis(noise=0.1 * i, motion_blur=0.5, motion_angle=angle), 200, i / 25)
    assert analyzer.analysis.noise == pytest.approx(0.15)
    assert min(analyzer.analysis.motion_angle, 180 - analyzer.analysis.motion_angle) < 1e-6


def test_the_gain_tells_softer_from_sharper(portrait: Bytes, face: Face) -> None:
    crop = crop_of(PictureView(portrait), face, 256)
    soft = cv2.GaussianBlur(crop, (0, 0), 1.5)
    same = as_input(crop)[0]
    assert detail_gain_of(crop, same, face.width) == pytest.approx(1.0, abs=0.01)
    softer, sharper = detail_gain_of(crop, as_input(soft)[0], face.width), detail_gain_of(soft, same, face.width)
    assert softer is not None and sharper is not None and softer < 0.9 < 1.1 < sharper
    assert detail_gain_of(crop, np.full((3, 256, 256), np.nan, np.float32), face.width) is None
    assert detail_gain_of(crop, same, 20) is None


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


def test_memory_bounds_the_look_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtface.analysis.look_ahead.BYTES", 4 * 32 * 48)
    examine = _Examiner()
    first = next(look_ahead(_shot(60), examine))
    assert first.pts == 0 and examine.seen == 5  # type: ignore[union-attr]


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
    tracks = {3: Treatment(True, 0.8, "rtface-m", ("noise 0.5",)), 1: Treatment(False, 0.0, None, ("clean",))}
    notes = {3: {"analysis": NOISY.scores(), "mean_width_px": 120.5}}
    path.write_text(json.dumps(treatments_table(tracks, notes)))
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
    ('{"version": 1, "tracks": {"1": {"region": "hair"}}}', r"tracks\.1\.region must be face or head, or null, got "),
    ('{"version": 1, "tracks": {"1": {"colour": true}}}', r"tracks\.1\.colour must be lock or restore, or null"),
    ('{"version": 1, "tracks": {"1": {"strenght": 0.5}}}', r"strenght is not a key: the nearest is strength"),
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


def test_a_file_made_for_another_input_is_known(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text('{"version": 1, "tracks": {}, "input": "films/one.mp4"}')
    assert made_for_another(path, Path("elsewhere") / "one.mp4") is None
    assert made_for_another(path, Path("two.mp4")) == "films/one.mp4"
    path.write_text('{"version": 1, "tracks": {}}')
    assert made_for_another(path, Path("two.mp4")) is None
