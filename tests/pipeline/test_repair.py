"""``--repair`` in whole runs, and ``rtface damage``: what is filled, what is said of it, and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import rtface
from rtface.cli.app import app
from rtface.errors import InputError, InputMissing, OutputError, UsageError
from rtface.trust.inspection import inspect_file
from rtface.trust.verify import verify
from tests.pipeline.fakes import portrait

pytestmark = pytest.mark.usefixtures("engines")


@pytest.fixture(scope="module")
def print_and_mask(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A sharp portrait with white cracks, and the mask of these."""
    folder = tmp_path_factory.mktemp("print")
    picture, mask = portrait(blur=0, width=400, height=300)[0].copy(), np.zeros((300, 400), np.uint8)
    for ends in (((0, 90), (400, 190)), ((230, 0), (180, 300)), ((20, 280), (150, 200))):
        cv2.line(mask, *ends, 255, 4)
    picture[mask > 0] = 245
    cv2.imwrite(str(folder / "print.png"), picture[..., ::-1])
    cv2.imwrite(str(folder / "mask.png"), mask)
    return folder / "print.png", folder / "mask.png"


def pixels(path: Path) -> np.ndarray:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)).astype(int)


def test_the_marked_damage_goes_and_every_record_says_so(print_and_mask: tuple[Path, Path], tmp_path: Path) -> None:
    source, mask_file = print_and_mask
    mask, out = pixels(mask_file), tmp_path / "out.png"
    report = rtface.run(source, out, repair=mask_file, correct="never", sidecar=True, compare=tmp_path / "pair.png")
    count = int((mask > 0).sum())
    assert [one.filled for one in report.images] == [count] and any(str(count) in note for note in report.notes)
    before, after = pixels(source), pixels(out)
    assert np.array_equal(after[mask == 0], before[mask == 0])
    truth = portrait(blur=0, width=400, height=300)[0][..., ::-1].astype(int)
    assert np.abs(after - truth)[mask > 0].mean() < 0.25 * np.abs(before - truth)[mask > 0].mean()
    pair = pixels(tmp_path / "pair.png")
    assert np.array_equal(pair, np.hstack([before, after]))
    said = json.loads((tmp_path / "out.png.rtface.json").read_text())
    assert said["filled"] == {"print.png": count} and said["changes"] == ["filled"]
    assert verify(out, input=source).input == "same"
    info = inspect_file(out)
    assert info.rtface["rtface_filled"] == f"{count} pixels"
    assert str(info.source_type).endswith("compositeWithTrainedAlgorithmicMedia")


def test_a_black_mask_changes_nothing_beyond_the_plain_run(print_and_mask: tuple[Path, Path], tmp_path: Path) -> None:
    source, black = print_and_mask[0], tmp_path / "mask.png"
    cv2.imwrite(str(black), np.zeros((300, 400), np.uint8))
    for name, mask in (("plain", None), ("black", black)):
        rtface.run(source, tmp_path / f"{name}.png", correct="always", repair=mask)
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "black.png").read_bytes()


@pytest.mark.parametrize("kind", ["16 bits", "opaque", "painted on nothing", "a photo of it"])
def test_masks_of_other_kinds_mark_the_same(kind: str, print_and_mask: tuple[Path, Path], tmp_path: Path) -> None:
    source, mask_file = print_and_mask
    mask, other = pixels(mask_file).astype(np.uint8), tmp_path / ("mask.jpg" if kind == "a photo of it" else "mask.png")
    white = np.full_like(mask, 255)
    forms: dict[str, Any] = {
        "16 bits": mask.astype(np.uint16) * 257,
        "opaque": np.dstack([mask, mask, mask, white]),
        "painted on nothing": np.dstack([white, white, white, mask]),
        "a photo of it": mask,
    }
    cv2.imwrite(str(other), forms[kind])
    for name, file in (("one", mask_file), ("other", other)):
        rtface.run(source, tmp_path / f"{name}.png", repair=file, correct="never")
    difference = np.abs(pixels(tmp_path / "one.png") - pixels(tmp_path / "other.png"))
    assert difference.max() <= (0 if kind != "a photo of it" else 40) and difference.mean() < 0.2


def test_a_folder_takes_masks_by_name_and_others_stay(print_and_mask: tuple[Path, Path], tmp_path: Path) -> None:
    source, mask_file = print_and_mask
    album, masks = tmp_path / "album", tmp_path / "masks"
    album.mkdir()
    masks.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        (album / name).write_bytes(source.read_bytes())
    for name in ("a.png.png", "x.png"):
        (masks / name).write_bytes(mask_file.read_bytes())
    cv2.imwrite(str(masks / "c.png"), np.zeros((5, 5), np.uint8))
    with pytest.raises(InputError, match=r"1 of 3 images failed.*mask has 5×5 pixels, but the photograph 400×300"):
        rtface.run(album, tmp_path / "out", repair=masks, correct="never")
    filled, kept = (pixels(tmp_path / "out" / name) for name in ("a.png", "b.png"))
    assert np.array_equal(kept, pixels(source)) and not np.array_equal(filled, kept)
    (masks / "c.png").unlink()
    report = rtface.run(album, tmp_path / "again", repair=masks, correct="never")
    assert any("belong to no image: x.png" in note for note in report.notes)


def test_no_output_replaces_a_mask(print_and_mask: tuple[Path, Path], tmp_path: Path) -> None:
    source, mask_file = print_and_mask
    mask = tmp_path / "mask.png"
    mask.write_bytes(mask_file.read_bytes())
    for output, options in ((mask, {}), (tmp_path / "out.png", {"compare": mask})):
        with pytest.raises(OutputError, match="is the input itself"):
            rtface.run(source, output, repair=mask, overwrite=True, **options)
    with pytest.raises(OutputError, match="input"):
        rtface.run(source, mask, repair=tmp_path, overwrite=True)
    with pytest.raises(InputMissing, match="there is no such file"):
        rtface.run(source, tmp_path / "out.png", repair=tmp_path / "no.png")


def test_an_enlarged_filling_is_within_its_boxes(print_and_mask: tuple[Path, Path], tmp_path: Path) -> None:
    source, mask = print_and_mask[0], np.zeros((300, 400), np.uint8)
    mask[64:96, 96:192] = 255  # to the edges of the cells of which the boxes consist
    mask[200:230] = 5  # too little to be filled
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    out, options = tmp_path / "out.png", {"correct": "never", "scale": 2, "sidecar": True}
    report = rtface.run(source, out, repair=tmp_path / "mask.png", **options)
    assert report.images[0].filled == (mask == 255).sum()
    assert verify(out, input=source).input == "same"


def test_auto_fills_what_it_proposes_and_says_how_much(print_and_mask: tuple[Path, Path], tmp_path: Path) -> None:
    source, mask_file = print_and_mask
    report = rtface.run(source, tmp_path / "out.png", repair="auto", correct="never")
    result = CliRunner().invoke(app, ["damage", str(source), str(tmp_path / "proposal.png"), "--json"])
    assert result.exit_code == 0, result.stderr
    proposal, truth = pixels(tmp_path / "proposal.png"), pixels(mask_file)
    assert proposal.shape == truth.shape and (proposal[truth > 0] > 0).mean() > 0.1
    assert report.images[0].filled == (proposal > 0).sum() > 0
    assert abs(json.loads(result.stdout)["share"] - (proposal > 0).mean()) < 1e-4


def test_a_folder_gets_a_folder_of_masks(print_and_mask: tuple[Path, Path], tmp_path: Path) -> None:
    album, masks = tmp_path / "album", tmp_path / "masks"
    album.mkdir()
    for name in ("a.png", "b.jpg"):
        cv2.imwrite(str(album / name), pixels(print_and_mask[0]))
    (album / "c.png").write_bytes(b"no image")
    result = CliRunner().invoke(app, ["damage", str(album), str(masks)])
    assert result.exit_code != 0 and "1 of 3 photographs cannot be read" in result.stderr
    assert sorted(path.name for path in masks.iterdir()) == ["a.png.png", "b.jpg.png"]
    (album / "c.png").unlink()
    rtface.run(album, tmp_path / "masked", repair=masks, correct="never")
    rtface.run(album, tmp_path / "auto", repair="auto", correct="never")
    assert np.array_equal(pixels(tmp_path / "masked" / "a.png"), pixels(tmp_path / "auto" / "a.png"))


def test_wrong_names_are_refused_in_one_line(print_and_mask: tuple[Path, Path], tmp_path: Path) -> None:
    source, _ = print_and_mask
    for output, words in (("mask.jpg", "a mask is a PNG file"), ("no/mask.png", "no")):
        result = CliRunner().invoke(app, ["damage", str(source), str(tmp_path / output)])
        assert result.exit_code != 0 and words in result.stderr and "Traceback" not in result.stderr
    with pytest.raises(UsageError, match=r"takes effect|no effect|stills"):
        rtface.run(tmp_path / "film.mkv", tmp_path / "out.mkv", repair="auto")
