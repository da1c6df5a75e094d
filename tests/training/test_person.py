"""Protocol *person*: what is learnt and tested of a clip, another person's weights, and the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtface.engine import learned
from rtface.errors import EngineError, InputError, OutputError
from rtface_learn import takes
from tests.persons.made import ANNA, BEN, learnt
from tests.pipeline.run_media import write_film
from training.evaluation import person
from training.evaluation.clip_protocols import Clip
from training.evaluation.looks import LOOKS


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
    row |= {f"{kind}_{d}": n / 4 for n, kind in enumerate(("input", "shipped", "own")) for d in person.DETAIL}
    line = person.table([row, nothing]).splitlines()[-1]
    assert line.startswith("| call | 2 (1) | +0.50 | +0.20, +0.20, +0.00 | ×0.95, ×1.00 | -0.10, -0.10 | ×1.00 |")
    assert line.endswith("| 0.00, 0.25, 0.50 | 0.00, 0.25, 0.50 |")


def test_a_row_is_measured_once_for_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path))
    given = list[float]()

    def measured(*_: object) -> dict[str, float]:
        given.append(1.0 + len(given))
        return {"own": given[-1]}

    monkeypatch.setattr(person, "measured", measured)
    learnt(learned.path_of("anna"), ANNA)
    rows = [person.kept_row(subject("anna"), "call", None, {}, tmp_path, {}) for _ in range(2)]
    learnt(learned.path_of("anna"), BEN)
    rows.append(person.kept_row(subject("anna"), "call", None, {}, tmp_path, {}))
    assert [row["own"] for row in rows] == [1.0, 1.0, 2.0]


def test_what_is_learnt_may_be_a_run_over_a_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [np.full((64, 64, 3), n, np.uint8) for n in range(183)]
    clip = Clip("one", "", frames, [np.eye(2, 3)] * len(frames))
    seen = list[int]()

    def film_of(clip: Clip, protocol: str, work: Path) -> tuple[None, Path]:
        seen.append(len(clip.clean))
        return None, work / protocol

    def watch(path: Path, frames: int, cache: Path) -> Clip:
        return clip

    def enhanced(*given: object) -> tuple[list[np.ndarray], float]:
        return frames[: seen[-1]], 0.0

    monkeypatch.setattr(person, "watch", watch)
    monkeypatch.setattr(person, "film_of", film_of)
    monkeypatch.setattr(person, "enhanced", enhanced)
    path = write_film(tmp_path / "one.mkv", frames[:4], rate=25)
    made = person.subject_of(path, tmp_path, 0, "call", None)
    assert made.film.name == "pone-call.mkv" and made.film.is_file() and seen == [person.parts(183, 25.0)[0]]


def test_a_clip_is_relit_alike_on_all_its_frames() -> None:
    frames = [np.full((48, 64, 3), value, np.uint8) for value in (90, 140, 90)]
    clip = Clip("one", "digest", frames, [np.eye(2, 3) / 16] * 3)
    first, second = (person.relit(clip, draw) for draw in (1, 2))
    assert np.array_equal(first.clean[0], first.clean[2]) and first.clean[1].mean() > first.clean[0].mean()
    assert first.clean[0].shape == frames[0].shape and (first.clean[0] != frames[0]).any()
    assert (first.clean[0] != second.clean[0]).any() and len({clip.digest, first.digest, second.digest}) == 3
    assert person.relit(clip, 0) is clip


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_moves_with_the_face(look: str) -> None:
    frames = [np.full((300, 320, 3), 150, np.uint8)] * 2
    clip = Clip("one", "digest", frames, [np.array([[0.5, 0, 20 + n], [0, 0.5, 10 + 2 * n]]) for n in range(2)])
    worn = person.wearing(clip, look)
    first, second = worn.clean
    assert np.array_equal(first[:-2, :-1], second[2:, 1:]) and worn.digest != clip.digest
    changed = (first != frames[0]).any(2)
    assert 0.005 < changed.mean() < 0.3 and not changed[250:].any() and not changed[:, :50].any()
    assert person.wearing(clip, "") is clip


def test_photos_are_frames_that_can_be_learnt_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_photo(path: Path, number: int, *_: object) -> None:
        if number % 2:
            raise InputError("poor", code="learn_poor")

    monkeypatch.setattr(takes, "of_photo", of_photo)
    frames = [np.full((8, 8, 3), n, np.uint8) for n in range(9)]
    person.photos_of(frames, 3, tmp_path / "photos")
    assert sorted(path.name for path in (tmp_path / "photos").iterdir()) == ["0000.png", "0004.png", "0008.png"]
    with pytest.raises(ValueError, match="5 frames can be photos, and 6"):
        person.photos_of(frames, 6, tmp_path / "others")
    assert not (tmp_path / "others").exists()  # what is there is learnt from
    person.photos_of(frames, 5, tmp_path / "others")


def test_another_day_is_learnt_by_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = Clip("one", "", [np.zeros((64, 64, 3), np.uint8)] * 183, [np.eye(2, 3)] * 183)

    def watch(path: Path, frames: int, cache: Path) -> Clip:
        return clip

    monkeypatch.setattr(person, "watch", watch)
    path = write_film(tmp_path / "one.mkv", clip.clean[:4], rate=25)
    days = tmp_path / "days"
    days.mkdir()
    for found in ("one", "one.mkv"):
        made = person.subject_of(path, tmp_path / "work", 0, "", days)
        assert made.film == days / found and len(made.clip.clean) < 183
        (days / "one.mkv").touch()
    assert not (tmp_path / "work").exists()
