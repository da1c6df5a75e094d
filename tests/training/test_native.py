"""Measuring coded film: films at their own size, sharp truths, figures, and the command."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from rtface.geometry.transforms import apply
from training.crop_space import U8, oval_mask, similarity
from training.data.portraits import Face, split, tuning_people
from training.degradation.coded_film import coded_film, coded_frames, decoded, level, noise_of
from training.degradation.ycbcr import from_rgb, shown
from training.evaluation import measure
from training.evaluation.figures import Ruler, summary, table
from training.evaluation.truths import (
    Truth,
    film_of,
    oval_of,
    people,
    resample,
    sharpness,
)

FACE: U8 = np.ascontiguousarray(data.astronaut()[0:320, 64:384])


def astronaut(side: float = 64, frames: int = 4) -> Truth:
    truth = film_of(FACE, "astronaut", side, frames=frames)
    truth.first = min(1, frames - 1)
    return truth


def error(a: list[U8], b: list[U8]) -> float:
    return float(np.mean([(x.astype(float) - y) ** 2 for x, y in zip(a, b, strict=True)]))


# --- levels ---


def test_levels_have_noise_by_quality_or_their_own() -> None:
    assert [noise_of(q) for q in (18, 22, 26, 27, 31, 36, 50)] == [0, 1, 1, 2, 3, 3, 3]
    assert level("h264/27").sigma == 2 and level("h264/27+n0").sigma == 0 and level("clean/4").sigma == 4
    assert level("h264-call/300k").bit_rate == 300_000 and level("twice/27-23").first == level("h264/27")


@pytest.mark.parametrize("name", ["h264", "h265/27", "h264/good", "twice/27", "h264/27+n"])
def test_unknown_levels_are_refused_with_what_there_is(name: str) -> None:
    with pytest.raises(ValueError, match=r"no such level: .*; (a level is|the quality of)"):
        level(name)


@pytest.mark.parametrize("name", ["h264/30", "hevc/30", "vp8/60k", "mpeg2/10",
                                  "twice/30-26", "clean/2", "jpeg/30"])  # fmt: skip
def test_every_coding_writes_films_that_are_like_the_truth(name: str, tmp_path: Path) -> None:
    truth, how = astronaut().frames, level(name)
    path, memory = tmp_path / f"film{how.suffix}", io.BytesIO()
    coded_film(truth, how, path, 3)
    coded_film(truth, how, memory, 3)
    seen = list(decoded(path, how.siting))
    assert len(seen) == (1 if how.still else len(truth))
    assert 1 < error(seen, truth[: len(seen)]) < 150
    assert error(seen, list(decoded(memory, how.siting))) == 0
    assert error(seen, coded_frames(truth, how, 4)) > 0.5 or how.sigma == 0


def test_worse_quality_is_worse() -> None:
    truth = astronaut().frames
    for names in (("h264/14+n0", "h264/30+n0", "h264/45+n0"), ("mpeg2/2", "mpeg2/25"), ("jpeg/90", "jpeg/20"),
                  ("h264/22+n0", "h264/22+n8")):  # fmt: skip
        errors = [error((seen := coded_frames(truth, level(n))), truth[: len(seen)]) for n in names]
        assert errors == sorted(errors) and errors[0] < 0.9 * errors[-1]


@pytest.mark.parametrize("siting", ["left", "center"])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv422p10le", "yuv444p", "yuv411p"])
def test_pixel_formats_come_back_with_colour_in_place(pixels: str, siting: str) -> None:
    smooth = np.asarray(cv2.GaussianBlur(FACE, (0, 0), 5), np.uint8)
    assert error([shown(from_rgb(smooth, pixels, siting), siting)], [smooth]) < 1


# --- truths ---


def test_a_truth_is_as_sharp_as_reduction_by_area() -> None:
    matrix = similarity(160 / 512, 0.0, (79.5, 79.5), 512)  # exactly a half of the picture
    area = cv2.resize(FACE, (160, 160), interpolation=cv2.INTER_AREA)
    got = resample(FACE, matrix, np.zeros((160, 160, 3), np.uint8))
    inner = np.s_[16:-16, 16:-16]
    assert error([got[inner]], [area[inner]]) < 3
    still = Truth("a", [got], [matrix])
    soft = Truth("a", [np.asarray(cv2.GaussianBlur(got, (0, 0), 1.5), np.uint8)], [matrix])
    assert sharpness(still) > 4 > sharpness(soft)


def test_a_portrait_moves_by_parts_of_a_pixel_along_its_matrices() -> None:
    truth = film_of(FACE, "astronaut", 96)
    eyes = np.array([[192.98, 239.95], [318.9, 240.2]])
    way = np.array([apply(m, eyes) for m in truth.matrices])
    assert 0.5 < np.abs(way[-1] - way[0]).max() < 10 and np.abs(np.diff(way, axis=0)).max() < 1
    size = truth.frames[0].shape[1::-1]
    shifted = cv2.warpAffine(truth.frames[0], _from_to(truth.matrices[0], truth.matrices[-1]), size)
    oval = oval_of(truth.matrices[-1], size)[..., None]
    moved, stayed = (float((oval * (f.astype(float) - truth.frames[-1]) ** 2).sum())
                     for f in (shifted, truth.frames[0]))  # fmt: skip
    assert moved < 0.5 * stayed and truth.first == 12 and abs(truth.width - 96 * 0.53) < 3


def _from_to(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (np.vstack([b, [0, 0, 1]]) @ np.linalg.inv(np.vstack([a, [0, 0, 1]])))[:2]


def test_masks_follow_the_face() -> None:
    oval = oval_of(similarity(0.5, 0.0, (200, 150), 512), (400, 320))
    assert abs(float(oval.sum()) / (float(oval_mask(512).sum()) / 4) - 1) < 0.01


def test_people_for_tuning_are_no_people_set_aside() -> None:
    faces = [Face(Path(f"{n}-{k}.jpg"), 512, "djangocon/1", f"person-{n}", n % 7 == 0)
             for n in range(60) for k in (0, 1)]  # fmt: skip
    known, aside = split(faces)
    tuning = tuning_people(faces)
    assert len(tuning) == 20 and tuning == tuning_people(faces[::-1])
    assert tuning < {f.identity for f in known if not f.gray}
    assert {f.identity for f in people(faces, "tuning")} == tuning
    assert {f.identity for f in people(faces, "set-aside")} == {f.identity for f in aside if not f.gray}


# --- figures ---


def test_figures_compare_with_the_truth_inside_the_oval() -> None:
    truth = astronaut()
    coded = coded_frames(truth.frames, level("h264/36"))
    ruler = Ruler(truth)
    row = ruler.row(coded, coded)
    assert row["default"] == row["luma"] == row["change"] == row["changed"] == 0
    assert row["flicker"] == pytest.approx(1) == row["sharper"]
    size = truth.frames[0].shape[1::-1]
    in_oval = [np.where(oval_of(m, size)[..., None] > 0, t, c)
               for m, t, c in zip(truth.matrices, truth.frames, coded, strict=True)]  # fmt: skip
    perfect = ruler.row(coded, in_oval)
    assert perfect["default"] > 20 and perfect["luma"] > 20 and perfect["changed"] == 1
    assert perfect["sharper"] > 1.1 and perfect["flicker"] < 0.01


def test_summary_counts_the_harmed_and_keeps_the_worst() -> None:
    rows = [{"default": d, "flicker": r} for d, r in ((0.5, 0.1), (-0.04, 0.3), (-0.4, 0.2), (0.1, 0.0))]
    mean = summary(rows)
    assert mean["harmed"] == 0.25 and mean["worst default"] == -0.4 and mean["worst flicker"] == 0.3
    assert mean["default"] == pytest.approx(0.04) and "+0.04 (-0.40)" in table("t", {"h264/27": mean})


# --- the command ---


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    folder = tmp_path / "faces" / "train"
    folder.mkdir(parents=True)
    with (folder / "MANIFEST.csv").open("w", newline="") as f:
        write = csv.writer(f)
        write.writerow(["file", "crop_px", "source_repo", "licence", "gray", "identity"])
        for n, picture in enumerate((FACE, cv2.GaussianBlur(FACE, (0, 0), 3))):
            big = cv2.resize(picture, (512, 512), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(folder / f"{n}.png"), big[:, :, ::-1])
            write.writerow([f"{n}.png", 512, f"djangocon/{n}", "MIT", 0, f"person {n}"])
    return folder.parent


def test_the_command_measures_what_runs_do(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                           capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    cache, found = tmp_path / "cache", tmp_path / "measure.json"
    monkeypatch.setattr(sys, "argv", [
        "measure", "--faces", str(faces), "--people", "set-aside", "--levels", "jpeg/30,jpeg/90",
        "--width", "80", "--option", "engine=rtface-s", "--cache", str(cache), "--json", str(found)])  # fmt: skip
    measure.main()
    said = capsys.readouterr().out
    assert "portraits, set-aside" in said and "| jpeg/30" in said
    result = json.loads(found.read_text())
    rows = {row["level"]: row for row in result["rows"]["portraits"]}  # the soft portrait is left out
    assert result["options"] == {"engine": "rtface-s"} and list(rows) == ["jpeg/30", "jpeg/90"]
    assert 25 < rows["jpeg/30"]["input"] < rows["jpeg/90"]["input"] < 45 and rows["jpeg/30"]["changed"] == 1
    assert len(list((cache / "coded").iterdir())) == 2
