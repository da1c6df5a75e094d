"""Importing portraits: what is fit, who is recognised, and that no split moves."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from training.data import import_portraits
from training.data.import_portraits import (
    COLUMNS,
    Aligner,
    Known,
    People,
    Unfit,
    crop_side,
    join,
    name_of,
    outside,
    thumbnail,
)
from training.data.portraits import Face, load_faces, load_fresh, split

HOUSE = [("CivilServiceUSA/us-house", "MIT", f"person-{chr(97 + i)}") for i in range(26)]


def someone(name: str, group: str, place: float, seed: int) -> Known:
    embedding = np.zeros(128, np.float32)
    embedding[0] = place
    image = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return Known(Face(Path(f"{name}.jpg"), 512, "x", name, False), group, embedding, thumbnail(image))


def at(place: float) -> np.ndarray:
    return someone("", "", place, 0).embedding


def test_the_side_is_the_largest_that_the_source_fills() -> None:
    assert [crop_side(s) for s in (900, 511, 383, 279, 278, 167, 166)] == [512, 384, 320, 320, 256, 192, None]


def test_the_share_outside_counts_what_is_reflected() -> None:
    inside = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    assert outside(inside, 100, 100, 100) == 0
    assert outside(inside, 100, 100, 50) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("file", "name"), [
    ("Jane-Doe_headshot_512.jpg", "jane-doe"), ("john.q.public.png", "john-q-public"),
    ("ann-lee-headshot.jpeg", "ann-lee"),
])  # fmt: skip
def test_a_file_says_the_name(file: str, name: str) -> None:
    assert name_of(Path(file)) == name


def test_people_set_aside_are_recognised_first() -> None:
    people = People([someone("held", "held out", 0, 1), someone("new-to-all", "fresh", 2, 2),
                     someone("trained", "training", 4, 3), someone("nobody", "other", 6, 4)])  # fmt: skip
    image = someone("", "", 0, 9).thumbnail
    says = {place: people.judge("jane", at(place), image) for place in (0.3, 2.4, 4.3, 4.1, 6.0, 8.0)}
    assert [(v.identity, v.reason) for v in says.values()] == [
        (None, "held out"), (None, "fresh"), ("trained", "known"), (None, "same photograph"), ("jane", "new"),
        ("jane", "new")]  # fmt: skip
    assert people.judge("held", at(8), image).identity is None  # a name is enough
    assert people.judge("trained", at(8), image).reason == "known, by name"
    assert people.judge("jane", at(0.3), image, apart=True).identity == "jane"
    assert people.judge("jane", at(8), people.known[0].thumbnail, apart=True).identity is None  # one photograph


def test_someone_in_training_is_not_taken_for_a_lookalike() -> None:
    people = People([someone("held", "held out", 0.45, 1), someone("trained", "training", 0, 2)])
    assert people.judge("jane", at(0.21), someone("", "", 0, 9).thumbnail).identity is None  # too near to both
    people = People([someone("held", "held out", 0.7, 1), someone("trained", "training", 0, 2)])
    assert people.judge("jane", at(0.22), someone("", "", 0, 9).thumbnail).identity == "trained"


def test_a_portrait_is_aligned_to_the_template_or_refused() -> None:
    astronaut = data.astronaut()
    with Aligner() as aligner:
        found = aligner.align(astronaut)
        side = found.crop.shape[0]
        assert side == int(found.row["crop_px"]) == 192 and set(found.row) == set(COLUMNS[5:15]) | {"crop_px"}
        with pytest.raises(Unfit, match="too small"):
            aligner.align(np.asarray(cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA)))
        with pytest.raises(Unfit, match="blurred"):
            aligner.align(np.asarray(cv2.GaussianBlur(astronaut, (0, 0), 4)))
        with pytest.raises(Unfit, match="no face"):
            aligner.align(np.full((300, 300, 3), 90, np.uint8))
        with pytest.raises(Unfit, match="several"):
            aligner.align(np.hstack([astronaut, astronaut]))


class Colours:
    """A stand-in for the identity network: the embedding is the mean colour."""

    def __init__(self, *_: object) -> None: ...

    def embed(self, *images: np.ndarray) -> np.ndarray:
        out = np.zeros((len(images), 128), np.float32)
        out[:, :3] = [i.reshape(-1, 3).mean(0) / 50 for i in images]
        return out


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "MANIFEST.csv").open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def manifest(folder: Path, people: list[tuple[str, str, str]]) -> None:
    folder.mkdir(parents=True)
    with (folder / "MANIFEST.csv").open("w", newline="", encoding="utf-8") as f:
        w = csv.DictWriter(f, COLUMNS, restval="0")
        w.writeheader()
        for i, (source, licence, name) in enumerate(people):
            file = f"{source.split('/')[-1]}_{name}.png"
            colour = (i * 37 % 256, i * 101 % 256, 20)
            cv2.imwrite(str(folder / file), np.full((256, 256, 3), colour, np.uint8))
            w.writerow({"file": file, "crop_px": 256, "source_repo": source, "licence": licence, "identity": name})


def test_add_and_join_keep_every_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("training.losses.identity.Identity", Colours)
    known, new, both, images = (tmp_path / n for n in ("known", "new", "both", "images"))
    manifest(known / "train", [*HOUSE, ("writethedocs/www", "CC BY-NC-SA", "writer")])
    held = sorted(f.identity for f in split(load_faces(known))[1])
    images.mkdir()
    astronaut = np.asarray(cv2.resize(data.astronaut(), (1024, 1024), interpolation=cv2.INTER_CUBIC), np.uint8)
    for i, name in enumerate(("jane-doe", "jane-doe-2", held[0], "writer")):
        brighter = np.clip(astronaut.astype(int) + 30 * i, 0, 255).astype(np.uint8)
        cv2.imwrite(str(images / f"{name}.png"), brighter[:, :, ::-1])
    arguments = ["import_portraits", "add", str(images), "--source", "CivilServiceUSA/us-governors", "--licence",
                 "MIT", "--prefix", "gov", "--known", str(known), "--out", str(new)]  # fmt: skip
    monkeypatch.setattr("sys.argv", arguments)
    assert import_portraits.main() == 0
    added = rows(new / "train")
    assert [(r["identity"], r["crop_px"]) for r in added] == [("jane-doe", "320")]
    written = cv2.imread(str(new / "train" / added[0]["file"]))
    assert written is not None and written.shape == (320, 320, 3)
    said = capsys.readouterr().out
    assert f"{held[0]}.png: held out, by name" in said and "writer.png: fresh, by name" in said
    assert "jane-doe.png: same photograph" in said

    monkeypatch.setattr("sys.argv", ["import_portraits", "join", str(known), str(new), "--into", str(both)])
    assert import_portraits.main() == 0
    before, after = split(load_faces(known)), split(load_faces(both))
    for side in (0, 1):
        assert {f.identity for f in before[side]} <= {f.identity for f in after[side]}
    assert [f.identity for f in load_fresh(both)] == ["writer"]


def test_a_later_source_moves_nobody(tmp_path: Path) -> None:
    manifest(tmp_path / "old" / "train", HOUSE)
    before = split(load_faces(tmp_path / "old"))
    manifest(tmp_path / "new" / "train", [("angular/angular.io", "MIT", f.identity) for f in before[0][:3]]
             + [("angular/angular.io", "MIT", f"other-{i}") for i in range(12)])  # fmt: skip
    after = split(join([tmp_path / "old", tmp_path / "new"], tmp_path / "both"))
    assert {f.identity for f in before[1]} < {f.identity for f in after[1]}
    assert not {f.identity for f in before[0]} & {f.identity for f in after[1]}


def test_join_refuses_whom_it_would_move(tmp_path: Path) -> None:
    manifest(tmp_path / "old" / "train", HOUSE)
    kept = split(load_faces(tmp_path / "old"))[0]
    manifest(tmp_path / "new" / "train", [("CivilServiceUSA/us-senate", "MIT", f.identity) for f in kept[:1]])
    with pytest.raises(ValueError, match="would change sides"):
        join([tmp_path / "old", tmp_path / "new"], tmp_path / "both")
    with pytest.raises(ValueError, match="of one name"):
        join([tmp_path / "old", tmp_path / "old"], tmp_path / "twice")
