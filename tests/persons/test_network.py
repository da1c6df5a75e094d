"""The shipped network: its own answers, and the distances that the thresholds rely on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from rtface.errors import MissingComponent
from rtface.frame import Bytes, Face
from rtface.persons.chip import SIDE, chip_matrix
from rtface.persons.gallery import JOIN, distance
from rtface.persons.network import PersonNetwork
from tests.pipeline.fakes import ASTRONAUT


@pytest.fixture(scope="module")
def network() -> PersonNetwork:
    return PersonNetwork()


def chip(*, blur: float = 0.0, turn: float = 0.0) -> Bytes:
    """The astronaut's chip; turned by so many degrees in the picture."""
    picture = np.ascontiguousarray(data.astronaut())
    if blur:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    around = cv2.getRotationMatrix2D((226.0, 128.0), turn, 1.0)
    picture = cv2.warpAffine(picture, around, (512, 512))
    points = ASTRONAUT @ around[:, :2].T + around[:, 2]
    shown = Face(1, np.array([170.0, 70.0, 280.0, 190.0]), points)
    return np.asarray(cv2.warpAffine(picture, chip_matrix(shown), (SIDE, SIDE), flags=cv2.INTER_AREA), np.uint8)


def test_answers_are_those_that_were_measured(network: PersonNetwork) -> None:
    answer = network(chip())
    assert answer.shape == (128,)
    assert float(np.linalg.norm(answer)) == pytest.approx(1, abs=1e-5)
    assert np.allclose(answer[:6], GOLDEN, atol=5e-3)


GOLDEN = [-0.0596, 0.0371, 0.0050, -0.0261, -0.1363, -0.0014]


@pytest.mark.parametrize("change", [{"blur": 2.0}, {"turn": 20.0}, {"blur": 1.0, "turn": -15.0}])
def test_one_person_stays_near(network: PersonNetwork, change: dict[str, float]) -> None:
    assert distance(network(chip()), network(chip(**change))) < 0.7 * JOIN


def test_a_damaged_network_says_how_to_repair_it(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"x")
    with pytest.raises(MissingComponent, match="person network"):
        PersonNetwork(path)
