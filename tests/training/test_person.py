"""Protocol *person*: what is learnt and tested of a clip, and the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtface.errors import EngineError, InputError, OutputError
from training.evaluation import person
from training.evaluation.clip_protocols import Clip


@pytest.mark.parametrize(("frames", "fps"), [(300, 30.0), (183, 25.0), (259, 29.97), (165, 25.0)])
def test_what_is_learnt_lies_apart_from_what_is_tested(frames: int, fps: float) -> None:
    count, first = person.parts(frames, fps)
    assert (first - count) / fps >= person.GAP_S
    assert count / fps >= person.LEARN_S - 1 / fps
    assert frames - first >= round(person.MIN_TEST_S * fps)


def test_a_clip_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match=r"3\.1 s, but 6\.6 s are needed"):
        person.parts(78, 25.0)


def subject(name: str) -> person.Subject:
    return person.Subject(name, Path(), Clip(name, "", [], []))


def test_only_what_is_refused_of_the_pictures_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path))
    raised: list[Exception] = [EngineError("cut off"), OutputError("full"), InputError("too dark")]

    def learn(*given: object, **more: object) -> None:
        raise raised.pop(0)

    monkeypatch.setattr("rtface_learn.learn.learn", learn)
    anna = subject("anna")
    for error in tuple(raised[:2]):
        with pytest.raises(type(error)):
            person.learn_subject(anna, Path("python"), 1.0)
    for _ in range(2):
        person.learn_subject(anna, Path("python"), 1.0)
        assert anna.refused == "too dark"


def test_refused_people_count_as_no_gain(tmp_path: Path) -> None:
    row = {"clip": "a", "protocol": "real/call", "refused": "", "shipped": 0.5, "own": 0.4, "flicker": 0.9}
    nothing = person.measure_subject(
        person.Subject("b", Path(), Clip("b", "", [], []), "dark"), "real/call", {}, tmp_path
    )
    line = person.table([row, nothing]).splitlines()[-1]
    assert line == "| real/call | 2 (1) | +0.50 | +0.20, +0.20, +0.00 | ×0.95, ×1.00 |"
