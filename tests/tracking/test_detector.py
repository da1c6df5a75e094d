"""YuNet's decoding, and where the search looks."""

import numpy as np
import pytest

from rtface.tracking.detector import SIZE, Detection, Detector, suppress
from rtface.tracking.detector_search import ROUNDS, WHOLE_ENOUGH, DetectorSearch, tiles
from rtface.tracking.facemesh import Region
from tests.tracking.scenes import ArrayView, astronaut, background


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector()


def test_finds_the_astronaut_and_her_points(detector):
    view = ArrayView(astronaut())
    (found,) = detector.detect(view.crop(Region(256, 256, 512, 0).matrix(SIZE), (SIZE, SIZE)), 0.6)
    found = found.moved(512 / SIZE, 0, 0)
    assert found.score > 0.9
    # By eye: eyes, nose tip, mouth corners of skimage's portrait.
    expected = [(204, 107), (244, 108), (224, 128), (205, 145), (243, 146)]
    assert np.abs(found.points - expected).max() < 8
    assert np.linalg.norm(found.centre - (225, 122)) < 6
    assert 75 < found.width < 110


def test_suppress_keeps_the_strongest_of_each_face():
    def at(x: float, score: float) -> Detection:
        return Detection(np.array([x, 0, x + 10, 10]), np.zeros((5, 2)), score)

    assert [d.score for d in suppress([at(0, 0.6), at(1, 0.9), at(40, 0.7), at(41, 0.5)])] == [0.9, 0.7]
    assert suppress([]) == []


class OneFace:
    """Finds one face: where the region cuts it, the part inside, and surer of that."""

    box = np.array([660.0, 300, 760, 420])

    def detect(self, rgb, threshold):
        return []

    def detect_in(self, view, matrix, threshold):
        corners = self.box.reshape(2, 2) @ matrix[:, :2].T + matrix[:, 2]
        part = np.clip(corners, 0, SIZE)
        found = Detection(part.reshape(4), np.zeros((5, 2)), 0.7 if np.allclose(part, corners) else 0.9)
        return [found] if np.prod(part[1] - part[0]) > 0 else []


def test_a_face_cut_by_a_region_does_not_stand_for_the_whole_one():
    (found,) = DetectorSearch(OneFace()).everywhere(ArrayView(np.zeros((720, 1440, 3), np.uint8)))
    assert found.score == 0.7
    np.testing.assert_allclose(found.box, OneFace.box)
    np.testing.assert_allclose(found.cover, OneFace.box)


class SharpEnough:
    """Finds what lies in a region and has at least 14 of its pixels: a large face, a pattern on it, a small face."""

    boxes = np.array([[100.0, 100, 300, 340], [180, 160, 196, 180], [600, 300, 616, 320]])

    def detect(self, rgb, threshold):
        return []

    def detect_in(self, view, matrix, threshold):
        corners = self.boxes.reshape(-1, 2, 2) @ matrix[:, :2].T + matrix[:, 2]
        seen = ((corners > 0) & (corners < SIZE)).all((1, 2)) & (np.diff(corners[..., 0])[:, 0] >= 14)
        return [Detection(box.reshape(4), np.zeros((5, 2)), 0.8) for box in corners[seen]]


def test_a_still_is_searched_for_smaller_faces_too():
    search, view = DetectorSearch(SharpEnough()), ArrayView(np.zeros((720, 1280, 3), np.uint8))
    large, _, small = SharpEnough.boxes
    np.testing.assert_allclose([d.box for d in search.everywhere(view)], [large])
    np.testing.assert_allclose([d.box for d in search.everywhere(view, thorough=True)], [large, small])


@pytest.mark.parametrize(
    ("width", "height"), [(640, 360), (1280, 720), (720, 1280), (1920, 1080), (3840, 2160), (1440, 544)]
)
def test_every_small_face_lies_whole_in_some_tile(width, height):
    todo = tiles(width, height)
    if max(width, height) <= WHOLE_ENOUGH:
        assert not todo
        return
    xs, ys = np.meshgrid(np.linspace(45, width - 45, 23), np.linspace(45, height - 45, 23))
    for x, y in zip(xs.ravel(), ys.ravel(), strict=True):
        assert any(max(abs(x - r.x), abs(y - r.y)) + 45 <= r.side / 2 + 1e-6 for r in todo), (x, y)
    assert all(r.side <= 800 for r in todo)


@pytest.mark.parametrize("calm", [False, True])
def test_a_round_takes_its_time_whatever_the_frame_rate(detector, calm):
    for fps in (10, 30, 60):
        view = ArrayView(background(1280, 720))
        search = DetectorSearch(detector)
        for _ in range(round(fps * ROUNDS[calm] * 2)):
            search.step(view, 1 / fps, calm=calm)
        assert abs(view.looks - 2 * (1 + len(tiles(1280, 720)))) <= 1
