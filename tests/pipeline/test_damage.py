"""``--damage repair`` in whole runs, with the network that ships."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import rtface
from rtface.config.options import Options
from rtface.device.cpu.device import CpuDevice, HostCorrection
from rtface.engine.damage_network import DamageNetwork
from rtface.enhance.damage_repair import DamageRepair
from rtface.errors import MissingComponent, UsageError
from rtface.stats import Stats
from tests.pipeline.fakes import face_at, frame_of, portrait
from tests.pipeline.run_media import decoded, write_film
from training.data.damaged_faces import HARMLESS


def flecked(image: np.ndarray, points: np.ndarray, down: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """The image with a light fleck on the cheek, and where it is."""
    mask, (x, y) = np.zeros(image.shape[:2], np.uint8), points.mean(axis=0)
    cv2.circle(mask, (int(x + 40), int(y + down)), 3, 1, -1)
    return np.where(mask[..., None] > 0, np.uint8(245), image).astype(np.uint8), mask


def pixels(path: Path) -> np.ndarray:
    """An image as RGB."""
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def error(image: np.ndarray, clean: np.ndarray, mask: np.ndarray) -> float:
    """Mean absolute difference where the mask is set."""
    return float(np.abs(image.astype(int) - clean)[mask > 0].mean())


def test_still_is_repaired_and_says_so(tmp_path: Path) -> None:
    clean, points = portrait(480, 360, scale=1.3, blur=0.0)
    seen, mask = flecked(clean, points)
    assert cv2.imwrite(str(tmp_path / "in.png"), seen[..., ::-1])
    report = rtface.run(tmp_path / "in.png", tmp_path / "out.png", damage="repair")
    out = pixels(tmp_path / "out.png")
    assert error(out, clean, mask) < 0.4 * error(seen, clean, mask)
    assert report.damage["faces"] == 1 and 0.001 < report.damage["filled"] < 0.15
    with Image.open(tmp_path / "out.png") as image:
        assert "damage=repair" in str(image.info)


def test_clean_face_is_the_same_with_the_option(tmp_path: Path) -> None:
    clean, _ = portrait(480, 360, scale=1.3, blur=1.5)
    assert cv2.imwrite(str(tmp_path / "in.png"), clean[..., ::-1])
    reports = [
        rtface.run(tmp_path / "in.png", tmp_path / f"{damage}.png", damage=damage) for damage in ("none", "repair")
    ]
    assert [report.damage for report in reports] == [{}, {}]
    assert [any("filled nothing" in note for note in report.notes) for report in reports] == [False, True]
    assert np.array_equal(pixels(tmp_path / "none.png"), pixels(tmp_path / "repair.png"))


def test_dust_in_a_film_is_filled(tmp_path: Path) -> None:
    faces = [portrait(320, 240, scale=1.3, blur=0.8, shift=(0.5 * t, 0.0)) for t in range(4)]
    frames = [flecked(*face, down=6 + 2 * t) if t else (face[0], None) for t, face in enumerate(faces)]
    source = write_film(tmp_path / "in.mkv", [image for image, _ in frames])
    report = rtface.run(source, tmp_path / "out.mkv", damage="repair", correct="always", strength=0.999)
    before, after = decoded(source, "rgb24"), decoded(tmp_path / "out.mkv", "rgb24")
    gained = [
        error(after[t], faces[t][0], mask) / error(before[t], faces[t][0], mask)
        for t, (_, mask) in enumerate(frames)
        if mask is not None
    ]
    assert report.damage["frames"] >= 2
    assert np.mean(gained) < 0.8  # some specks are not sure enough


@pytest.mark.usefixtures("engines")
def test_enhancer_says_how_much_was_filled() -> None:
    clean, points = portrait(480, 360, scale=1.3, blur=0.0)
    seen, _ = flecked(clean, points)
    with rtface.Enhancer(damage="repair", grain="none") as e:
        e(seen, still=True)
        assert 0.001 < e.results[0].filled < 0.15
        e.strength = 0.0
        assert np.array_equal(e(seen, still=True), seen)
        assert e.results[0].filled == 0.0


def test_live_runs_refuse_the_option(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="damage"):
        rtface.run("camera:0", tmp_path / "out.mkv", damage="repair")


def test_network_that_is_not_the_shipped_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a network")
    for path in (tmp_path / "model.onnx", tmp_path / "absent.onnx"):
        with pytest.raises(MissingComponent, match=path.name):
            DamageNetwork(path)


@pytest.mark.parametrize("draw", sorted(set(HARMLESS), key=lambda draw: draw.__name__))
def test_sound_faces_stay(draw: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> None:
    """A small part of what `training.evaluation.sound_faces` counts: faces with glasses, hair, moles, things before
    them, and glints."""
    step = DamageRepair(DamageNetwork(), CpuDevice(), HostCorrection, Options.of({"damage": "repair"}), Stats())
    image, points = portrait(256, 256, scale=1.0, blur=0.5)
    for k in range(12):
        given = replace(frame_of(draw(image, np.random.default_rng(k)), k, "rgb24", new=True), faces=(face_at(points),))
        assert step.process(given) is given
