"""A film of three people over six shots, from the analysis to a run for one of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from rtface.analysis.track_report import persons_of
from rtface.cli.app import app
from rtface.config.addresses import LiveAddress
from rtface.config.options import Options
from rtface.engine import learned
from rtface.enhance.identity_guard import IdentityGuard
from rtface.enhancer import Enhancer
from rtface.errors import InputError, Message, UsageError
from rtface.frame import Bytes, Float32
from rtface.live.endpoint_factory import make_endpoints
from rtface.pipeline.analysis import analyze_file
from rtface.pipeline.film import run_file
from rtface.stats import Stats
from rtface.trust.verify import verify
from tests.persons.made import ANNA, BEN, CLEO, at, learnt
from tests.pipeline.fakes import portrait
from tests.pipeline.run_media import write_film

TINTS = np.array([(1.0, 0.6, 0.6), (0.6, 1.0, 0.6), (0.6, 0.6, 1.0)])
SHOTS, FRAMES = 6, 8


def tinted(person: int, shift: float = 0.0) -> Bytes:
    """The astronaut in one of three colours, which make three people of it for the stand-in of the network."""
    picture, _ = portrait(320, 180, blur=0.8, shift=(shift, 0.0))
    return np.asarray(picture * TINTS[person], np.uint8)


def by_colour(chip: Bytes) -> Float32:
    """The embedding of one of three people, by the tint of the chip."""
    means = chip.reshape(-1, 3).mean(0) / (120, 90, 80)  # of the untinted face
    return at((ANNA, BEN, CLEO)[int(np.argmax(means))], 0.05)


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtface.persons.network.PersonNetwork", lambda: by_colour)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def frames() -> Iterator[Bytes]:
        for shot in range(SHOTS):
            background = -60.0 if shot % 2 else 60.0
            for t in range(FRAMES):
                yield tinted(shot % 3, background + t)

    return write_film(tmp_path_factory.mktemp("film") / "three.mkv", frames(), rate=10)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "blue.png"
    cv2.imwrite(str(path), tinted(2)[:, :, ::-1])
    return path


@pytest.mark.slow
def test_analysis_joins_six_shots_to_three_persons(film: Path) -> None:
    found = persons_of(analyze_file(film, Options()))
    assert [person.person for person in found] == ["P1", "P2", "P3"]
    assert [len(person.tracks) for person in found] == [2, 2, 2]
    assert all(person.seconds > 2 * 0.5 for person in found)


def test_a_run_corrects_one_person(film: Path, tmp_path: Path, engines: object) -> None:
    report = run_file(film, tmp_path / "out.mkv", Options(faces="P2", correct="always"))
    done = {track.id: (track.person, track.frames_corrected > 0) for track in report.tracks}
    assert [person for person, corrected in done.values() if corrected] == ["P2"] * 2
    assert report.frames_corrected >= 2 * (FRAMES - 1)


def test_a_person_is_known_by_a_photo(film: Path, photo: Path, tmp_path: Path, engines: object) -> None:
    options = Options(faces="anna", person=(f"anna={photo}",), correct="always")
    report = run_file(film, tmp_path / "out.mkv", options)
    assert {track.person for track in report.tracks if track.frames_corrected} == {"anna"}
    assert len([track for track in report.tracks if track.person == "anna"]) == 2


def test_a_person_who_is_not_recognised_is_said_and_assigned(
    film: Path, photo: Path, tmp_path: Path, engines: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The photo shows the third person, and the first is the one who was meant."""
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path))
    learnt(learned.path_of("dora"), at(ANNA, 0.9))
    end = 2 * FRAMES / 10
    alone = run_file(film, tmp_path / "alone.mkv", Options(person=("dora",), end=end, correct="always"))
    (said,) = (note for note in alone.notes if "recognised" in note)
    assert said == (
        "dora was not recognised on any track; if P1 shows this person, add --person dora@P1"
    ) and isinstance(said, Message)
    by_hand = Options(person=(said.values["option"],), faces="dora", end=end, correct="always")
    report = run_file(film, tmp_path / "hand.mkv", by_hand)
    assert [(track.person, track.frames_corrected > 0) for track in report.tracks] == [("dora", True), ("P2", False)]
    with_photo = run_file(film, tmp_path / "photo.mkv", Options(person=(f"anna@1,4={photo}",), correct="always"))
    assert [track.person for track in with_photo.tracks][:4] == ["anna", "P2", "anna", "anna"]


@pytest.mark.slow
def test_a_person_who_was_learnt_gets_own_weights(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of that person alone come out another way than with the shipped weights."""
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path))
    with pytest.raises(InputError, match="no weights were learnt for anna"):
        run_file(film, tmp_path / "none.mkv", Options(person=("anna",)))
    learnt(learned.path_of("anna"), at(CLEO, 0.05))
    made = dict[str, list[Bytes]]()
    for name, persons in {"shipped": (), "own": ("anna",)}.items():
        options = Options(person=persons, engine="rtface-s", codec="ffv1", correct="always", end=3 * FRAMES / 10)
        run_file(film, tmp_path / f"{name}.mkv", options)
        with av.open(str(tmp_path / f"{name}.mkv")) as container:
            made[name] = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    same = [np.array_equal(a, b) for a, b in zip(made["shipped"], made["own"], strict=True)]
    assert same == [True] * 2 * FRAMES + [False] * FRAMES


@pytest.mark.slow
def test_all_that_tells_of_a_film_knows_who_was_learnt(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Report, sidecar, marks, guard and `rtface verify`, also when her file is gone."""
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path))
    path, out = learnt(learned.path_of("anna"), at(CLEO, 0.05)), tmp_path / "out.mkv"
    watched, real = set[str](), IdentityGuard.shape
    monkeypatch.setattr(
        IdentityGuard,
        "shape",
        lambda self, task: (watched.update(f.engine.name for f in task.faces), real(self, task))[1],
    )
    options = Options(
        person=("anna",), engine="rtface-s", codec="ffv1", correct="always", end=2.4, sidecar=True, guard="on"
    )
    report = run_file(film, out, options)
    assert report.engine == "rtface-s+rtface-s@anna" and watched == set(report.engine.split("+"))
    done = {(track.person, track.treatment["engine"]) for track in report.tracks}
    assert done == {("P1", "rtface-s"), ("P2", "rtface-s"), ("anna", "rtface-s@anna")}
    said = json.loads(out.with_name("out.mkv.rtface.json").read_text())
    own, digest = said["engines"]["rtface-s@anna"], learned.read(path).digest
    assert (own["learnt_of"], own["learnt_sha256"]) == ("anna", digest)
    assert {one["treatment"]["engine"] for one in said["treatments"] if one["person"] == "anna"} == {"rtface-s@anna"}
    with av.open(str(out)) as container:
        tags = container.metadata
    assert "person=learnt" in tags["RTFACE_OPTIONS"] and "anna" not in str(tags).lower()
    for _ in range(2):
        assert verify(out, input=film).same
        path.unlink(missing_ok=True)


@pytest.mark.slow
def test_a_treatment_by_person(film: Path, tmp_path: Path, engines: object) -> None:
    path = tmp_path / "treatment.json"
    path.write_text(
        json.dumps(
            {
                "version": 1,
                "tracks": {},
                "persons": {"P1": {"seconds": 3.0}, "P2": {"on": False}, "P3": {"strength": 0.25}},
            }
        )
    )
    report = run_file(film, tmp_path / "out.mkv", Options(treatment=path, correct="always"))
    assert {(track.person, track.strength) for track in report.tracks} == {("P1", 1.0), ("P2", 0.0), ("P3", 0.25)}


@pytest.mark.parametrize(
    ("persons", "said"),
    [
        ({"1": {}}, "or a person"),
        ({"P1": {"on": 7}}, r"persons\.P1\.on"),
        ({"P1": {"strenght": 1}}, "strength"),
    ],
)
def test_a_treatment_by_person_that_is_wrong(
    film: Path, tmp_path: Path, engines: object, persons: object, said: str
) -> None:
    path = tmp_path / "treatment.json"
    path.write_text(json.dumps({"version": 1, "tracks": {}, "persons": persons}))
    with pytest.raises(UsageError, match=said):
        run_file(film, tmp_path / "out.mkv", Options(treatment=path))


@pytest.mark.slow
def test_photos_of_one_film_name_a_person_in_the_next(film: Path, tmp_path: Path, engines: object) -> None:
    folder = tmp_path / "people"
    done = CliRunner().invoke(app, ["analyze", str(film), "--photos", str(folder)])
    assert done.exit_code == 0, done.output
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png")) == [
        f"P{person}/{photo}.png" for person in (1, 2, 3) for photo in (1, 2)
    ]
    options = Options(person=(f"anna={folder / 'P3'}",), faces="anna", correct="always", end=3 * FRAMES / 10)
    report = run_file(film, tmp_path / "out.mkv", options)
    assert [track.person for track in report.tracks if track.frames_corrected] == ["anna"]
    again = CliRunner().invoke(app, ["analyze", str(film), "--photos", str(folder)])
    assert again.exit_code != 0
    assert "--overwrite" in again.output


def test_an_analysis_without_persons(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtface.persons.network.PersonNetwork", lambda: pytest.fail("the network was opened"))
    done = CliRunner().invoke(app, ["analyze", str(film), "--no-persons", "--end", "0.5"])
    assert done.exit_code == 0, done.output


def test_nothing_is_recognised_unless_asked_for(
    film: Path, tmp_path: Path, engines: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtface.persons.network.PersonNetwork", lambda: pytest.fail("the network was opened"))
    report = run_file(film, tmp_path / "out.mkv", Options(end=0.5))
    assert {track.person for track in report.tracks} == {""}


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (np.full((180, 320, 3), 90, np.uint8), "shows no face"),
        (np.hstack([portrait()[0][:, 70:250], portrait()[0][:, 70:250]]), "shows 2 faces"),
    ],
)
def test_a_photo_that_cannot_serve_ends_the_run(
    film: Path, tmp_path: Path, engines: object, picture: Bytes, said: str
) -> None:
    cv2.imwrite(str(tmp_path / "p.png"), picture)
    with pytest.raises(InputError, match=said):
        run_file(film, tmp_path / "out.mkv", Options(person=(f"anna={tmp_path / 'p.png'}",)))
    assert not list(tmp_path.glob("*out*"))


def test_photos_of_two_people_are_refused(film: Path, photo: Path, tmp_path: Path, engines: object) -> None:
    other = tmp_path / "red.png"
    cv2.imwrite(str(other), tinted(0)[:, :, ::-1])
    with pytest.raises(InputError, match="two people"):
        run_file(film, tmp_path / "out.mkv", Options(person=(f"anna={photo},{other}",)))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"faces": "anna"}, "no person anna"),
        ({"person": ("P1=a.jpg",)}, "a name and photos"),
        ({"person": ("a=x.jpg", "A=y.jpg")}, "twice"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Options.of(options)


def _dry(film: Path, options: Options) -> list[str]:
    return run_file(film, film.with_name("none.mkv"), replace(options, dry_run=True)).warnings


def _live(film: Path, options: Options) -> list[str]:
    make_endpoints(LiveAddress("camera", "0"), LiveAddress("null", ""), options, stats := Stats())
    return stats.warned()


def _called(film: Path, options: Options) -> list[str]:
    with Enhancer(engine=options.engine, person=list(options.person), look=options.look) as enhancer:
        return enhancer.stats.warned()


@pytest.mark.parametrize("say", [_dry, _live, _called])
def test_what_was_learnt_and_is_not_used_is_said(
    film: Path, say: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path))
    learnt(learned.path_of("anna"), ANNA)
    for engine, unused in (("rtface-m-vivid", True), ("rtface-s", False)):
        said = say(film, Options(engine=engine, person=("anna",), correct="always"))
        assert any("learnt for anna" in line and "rtface-m-vivid" in line for line in said) is unused


def test_a_dry_run_knows_who_was_learnt(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path))
    with pytest.raises(InputError, match="no weights were learnt for anna"):
        _dry(film, Options(person=("anna",)))
    learnt(learned.path_of("anna"), ANNA)
    learnt(learned.path_of("anna"), ANNA, base="0" * 64)
    for say in (_dry, _live):
        with pytest.raises(UsageError, match="rtface learn anna"):
            say(film, Options(engine="rtface-s", person=("anna",), dry_run=True))
