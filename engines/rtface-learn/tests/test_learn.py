"""Learning a person: what is taken of films and photos, what is refused, and weights that fit."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import stat
import sys
import threading
import time
from contextlib import closing, nullcontext
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from rtface.concurrency.threads import start_thread
from rtface.config.addresses import LiveAddress
from rtface.device.cpu.device import CpuDevice
from rtface.engine import learned
from rtface.engine.engine_set import DEFAULT, recipe_named
from rtface.engine.golden import load_golden
from rtface.enhancer import own_face
from rtface.errors import InputError, Interrupted, OutputError, UsageError
from rtface.frame import Color, Face, Frame
from rtface.geometry.alignment import TEMPLATE_SIZE
from rtface.geometry.transforms import FFHQ_512
from rtface.media.read.source import FileSource
from rtface.persons.chip import cut_chip
from rtface.persons.gallery import JOIN, distance
from rtface.persons.network import PersonNetwork
from rtface.tracking import create_tracker
from rtface.util.av_arrays import image_from_array
from rtface_engines import child, environment
from rtface_learn import camera, commands, judge, learn, pairs, selection, takes, work
from rtface_learn.takes import Take
from tests.persons.made import ANNA, BEN, CLEO, at, learnt
from tests.pipeline.fakes import frame_of, portrait
from tests.pipeline.run_media import write_film


def saved(path: Path, *shifts: float) -> Path:
    """Photos of one face."""
    path.mkdir(parents=True)
    for n, shift in enumerate(shifts):
        cv2.imwrite(str(path / f"{n}.png"), portrait(480, 360, blur=0.4, shift=(shift, 0.0))[0][:, :, ::-1])
    return path


def collected(*sources: Path) -> list[Take]:
    return selection.collect(sources, lambda what, share: None)


@pytest.mark.slow
def test_a_film_gives_takes_one_after_the_other(film: Path) -> None:
    found = collected(film)
    assert len(found) == 9 and {len(take.pictures) for take in found} == {takes.FRAMES}
    assert np.diff([take.time for take in found]).min() >= takes.FRAMES / 25
    assert sum(len(take.embeddings) for take in found) >= 2 * len(found)
    crops = [takes.crop_of(take, k, 64).astype(float) for take in found for k in (0, 23)]
    # All crops show the face at the same place, wherever it was in the film.
    assert max(np.abs(crop - crops[0])[20:44, 20:44].mean() for crop in crops) < 12.0


@pytest.mark.parametrize(("length", "count"), [(960.0, 1), (0.0, 3)], ids=["long", "unknown"])
def test_a_face_between_two_places_is_found(length: float, count: int) -> None:
    """It is shown from 3 to 6 s, and a film of 960 s has a place every 10 s; one that does not say its length has them
    where it is shown."""
    face, nobody = portrait(480, 360, blur=0.4)[0], np.full((360, 480, 3), 90, np.uint8)
    frames = (frame_of(face if 75 <= n < 150 else nobody, n) for n in range(250))
    with closing(create_tracker()) as tracker:
        found = [*takes.frame_takes(frames, length, 0, tracker, PersonNetwork())]
    assert len(found) == count and 3.0 <= found[0].time < 4.0


def test_photos_give_takes_of_one_face(tmp_path: Path) -> None:
    found = collected(saved(tmp_path / "photos", 0.0, 12.0, 30.0))
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
    with pytest.raises(InputError, match="3 times are needed"):
        collected(write_film(tmp_path / "short.mkv", frames, rate=25))


def take(person: Any, time: float, source: int = 0) -> Take:
    return Take(time, source, [np.zeros((64, 64, 3), np.uint8)], [np.eye(2, 3)], [at(person, 0.05)])


def test_takes_of_the_person_who_is_shown_most() -> None:
    shown = [take(person, n) for n, person in enumerate([ANNA] * 7 + [BEN] * 2 + [CLEO])]
    assert [one.time for one in takes.person_takes(shown)] == [0, 1, 2, 3, 4, 5, 6]
    assert [one.time for one in takes.person_takes(shown, [at(BEN, 0.03)])] == [7, 8]
    with pytest.raises(InputError, match="add a photo"):
        takes.person_takes(shown[3:])


def test_two_on_one_frame_are_two_however_alike() -> None:
    """As a child and its mother may be: near enough to be taken for one."""
    mother, child = ANNA, at(ANNA, 0.2)
    shown = [take(person, n) for n in range(7) for person in (mother, child)]
    with pytest.raises(InputError, match="2 persons"):
        takes.person_takes(shown)
    for person, of in ((mother, shown[::2]), (child, shown[1::2])):
        assert takes.person_takes(shown, [person]) == takes.person_takes(shown[::-1], [person]) == of


@pytest.mark.slow
def test_pairs_show_one_place_twice(film: Path) -> None:
    """What the engine sees lies over what is true: not shifted on average."""
    recipe = recipe_named(learned.BASE)
    made, kinds = pairs.make_pairs(collected(film)[:2], recipe, lambda: lambda picture, steps: _nothing(picture), 1)
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


@pytest.mark.slow
def test_an_interrupt_ends_the_coding(film: Path) -> None:
    seen = list[int]()

    def nothing(picture: np.ndarray, steps: Any) -> tuple[np.ndarray, np.ndarray]:
        seen.append(len(picture))
        if len(seen) == 3:
            signal.raise_signal(signal.SIGINT)
        return _nothing(picture)

    with pytest.raises(KeyboardInterrupt):
        pairs.make_pairs(8 * collected(film)[:2], recipe_named(learned.BASE), lambda: nothing, 1)
    assert len(seen) <= 9 * pairs.PAIRS_PER_FILM  # of 32: the films that were being coded, on each core one


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
    assert (shown := run("persons", "show", "anna")).exit_code == 0, shown.output
    assert json.loads(shown.output)["figures"]["coded"] == 0.1
    copy = tmp_path / "copy.person"
    assert run("persons", "export", "anna", str(copy)).exit_code == 0
    assert copy.read_bytes() == path.read_bytes() and stat.S_IMODE(copy.stat().st_mode) == 0o600
    removed = run("persons", "remove", "Anna")
    assert removed.exit_code == 0 and "weights of Anna were deleted" in removed.output and not path.exists()
    assert run("persons", "remove", "anna").exit_code == 2


def test_list_survives_files_that_cannot_be_used(settings: Path) -> None:
    learnt(learned.path_of("anna"), ANNA)
    learnt(learned.folder() / "odd.person", BEN, figures={"call": "much"})
    (learned.folder() / "bad.person").write_bytes(b"no zip")
    (learned.folder() / "gone.person").mkdir()
    found = run("persons", "list")
    assert found.exit_code == 0 and [line.split("  ")[0] for line in found.stdout.splitlines()] == ["anna"]
    unusable = ("bad.", "gone.", "odd.")
    assert all(len([line for line in found.stderr.splitlines() if name in line]) == 1 for name in unusable)
    assert len(json.loads(run("persons", "list", "--json").stdout)) == 1
    learned.path_of("anna").unlink()
    assert not run("persons", "list").stdout  # not that nobody was learnt


@pytest.mark.skipif(sys.platform == "win32", reason="signals as here are POSIX's")
@pytest.mark.parametrize("sign", ["TERM", "HUP"])
def test_a_signal_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: str) -> None:
    number = getattr(signal, f"SIG{sign}")
    monkeypatch.setattr(selection, "collect", lambda *_: [take(ANNA, n) for n in range(8)])
    monkeypatch.setattr(pairs, "make_pairs", lambda *_: signal.raise_signal(number))
    photos = saved(tmp_path / "photos", 0.0)
    found = run("learn", "anna", str(photos), "--yes", "--python", str(python(tmp_path)))
    assert found.exit_code == 128 + number and not [*learned.unfinished().iterdir()]


def test_what_cannot_be_used_is_refused_at_once(
    tmp_path: Path, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = str(saved(tmp_path / "photos", 0.0))
    (tmp_path / "there.png").touch()
    for sheet in ("there.png", "none/sheet.png", "sheet.txt"):
        found = run("learn", "anna", photos, "--yes", "--python", "/none", "--sheet", str(tmp_path / sheet))
        assert found.exit_code in (1, 2) and sheet in found.stderr.replace("\n", "")
    monkeypatch.chdir(tmp_path)
    for folder, sheet in (("photos", "photos/faces.png"), (f"{photos}/", "photos/../photos/faces.png")):
        inside = run("learn", "anna", folder, "--yes", "--python", "/none", "--sheet", sheet)
        assert "read the sheet as a photo" in inside.stderr.replace("\n", " ")
    learnt(learned.path_of("anna"), ANNA)
    assert "--overwrite" in run("learn", "anna", photos, "--yes", "--python", "/none").stderr
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "film.mp4")
        assert "not a regular file" in run("learn", "ben", str(tmp_path / "film.mp4"), "--yes").stderr


def test_a_dark_photo_is_refused(tmp_path: Path) -> None:
    photos = saved(tmp_path / "photos", 0.0)
    picture = cv2.imread(str(photos / "0.png"))
    cv2.imwrite(str(photos / "0.png"), (picture * 0.05).astype(np.uint8))
    with pytest.raises(InputError, match=r"0\.png"):
        collected(photos)


def test_a_film_of_somebody_else(monkeypatch: pytest.MonkeyPatch, film: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(takes, "film_takes", lambda path, number, *_: (take(BEN, n, number) for n in range(9)))
    monkeypatch.setattr(takes, "photo_take", lambda *_: take(ANNA, 0))
    with pytest.raises(InputError, match="does not clearly show the person"):
        collected(film, *saved(tmp_path / "photos", 0.0).iterdir())


def test_one_of_two_films_is_of_somebody_else(monkeypatch: pytest.MonkeyPatch, film: Path, tmp_path: Path) -> None:
    (other := tmp_path / "other.mkv").write_bytes(film.read_bytes())
    shown = {film: (ANNA, 9)}

    def of_film(path: Path, number: int, *_: Any) -> Any:
        person, count = shown[path]
        return (take(person, n, number) for n in range(count))

    monkeypatch.setattr(takes, "film_takes", of_film)
    for shown[other] in ((BEN, 2), (CLEO, 0)):
        with pytest.raises(InputError, match=r"other\.mkv does not clearly show the person"):
            collected(film, other)


def test_photos_of_two_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown = iter([take(ANNA, 0), take(ANNA, 1), take(BEN, 2)])
    monkeypatch.setattr(takes, "photo_take", lambda *_: next(shown))
    with pytest.raises(InputError, match=r"2\.png seem to show two persons"):
        collected(saved(tmp_path / "photos", 0.0, 9.0, 18.0))


def seen(embedding: Any) -> Take:
    picture = np.zeros((64, 64, 3), np.uint8)
    return Take(0.0, 0, [picture], [np.eye(2, 3)], [embedding], picture[:8, :8])


def test_photos_of_two_who_look_alike(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nearer than two people usually are, but no chain of like photos joins them; one person's photos are joined."""
    for off, ends in (
        (0.45, pytest.raises(InputError, match=r"2\.png seem to show two persons")),
        (0.2, nullcontext()),
    ):
        shown = iter([seen(ANNA), seen(ANNA), seen(at(ANNA, off))])
        monkeypatch.setattr(takes, "photo_take", lambda *_, shown=shown: next(shown))
        monkeypatch.setattr(selection, "MIN_PHOTOS", 0)
        with ends:
            collected(saved(tmp_path / str(off), 0.0, 9.0, 18.0))


def test_all_poor_photos_are_named_at_once(tmp_path: Path) -> None:
    photos = saved(tmp_path / "photos", 0.0, 12.0, 30.0)
    for path in sorted(photos.iterdir())[1:]:
        cv2.imwrite(str(path), cv2.GaussianBlur(cv2.imread(str(path)), (0, 0), 4.0))
    with pytest.raises(InputError, match=r"2 of 3 photos cannot be used: .*1\.png is blurred.*2\.png is blurred"):
        collected(photos)


def test_a_camera_is_looked_for_before_torch() -> None:
    def never() -> Path:
        raise AssertionError("torch is set up for a camera that is not there")

    with pytest.raises(InputError, match="there is no"):
        source = LiveAddress("camera", "/dev/no-camera")
        learn.learn("Anna", [source], never, minutes=1.0, notify=lambda what, share: None)
    assert not [*learned.unfinished().iterdir()]


@pytest.mark.parametrize(
    ("takes", "photos", "said"), [(3, True, "only photos"), (5, False, "there are only 5 takes"), (6, False, "")]
)
def test_what_photos_alone_and_few_takes_are_worth_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, takes: int, photos: bool, said: str
) -> None:
    made = learn.TrainingOutcome(tmp_path / "anna.person", {"call": 0.3}, takes, 1.0, 1.0, photos)
    monkeypatch.setattr(learn, "learn", lambda *_, **__: made)
    found = run("learn", "anna", str(saved(tmp_path / "photos", 0.0)), "--yes")
    lines = [words for words in ("only photos", "there are only 5 takes") if words in found.stderr]
    assert found.exit_code == 0 and lines == ([said] if said else [])


def test_a_full_disk_is_said(quick: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    monkeypatch.setattr("rtface_engines.environment.find_python", lambda *_: Path(sys.executable))
    found = run("learn", "anna", str(saved(tmp_path / "photos", 0.0)), "--yes")
    assert found.exit_code == 1 and "cannot be written (No space left" in found.stderr.replace("\n", " ")
    assert not [*learned.unfinished().iterdir()]


def test_no_answer_to_a_question_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*_: Any) -> None:
        raise typer.Abort

    monkeypatch.setattr(judge, "check_policies", ended)  # asks nothing; typer raises that where it asks
    found = run("learn", "anna", str(saved(tmp_path / "photos", 0.0)))
    assert found.exit_code == 130 and found.stderr == "rtface: error: interrupted\n"


@pytest.mark.parametrize("spoilt", ["saved again", "blurred", "empty", "masked", "coarse"])
def test_poor_photos_are_refused(tmp_path: Path, spoilt: str) -> None:
    photos = saved(tmp_path / "photos", 0.0, 12.0, 30.0)
    first, second, third = sorted(photos.iterdir())
    picture = cv2.imread(str(first))
    if spoilt == "saved again":
        cv2.imwrite(str(second.with_suffix(".jpg")), picture, [cv2.IMWRITE_JPEG_QUALITY, 60])
        second.unlink()
    elif spoilt == "blurred":
        cv2.imwrite(str(second), cv2.GaussianBlur(picture, (0, 0), 4.0))
    elif spoilt == "masked":
        cv2.imwrite(str(second), cv2.rectangle(picture, (203, 184), (275, 228), (200, 180, 120), -1))
    elif spoilt == "coarse":
        small = cv2.resize(picture, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(second), cv2.resize(small, (480, 360), interpolation=cv2.INTER_NEAREST))
    for path in (first, second, third) if spoilt == "empty" else ():
        path.unlink()
    why = {
        "saved again": r"photos without their copies: 2 \(0\.png, 2\.png\)",
        "blurred": r"1\.png is blurred",
        "empty": "contains no images",
    }
    with pytest.raises(InputError, match=why.get(spoilt, r"1\.png is drawn, masked, coarse, noisy")):
        collected(photos)


class Training:
    """Stands in for the trainer: interrupted the first time, or in vain."""

    def __init__(self, *ends: BaseException | None) -> None:
        self.ends, self.jobs, self.step = list(ends), list[dict[str, Any]](), learn.STEPS

    def __call__(self, command: Any, received: Any, environment: Any = None) -> child.ExitStatus:
        self.jobs.append(json.loads(Path(command[-1]).read_text()))
        Path(self.jobs[-1]["checkpoint"]).touch()
        if (end := self.ends.pop(0)) is not None:
            raise end
        done = {"done": True, "better": False, "over": {}, "seconds": float(len(self.jobs)), "step": self.step}
        received(json.dumps(done))
        return child.ExitStatus(0, [])


def made(*_: Any) -> tuple[np.ndarray, list[str]]:
    """Pairs of nothing."""
    return np.zeros((4, 2, 8, 8, 3), np.uint8), ["call"] * 4


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Learning without its work; what was collected."""
    calls = list[str]()
    monkeypatch.setattr(pairs, "make_pairs", made)
    monkeypatch.setattr(pairs, "other_faces", lambda *_: made()[0][:, 1])
    shown = [take(ANNA, n) for n in range(8)]
    monkeypatch.setattr(selection, "collect", lambda *_: (calls.append("collect"), shown)[1])
    monkeypatch.setattr(learn, "check_live", lambda address: None)
    return calls


def test_held_faces_are_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, held = recipe_named(DEFAULT), list[Take]()
    nothing: Any = None
    monkeypatch.setattr(pairs, "make_pairs", lambda given, *_, **__: (held.extend(given), made())[1])
    face = np.rint(255 * load_golden(recipe)[0][0].transpose(1, 2, 0)).astype(np.uint8)
    pairs.other_faces([Take(0.0, 0, [face], [np.eye(2, 3)])], recipe, recipe, nothing, 1)
    device, network = CpuDevice(), PersonNetwork()

    def embedding(picture: np.ndarray) -> Any:
        frame = Frame(image_from_array(picture, "rgb"), 0, Fraction(1, 25), color=Color("rgb", True))
        chip = cut_chip(device.view(frame), own_face(FFHQ_512 * len(picture) / TEMPLATE_SIZE, 0))
        assert chip is not None
        return network(chip)

    own = embedding(face)
    far = [distance(own, embedding(take.pictures[0])) for take in held]
    assert np.median(far) > 0.9 * JOIN and max(far) < 0.6  # a face still


@pytest.mark.slow
def test_an_interrupted_call_is_continued(
    tmp_path: Path, quick: list[str], film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, training = saved(tmp_path / "photos", 0.0), Training(KeyboardInterrupt(), KeyboardInterrupt(), None, None)
    monkeypatch.setattr(child, "run", training)

    def learning(source: Path) -> learn.TrainingOutcome:
        return learn.learn(
            "Anna", [source], lambda: Path("/none"), minutes=1.0, notify=lambda what, share: None, overwrite=again
        )

    again = False
    with pytest.raises(Interrupted, match="kept for 7 days"):
        learning(photos)
    (folder,) = learned.unfinished().iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and learned.unfinished_names() == ["anna"]
    assert '"unfinished": true' in run("persons", "list", "--json").output
    with pytest.raises(UsageError, match="differ: repeat"):
        learning(film)
    again = True
    with pytest.raises(Interrupted):
        learning(film)
    done = learning(film)
    assert (done.path, done.gains) == (None, {}) and quick == ["collect"] * 2  # no run was measured: no figure is said
    assert not learned.unfinished_names() and not [*learned.unfinished().iterdir()]
    learning(photos)
    assert len(training.jobs) == 4 and quick == ["collect"] * 3


def test_a_call_whose_time_was_too_short_is_continued(
    tmp_path: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, training = saved(tmp_path / "photos", 0.0), Training(None, None, None)
    monkeypatch.setattr(child, "run", training)
    monkeypatch.setattr(environment, "find_python", lambda *_: Path("/none"))
    training.step = 9
    for _ in range(2):
        said = run("learn", "anna", str(photos), "--yes").stderr.replace("\n", " ")
        assert "use more --minutes, or run the same command again to continue" in said
        assert learned.unfinished_names() == ["anna"] and quick == ["collect"]
    first, second = (job["seconds"] for job in training.jobs)
    assert second == first + 1.0  # which the first one took
    training.step = learn.STEPS
    other = saved(tmp_path / "other", 0.0, 2.0)
    assert "nothing was kept" in run("learn", "anna", str(other), "--yes").stderr.replace("\n", " ")
    assert quick == ["collect"] * 2 and not learned.unfinished_names()


@pytest.mark.parametrize(("better", "photos"), [(True, False), (False, False), (True, True)])
def test_the_share_is_of_both_trainings(
    better: bool, photos: bool, quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second was cut by its time; where it led to nothing better, the first one's weights are kept. Of photos alone
    half of the change is."""

    def train(command: Any, received: Any, environment: Any = None) -> child.ExitStatus:
        job = json.loads(Path(command[-1]).read_text())
        step, delta, good = (40, [0.25, 0.5], better) if job["begin"] else (job["steps"], [0.5, 0.5], True)
        np.savez(job["out"], places=[(0, 2, 1, 2)], delta=np.array(delta, np.float16))
        received(json.dumps({"done": True, "better": good, "seconds": 2.0, "step": step}))
        return child.ExitStatus(0, [])

    gains = {"call": 0.4, "heavy": -0.1, "coded": 0.0}
    monkeypatch.setattr(child, "run", train)
    monkeypatch.setattr(judge, "gains", lambda *_: gains)
    monkeypatch.setattr(learn, "EngineSet", lambda *_, **__: SimpleNamespace(close=lambda: None))
    source = saved(tmp_path / "photos", 0.0) if photos else LiveAddress("camera", "0")
    done = learn.learn("Anna", [source], lambda: Path("/none"), minutes=1.0, notify=lambda what, share: None)
    assert (done.share, done.seconds, done.photos, done.path) == (280 / 400, 4.0, photos, learned.path_of("anna"))
    kept = learned.read(learned.path_of("anna"))
    assert kept.meta["figures"] == gains and kept.delta.tolist() == (
        [0.125, 0.25] if photos else [0.25 if better else 0.5, 0.5]
    )


def test_faces_are_left_out_by_their_numbers(quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sheet has the takes that are learnt from, then the last two of the eight, which judge."""
    given, training = list[list[float]](), Training(KeyboardInterrupt())
    monkeypatch.setattr(pairs, "make_pairs", lambda found, *_: (given.append([one.time for one in found]), made())[1])
    monkeypatch.setattr(child, "run", training)
    source = saved(tmp_path / "photos", 0.0)
    taken = selection.collect([], lambda what, share: None)
    for number, one in enumerate(taken):
        one.embeddings = [at(ANNA, 0.01 * number)]
    chosen = [int(one.time) for part in selection.split(taken) for one in part]

    def learning(*without: int, source: Any = source) -> None:
        learn.learn(
            "Anna", [source], lambda: Path("/none"), minutes=1.0, notify=lambda what, share: None, overwrite=True,
            shown=tmp_path / "sheet.png", without=frozenset(without),
        )  # fmt: skip

    with pytest.raises(UsageError, match=f"--without 99: the faces on the sheet have the numbers 1 to {len(chosen)}"):
        learning(1, 99)
    with pytest.raises(UsageError, match="0 for measuring; at least 3 in total"):
        learning(len(chosen) - 1, len(chosen))
    with pytest.raises(UsageError, match="change with each call"):
        learning(1, source=LiveAddress("camera", "0"))
    assert not given
    with pytest.raises(Interrupted):
        learning(2, len(chosen))
    assert given == [[n for n in chosen[:-2] if n != chosen[1]], chosen[-2:-1]]
    with np.load(learned.unfinished() / "anna" / learned.PAIRS) as held:
        assert np.allclose(held["embeddings"], [taken[n].embeddings[0] for part in given for n in map(int, part)])


def test_a_sheet_numbers_its_faces() -> None:
    shown = [take(ANNA, n) for n in range(9)]
    for one in shown:
        one.pictures, one.matrices = [np.full((64, 64, 3), 120, np.uint8)], [np.eye(2, 3) / 8]
    drawn = selection.sheet(shown, frozenset({2, 9}))
    assert drawn.shape == (2 * 128, 8 * 128, 3)
    tiles = [drawn[128 * (n // 8) :, 128 * (n % 8) :][:128, :128] for n in range(10)]
    assert [int(tile[100, 100, 0]) for tile in tiles] == [120, 30, 120, 120, 120, 120, 120, 120, 30, 0]
    assert all((a[:24] != b[:24]).any() for a, b in pairwise(tiles))


@pytest.mark.parametrize("words", ["3;5", "-1", "", "1234567890"])
def test_numbers_of_faces_are_checked(words: str, tmp_path: Path) -> None:
    found = run("learn", "anna", str(tmp_path), "--yes", f"--without={words}")
    assert found.exit_code == 2 and "use numbers, for example 3,5" in found.stderr


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_a_camera_showed_is_not_kept(overwrite: bool, quick: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is watched anew, also after a call that was killed."""
    monkeypatch.setattr(child, "run", Training(KeyboardInterrupt(), None))
    for ends in (pytest.raises(KeyboardInterrupt), nullcontext()):
        with ends:
            source = LiveAddress("camera", "0")
            learn.learn(
                "Anna", [source], lambda: Path("/none"), minutes=1.0, notify=lambda *_: None, overwrite=overwrite
            )
        assert not [*learned.unfinished().iterdir()]
        for name in ("anna", "ben"):
            (folder := learned.unfinished() / name).mkdir()
            (folder / learned.PAIRS).touch()
            (folder / learned.KEY).touch()
            os.utime(folder, (then := time.time() - 60.0, then))
        assert not learned.unfinished_names()
        run("persons", "list")
        assert not [*learned.unfinished().iterdir()]
    assert quick == ["collect"] * 2


@pytest.mark.parametrize("photos", [True, False])
def test_copies_do_not_judge_what_was_learnt(photos: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are the same, and photos that were saved anew."""
    folder, given = saved(tmp_path / "photos", 0.0, 9.0, 18.0, 0.0), list[Any]()
    shutil.copy(folder / "1.png", folder / "4.png")
    (folder / "3.png").write_bytes(cv2.imencode(".png", cv2.imread(str(folder / "0.png")) // 2 * 2)[1].tobytes())
    if photos:
        assert [one.source for one in collected(folder)] == [0, 1, 2]
    monkeypatch.setattr(
        selection, "collect", lambda found, *_: given.extend(found) or [take(ANNA, n) for n in range(8)]
    )
    monkeypatch.setattr(pairs, "make_pairs", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        source = [folder] if photos else [folder / "1.png", folder / "4.png", folder / "1.png"]
        learn.learn("Anna", source, lambda: Path("/none"), minutes=1.0, notify=lambda what, share: None)
    assert [path.name for path in given] == (["0.png", "1.png", "2.png", "3.png"] if photos else ["1.png"])


def test_what_an_interruption_left_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    for days, name in ((8, "anna"), (1, "ben"), (1, "cleo")):
        (folder := learned.unfinished() / name).mkdir(parents=True)
        (folder / learned.PAIRS).touch()
        (folder / learned.KEY).write_text("key")
        os.utime(folder, (then := time.time() - days * 86_400, then))
    removed = run("persons", "remove", "Ben")
    assert removed.exit_code == 0 and "training of Ben was" in removed.output and ".person" not in removed.output
    assert (
        learned.unfinished_names() == ["anna", "cleo"]
        and "learnt persons: anna, cleo" in run("persons", "remove", "x").output
    )
    with pytest.raises(UsageError, match="is learning Dora"), work.work("Dora", "key"), work.work("Dora", ""):
        assert learned.unfinished_names() == ["cleo"]
    (folder := learned.unfinished() / "eve").mkdir()
    (folder / learned.PAIRS).touch()
    (folder / learned.KEY).write_text("key")
    os.utime(folder, (0.0, 0.0))
    assert "eve" not in run("persons", "list").output
    assert learned.unfinished_names() == ["cleo"]


def test_a_link_in_place_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    (theirs := tmp_path / "theirs").mkdir()
    (theirs / "letter.txt").touch()
    learned.unfinished().mkdir(parents=True)
    (link := learned.unfinished() / "anna").symlink_to(theirs)
    os.utime(theirs, (then := time.time() - 8 * 86_400, then))
    with pytest.raises(OutputError, match="it is a link"), work.work("Anna", "key"):
        pass
    assert work.remove("Anna") and not link.is_symlink() and [path.name for path in theirs.iterdir()] == ["letter.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a file that is open")
def test_a_folder_is_deleted_before_another_call_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    tried, delete = list[Path](), shutil.rmtree

    def tries(folder: Path) -> None:
        with pytest.raises(UsageError, match="another rtface is learning Anna"), work.work("Anna", "other"):
            pass
        tried.append(folder)
        delete(folder)

    with work.work("Anna", "key"):
        monkeypatch.setattr(shutil, "rmtree", tries)
    assert len(tried) == 1 and not [*learned.unfinished().iterdir()]


@pytest.mark.parametrize("before", [True, False])
def test_what_was_learnt_before_is_said_to_stay(before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if before:
        learnt(learned.path_of("anna"), ANNA)
    monkeypatch.setattr(
        learn, "learn", lambda *_, **__: learn.TrainingOutcome(None, {"call": 0.01}, 9, 60.0, 1.0, False)
    )
    found = run("learn", "anna", str(saved(tmp_path / "photos", 0.0)), "--yes", "--overwrite")
    assert found.exit_code == 1 and "nothing was kept" in found.stderr
    assert ("the earlier weights of anna remain in use" in found.stderr.replace("\n", " ")) == before


def test_who_is_being_learnt_is_not_removed() -> None:
    with work.work("Anna", "key") as folder:
        removed = run("persons", "remove", "anna")
        assert removed.exit_code == 2 and "another rtface is learning anna;" in removed.stderr and folder.is_dir()
    assert run("persons", "remove", "anna").exit_code == 2


def turned(yaw: float = 0.0, pitch: float = 0.0, mouth: float = 0.0, lids: float = 0.3) -> Face:
    """A face whose mesh has only lids and lips."""
    mesh = np.zeros((478, 3))
    for upper, lower, left, right, height in (
        (159, 145, 33, 133, lids),
        (386, 374, 362, 263, lids),
        (13, 14, 78, 308, mouth),
    ):
        mesh[[upper, left]], mesh[lower], mesh[right] = 0.0, (0.0, height, 0.0), (1.0, 0.0, 0.0)
    return Face(1, np.array([0.0, 0.0, 100.0, 100.0]), np.zeros((5, 2)), mesh, pose=(yaw, pitch, 0.0))


def test_the_guide_asks_for_what_is_missing() -> None:
    guide, seen = camera.Guide(), list[str]()
    shown = {
        "ahead": turned(),
        "left": turned(yaw=20.0),
        "right": turned(yaw=-20.0),
        "up": turned(pitch=12.0),
        "mouth": turned(mouth=0.3),
        "blink": turned(lids=0.05),
    }
    for name, face in shown.items():
        assert guide.missing[0] == name and guide.share < 1.0
        for _ in range(camera.POSES[name]):
            guide.see(face)
        seen.append(name)
        assert guide.missing == [other for other in camera.POSES if other not in seen]
    assert guide.share == 1.0


def test_another_pose_is_asked_for_after_a_while() -> None:
    poses = [*camera.POSES]
    assert {commands.asked(poses, left)[0] for left in range(31)} == {*poses}
    assert sorted(commands.asked(poses, 12.0)) == sorted(poses) and commands.asked([], 3.0) == []


class Filmed:
    """A live source that plays a film."""

    def __init__(self, film: Path) -> None:
        self._film, self.ended, self.closed, self.taken = film, False, False, threading.Event()

    def start(self, frame: Any, sound: Any) -> None:
        def play() -> None:
            with closing(FileSource(self._film)) as film:
                for item in film:
                    if isinstance(item, Frame) and not self.closed:
                        self.taken.clear()
                        frame(item)
                        self.taken.wait(5.0)
            self.ended = True

        self._thread = start_thread("film", play)

    def close(self) -> None:
        self.closed = True
        self.taken.set()
        self._thread.join()


def test_a_camera_gives_takes(film: Path) -> None:
    source, lefts = Filmed(film), list[float]()

    def watch(guide: camera.Guide, left: float, view: Any) -> None:
        lefts.append(left)
        source.taken.set()

    tracker = create_tracker()
    found = camera.record_takes(
        LiveAddress("camera", "0"), 3, tracker, PersonNetwork(), watch, length=1.5, opened=lambda address: source
    )
    tracker.close()
    assert source.closed and 2 <= len(found) <= 4 and {one.source for one in found} == {3}
    assert lefts.count(0.0) <= 1  # when the time is over and something missing, the clock counts what is added
    assert lefts[0] == 1.5 and lefts[-1] < 0.05 and len(lefts) == pytest.approx(76, abs=3)  # it never turns
