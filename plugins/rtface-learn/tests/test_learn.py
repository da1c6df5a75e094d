"""Learning a person: what is taken of films and photos, what is refused, and weights that fit."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from rtface.engine import learned
from rtface.engine.engine_set import recipe_named
from rtface.errors import InputError
from rtface_learn import commands, learn, pairs, takes
from rtface_learn.takes import Take
from tests.persons.made import ANNA, BEN, CLEO, at, learnt
from tests.pipeline.fakes import portrait
from tests.pipeline.run_media import write_film


def saved(path: Path, *shifts: float) -> Path:
    """Photos of one face."""
    path.mkdir(parents=True)
    for n, shift in enumerate(shifts):
        cv2.imwrite(str(path / f"{n}.png"), portrait(480, 360, blur=0.4, shift=(shift, 0.0))[0][:, :, ::-1])
    return path


def collected(*sources: Path) -> tuple[list[Take], list[Any]]:
    return learn.collect(sources, lambda what, share: None)


def test_a_film_gives_takes_one_after_the_other(film: Path) -> None:
    found, embeddings = collected(film)
    assert len(found) == 9 and {len(take.pictures) for take in found} == {takes.FRAMES}
    assert np.diff([take.time for take in found]).min() >= takes.FRAMES / 25 and len(embeddings) >= 2 * len(found)
    crops = [takes.crop_of(take, k, 64).astype(float) for take in found for k in (0, 23)]
    # All crops show the face at the same place, wherever it was in the film.
    assert max(np.abs(crop - crops[0])[20:44, 20:44].mean() for crop in crops) < 12.0


def test_photos_give_takes_of_one_face(tmp_path: Path) -> None:
    found, _ = collected(saved(tmp_path / "photos", 0.0, 12.0, 30.0))
    assert [len(take.pictures) for take in found] == [takes.FRAMES] * 3


@pytest.mark.parametrize(
    ("shifts", "why"),
    [((0.0, 0.0, 0.0), "at least 3 different"), ((0.0, 9.0), "at least 3"), ((0.0, 9.0, 240.0), r"2\.png")],
    ids=["copies", "few", "cut off"],
)
def test_photos_that_show_too_little(tmp_path: Path, shifts: tuple[float, ...], why: str) -> None:
    with pytest.raises(InputError, match=why):
        collected(saved(tmp_path / "photos", *shifts))


def test_a_short_film_is_refused(tmp_path: Path) -> None:
    frames = (portrait(480, 360, blur=0.4, shift=(0.4 * t, 0.0))[0] for t in range(40))
    with pytest.raises(InputError, match="6 are needed"):
        collected(write_film(tmp_path / "short.mkv", frames, rate=25))


def take(person: Any, time: float) -> Take:
    return Take(time, 0, embeddings=[at(person, 0.05)])


def test_takes_of_the_person_who_is_shown_most() -> None:
    shown = [take(person, n) for n, person in enumerate([ANNA] * 7 + [BEN] * 2 + [CLEO])]
    assert [one.time for one in takes.of_person(shown)] == [0, 1, 2, 3, 4, 5, 6]
    assert [one.time for one in takes.of_person(shown, [at(BEN, 0.03)])] == [7, 8]
    with pytest.raises(InputError, match="add a photo"):
        takes.of_person(shown[3:])


def test_pairs_show_one_place_twice(film: Path) -> None:
    """What the engine sees lies over what is true: not shifted on average."""
    recipe = recipe_named(learned.BASE)
    made, kinds = pairs.of_takes(collected(film)[0][:2], recipe, lambda picture, steps: _nothing(picture), 1)
    *_, w, h = recipe.region
    assert made.shape[1:] == (2, h, w, 3) and set(kinds) == {"coded", "call"}
    window, shifts = cv2.createHanningWindow((w, h), cv2.CV_32F), list[tuple[float, float]]()
    for pair in made:
        truth, seen = (
            cv2.GaussianBlur(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), (0, 0), 4).astype(np.float32) for p in pair
        )
        shifts.append(cv2.phaseCorrelate(truth, seen, window)[0])
        assert 0 < np.abs(truth - seen).mean() < 20
    assert np.hypot(*np.mean(shifts, 0)) < 0.15


def _nothing(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    h, w = picture.shape[:2]
    return np.zeros((3, h, w), np.float32), np.ones((2, h // 8, w // 8), np.float32)


def python(folder: Path) -> Path:
    """A Python that says that it has everything."""
    path = folder / "python"
    path.write_text("#!/bin/sh\necho missing\n")
    path.chmod(0o755)
    return path


def run(*words: str) -> Any:
    app = typer.Typer()
    app.command("learn")(commands.learn)
    app.add_typer(commands.persons, name="persons")
    return CliRunner().invoke(app, list(words))


def test_persons_are_listed_shown_exported_and_removed(settings: Path, tmp_path: Path) -> None:
    path = learnt(learned.path_of("anna"), ANNA, figures={"call": 0.4, "coded": 0.1})
    assert "anna" in run("persons", "list").output and "+0.40 dB in calls" in run("persons", "list").output
    assert json.loads(run("persons", "show", "anna").output)["figures"]["coded"] == 0.1
    copy = tmp_path / "copy.person"
    assert run("persons", "export", "anna", str(copy)).exit_code == 0
    assert copy.read_bytes() == path.read_bytes() and stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert run("persons", "remove", "anna").exit_code == 0 and not path.exists()
    assert run("persons", "remove", "anna").exit_code == 2


def test_list_survives_files_that_cannot_be_used(settings: Path) -> None:
    learnt(learned.path_of("anna"), ANNA)
    learnt(learned.folder() / "odd.person", BEN, figures={"call": "much"})
    (learned.folder() / "bad.person").write_bytes(b"no zip")
    (learned.folder() / "gone.person").mkdir()
    found = run("persons", "list")
    assert found.exit_code == 0 and [line.split("  ")[0] for line in found.stdout.splitlines()] == ["anna", "odd"]
    assert all(len([line for line in found.stderr.splitlines() if name in line]) == 1 for name in ("bad.", "gone."))
    assert len(json.loads(run("persons", "list", "--json").stdout)) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="signals as here are POSIX's")
@pytest.mark.parametrize("sign", ["TERM", "HUP"])
def test_a_signal_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: str) -> None:
    number = getattr(signal, f"SIG{sign}")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(learn, "collect", lambda *_: ([take(ANNA, n) for n in range(8)], []))
    monkeypatch.setattr(pairs, "of_takes", lambda *_: signal.raise_signal(number))
    photos = saved(tmp_path / "photos", 0.0)
    found = run("learn", "anna", str(photos), "--yes", "--python", str(python(tmp_path)))
    assert found.exit_code == 128 + number and not [*tmp_path.glob("rtface-learn-*")]


def test_what_cannot_be_used_is_refused_at_once(tmp_path: Path, settings: Path) -> None:
    photos = str(saved(tmp_path / "photos", 0.0))
    (tmp_path / "there.png").touch()
    for sheet in ("there.png", "none/sheet.png", "sheet.txt"):
        found = run("learn", "anna", photos, "--yes", "--python", "/none", "--sheet", str(tmp_path / sheet))
        assert found.exit_code in (1, 2) and sheet in found.stderr.replace("\n", "")
    learnt(learned.path_of("anna"), ANNA)
    assert "--overwrite" in run("learn", "anna", photos, "--yes", "--python", "/none").stderr
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "film.mp4")
        assert "no regular file" in run("learn", "ben", str(tmp_path / "film.mp4"), "--yes").stderr


def test_a_dark_photo_is_refused(tmp_path: Path) -> None:
    photos = saved(tmp_path / "photos", 0.0)
    picture = cv2.imread(str(photos / "0.png"))
    cv2.imwrite(str(photos / "0.png"), (picture * 0.05).astype(np.uint8))
    with pytest.raises(InputError, match=r"0\.png"):
        collected(photos)
