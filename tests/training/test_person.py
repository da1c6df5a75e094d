"""Protocol *person*: what is learnt and tested of a clip, another person's weights, and the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtface.engine import learned
from rtface.errors import EngineError, InputError, OutputError
from tests.persons.made import ANNA, BEN, learnt
from training.evaluation import person
from training.evaluation.clip_protocols import Clip


@pytest.mark.parametrize(("frames", "fps"), [(300, 30.0), (183, 25.0), (259, 29.97), (165, 25.0)])
def test_what_is_learnt_lies_apart_from_what_is_tested(frames: int, fps: float) -> None:
    count, first = person.parts(frames, fps)
    assert (first - count) / fps >= person.GAP_S
    assert count / fps >= person.LEARN_S - 1 / fps
    assert frames - first >= round(person.LEAST_TEST_S * fps)


def test_a_clip_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match=r"3\.1 s, and 6\.6 are needed"):
        person.parts(78, 25.0)


def subject(name: str) -> person.Subject:
    return person.Subject(name, Path(), Clip(name, "", [], []))


def test_other_weights_pass_for_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path))
    learnt(learned.path_of("anna"), ANNA)
    learnt(learned.path_of("ben"), BEN)
    made = learned.read(learned.path_of(person.disguised(subject("ben"), subject("anna"))))
    anna, ben = (learned.read(learned.path_of(name)) for name in ("anna", "ben"))
    assert np.array_equal(made.embeddings, anna.embeddings) and np.array_equal(made.delta, ben.delta)


def test_only_what_is_refused_of_the_pictures_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path))
    raised: list[Exception] = [EngineError("cut off"), OutputError("full"), InputError("too dark")]

    def learn(*given: object, **more: object) -> None:
        raise raised.pop(0)

    monkeypatch.setattr("rtface_learn.learn.learn", learn)
    anna = subject("anna")
    for error in tuple(raised[:2]):
        with pytest.raises(type(error)):
            person.learnt(anna, Path("python"), 1.0)
    for _ in range(2):
        person.learnt(anna, Path("python"), 1.0)
        assert anna.refused == "too dark"


def test_refused_people_count_as_no_gain() -> None:
    row = {"protocol": "call", "refused": "", "shipped": 0.5, "own": 0.4, "other": -0.1, "own_flicker": 0.9,
           "other_flicker": 1.0}  # fmt: skip
    nothing = row | {"refused": "no gain", "shipped": float("nan"), "own": 0.0, "other": 0.0, "own_flicker": 1.0}
    line = person.table([row, nothing]).splitlines()[-1]
    assert line == "| call | 2 (1) | +0.50 | +0.20, +0.20, +0.00 | ×0.95, ×1.00 | -0.10, -0.10 | ×1.00 |"


def test_a_row_is_measured_once_for_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path))
    given = list[float]()

    def measured(*_: object) -> dict[str, float]:
        given.append(1.0 + len(given))
        return {"own": given[-1]}

    monkeypatch.setattr(person, "measured", measured)
    learnt(learned.path_of("anna"), ANNA)
    rows = [person.kept_row(subject("anna"), "call", None, {}, tmp_path) for _ in range(2)]
    learnt(learned.path_of("anna"), BEN)
    rows.append(person.kept_row(subject("anna"), "call", None, {}, tmp_path))
    assert [row["own"] for row in rows] == [1.0, 1.0, 2.0]
