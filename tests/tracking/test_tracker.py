"""The tracker as a whole: sizes, tilts, ids, cuts, and what is no face."""

import contextlib
from typing import NamedTuple

import numpy as np
import pytest
from skimage import data

from rtface.errors import UsageError
from rtface.protocols import Tracker
from rtface.tracking import create_tracker
from rtface.tracking.detector import Detector
from rtface.tracking.detector_search import DetectorSearch
from rtface.tracking.facemesh import FaceMesh, Mesh
from rtface.tracking.mediapipe import COAST_S, MediaPipeTracker
from rtface.util import plugins
from tests.tracking.scenes import ArrayView, astronaut, background, middle, paste

FPS = 30.0


class Networks(NamedTuple):
    reader: FaceMesh
    detector: Detector


@pytest.fixture(scope="module")
def networks() -> Networks:
    """Compiled once; `tracker` makes fresh trackers around them."""
    return Networks(FaceMesh(), Detector())


@pytest.fixture
def tracker(networks) -> MediaPipeTracker:
    return MediaPipeTracker(networks.reader, DetectorSearch(networks.detector))


def play(tracker, pictures, start: float = 0.0):
    return [tracker.update(ArrayView(p), start + i / FPS) for i, p in enumerate(pictures)]


@pytest.mark.parametrize(
    ("width", "places"),
    [
        (40, [(200, 150), (640, 360), (1100, 600)]),
        (60, [(100, 650), (655, 90)]),
        (120, [(640, 360), (1180, 100)]),
        (400, [(640, 360), (300, 400)]),
        (620, [(640, 370)]),
    ],
)
def test_faces_of_every_size_on_the_first_picture_of_720p(tracker, width, places):
    for x, y in places:
        tracker.reset()
        (face,) = tracker.update(ArrayView(paste(background(1280, 720), width, x, y)), 0.0)
        assert np.linalg.norm(middle(face.box) - (x, y)) < 0.06 * width
        assert abs(face.width - width) < 0.12 * width
        assert face.score > 0.9
        assert face.mesh.shape == (478, 3)
        assert face.points.shape == (5, 2)


@pytest.mark.parametrize("tilt", [-45, -30, 30, 45])
def test_tilted_faces(tracker, tilt):
    (face,) = tracker.update(ArrayView(paste(background(640, 480), 130, 320, 240, tilt=tilt)), 0.0)
    (upright,) = create_faces(tracker, paste(background(640, 480), 130, 320, 240))
    assert abs(face.pose[2] - upright.pose[2] - tilt) < 4


def create_faces(tracker, picture):
    tracker.reset()
    return tracker.update(ArrayView(picture), 0.0)


def test_new_small_face_is_found_within_half_a_second(tracker):
    under = background(1280, 720, 5)
    before, after = ArrayView(under), ArrayView(paste(under, 42, 990, 560))
    assert not tracker.update(before, 0.0)
    for i in range(1, 5):
        assert not tracker.update(before, i / FPS)
    waited = next(i for i in range(40) if tracker.update(after, (5 + i) / FPS))
    assert waited <= 0.5 * FPS


def test_a_picture_without_faces_costs_a_fraction_of_a_look(tracker):
    picture = background(1280, 720, 5)
    views = [ArrayView(picture) for _ in range(21)]
    for i, view in enumerate(views):
        assert not tracker.update(view, i / FPS)
    assert sum(v.looks for v in views[1:]) / 20 <= 0.4


def test_ids_stay_when_two_faces_cross(tracker):
    under, n = background(640, 360, 3), 30
    pictures, xs = [], []
    for i in range(n):
        a, b = 120 + 400 * i / (n - 1), 520 - 400 * i / (n - 1)
        xs.append((a, b))
        back = paste(under, 90, b, 190, mirror=True, tint=(0.7, 0.85, 1.1))
        pictures.append(paste(back, 90, a, 175))
    shown = play(tracker, pictures)

    def who(i: int, x: float) -> int:
        return min(shown[i], key=lambda f: abs(middle(f.box)[0] - x)).track_id

    assert len(shown[0]) == len(shown[-1]) == 2
    assert [who(0, x) for x in xs[0]] == [who(n - 1, x) for x in xs[-1]]
    assert {f.track_id for faces in shown for f in faces} == {1, 2}


@pytest.mark.parametrize("speed", [0.0, 2.0])
def test_id_survives_half_a_second_behind_something(tracker, speed):
    pictures = []
    for i in range(28):
        x = 220 + speed * i
        picture = paste(background(640, 360, 3), 100, x, 180)
        if 5 <= i < 20:
            picture[60:300, int(x) - 90 : int(x) + 90] = background(180, 240, 9)
        pictures.append(picture)
    shown = play(tracker, pictures)
    assert [f.track_id for f in shown[4]] == [1]
    scores = [faces[0].score for faces in shown[4 : 5 + round(COAST_S * FPS)] if faces]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < 0.6
    assert not any(shown[12:19]), "a hidden face must not be shown for long"
    assert [f.track_id for f in shown[-1]] == [1]
    assert sum(bool(faces) for faces in shown[20:]) >= 6


def seen(tracker: Tracker, count: int, size: tuple[int, int], times: list[float]) -> list[list[int]]:
    """Ids of faces that sway a little, on frames at these times."""
    width, height = size
    under, face = background(width, height, 3), height / 5
    ids: list[list[int]] = []
    for time in times:
        picture = under
        for k in range(count):
            x = width * (k + 0.7) / (count + 0.4) + 0.15 * face * np.sin(3.3 * time + k)
            picture = paste(
                picture,
                face,
                x,
                height * (0.35 + 0.3 * (k % 2)),
                mirror=bool(k % 2),
                tint=(1 - 0.1 * k, 1.0, 1 + 0.05 * k),
            )
        ids.append(sorted(f.track_id for f in tracker.update(ArrayView(picture), time)))
    return ids


@pytest.mark.parametrize(
    ("rate", "every", "count", "size"),
    [
        (30, 3, 4, (640, 480)),
        (30, 5, 2, (854, 480)),
        (15, 2, 1, (1280, 720)),
        pytest.param(30, 4, 4, (1920, 1080), marks=pytest.mark.slow),
        pytest.param(15, 5, 2, (1920, 1080), marks=pytest.mark.slow),
    ],
)
def test_no_face_is_lost_where_few_frames_are_tracked(tracker, rate, every, count, size):
    tracker.sparing = every > 1
    ids = seen(tracker, count, size, [i * every / rate for i in range(10)])
    assert ids == [list(range(1, count + 1))] * 10


def test_no_face_is_lost_where_the_rate_changes(tracker):
    tracker.sparing = True
    gaps = [1 / rate for rate in (30, 15, 7.5, 30) for _ in range(5)]
    assert seen(tracker, 1, (640, 480), list(np.cumsum(gaps))) == [[1]] * 20


class Blind:
    """A mesh reader that sees no face while it is `blind`."""

    def __init__(self, reader: FaceMesh) -> None:
        self.reader, self.blind = reader, False

    def read(self, view, region):
        mesh = self.reader.read(view, region)
        return Mesh(mesh.points, 0.0, mesh.appearance) if self.blind else mesh

    def close(self) -> None: ...


def test_a_face_missed_once_goes_on_at_its_place(networks):
    reader = Blind(networks.reader)
    tracker = MediaPipeTracker(reader, DetectorSearch(networks.detector))
    view, shown = ArrayView(paste(background(640, 480), 100, 320, 240)), []
    for i in range(9):
        reader.blind = i == 4
        shown.append([f.track_id for f in tracker.update(view, 4 * i / FPS)])
    assert shown == [[1]] * 9


def test_other_person_at_the_same_place_later_is_new(tracker):
    under = background(640, 360, 3)
    pictures = [paste(under, 100, 320, 180)] * 4 + [under] * 12
    pictures += [paste(under, 78, 400, 200, mirror=True, tint=(0.45, 0.7, 1.2))] * 12
    shown = play(tracker, pictures)
    assert shown[0][0].track_id == 1
    assert shown[-1][0].track_id == 2


def test_cut_gives_a_new_id(tracker):
    first = [paste(background(640, 360, 3), 100, 200, 180)] * 3
    second = [paste(background(640, 360, 8), 100, 205, 180, mirror=True)] * 3
    shown = play(tracker, first + second)
    assert [[f.track_id for f in faces] for faces in shown] == [[1]] * 3 + [[2]] * 3


def test_told_cut_and_step_back_in_time_give_a_new_id(tracker):
    view = ArrayView(paste(background(640, 360, 3), 100, 200, 180))
    assert tracker.update(view, 0.0)[0].track_id == 1
    assert tracker.update(view, 1 / FPS)[0].track_id == 1
    assert tracker.update(view, 2 / FPS, cut=True)[0].track_id == 2
    assert tracker.update(view, 0.0)[0].track_id == 3
    assert tracker.update(view, 60.0)[0].track_id == 4
    tracker.reset()
    assert tracker.update(view, 60.1)[0].track_id == 5


def test_a_later_beginning_finds_the_same_meshes(networks):
    """Which frames are read, and from which region, does not depend on the frame on which tracking began."""
    rng = np.random.default_rng(0)
    pictures = [
        np.clip(
            paste(background(320, 240), 100, 140 + t / 3, 120 + 8 * np.sin(t / 4)) + rng.normal(0, 3, (240, 320, 1)),
            0,
            255,
        ).astype(np.uint8)
        for t in range(85)
    ]
    one, other = (MediaPipeTracker(networks.reader, DetectorSearch(networks.detector)) for _ in range(2))
    whole, part = play(one, pictures), play(other, pictures[15:], 15 / FPS)
    for (a,), (b,) in zip(whole[70:], part[55:], strict=True):
        np.testing.assert_allclose(a.raw_points, b.raw_points, atol=1e-3)
        np.testing.assert_allclose(a.points, b.points, atol=0.05)


def test_max_faces_takes_the_largest(networks):
    picture = background(900, 360, 3)
    for x, width in ((120, 60), (350, 110), (600, 80), (800, 70)):
        picture = paste(picture, width, x, 180)
    tracker = MediaPipeTracker(networks.reader, DetectorSearch(networks.detector), max_faces=2)
    shown = play(tracker, [picture] * 3)
    assert [[round(f.width, -1) for f in faces] for faces in shown] == [[110, 80]] * 3
    assert len({f.track_id for faces in shown for f in faces}) == 2


def test_max_faces_is_free_again_soon_after_a_face_left(networks):
    under = background(640, 360, 3)
    pictures = [paste(under, 100, 150, 180)] * 3 + [paste(under, 90, 480, 180, mirror=True, tint=(0.6, 0.8, 1.1))] * 15
    tracker = MediaPipeTracker(networks.reader, DetectorSearch(networks.detector), max_faces=1)
    shown = play(tracker, pictures)
    assert [f.track_id for f in shown[2]] == [1]
    assert [f.track_id for f in shown[-1]] == [2]
    assert all(len(faces) <= 1 for faces in shown)


def test_two_pictures_with_one_time_stamp_keep_the_id(tracker):
    view = ArrayView(paste(background(640, 360, 3), 100, 200, 180))
    assert [[f.track_id for f in tracker.update(view, t)] for t in (0.0, 0.0, 0.0, 0.04, 0.03)] == [[1]] * 5


NO_FACE = {
    "noise": lambda: np.random.default_rng(0).integers(0, 256, (360, 640, 3)).astype(np.uint8),
    "bricks": lambda: np.repeat(data.brick()[..., None], 3, 2),
    "grass": lambda: np.repeat(data.grass()[..., None], 3, 2),
    "coins": lambda: np.repeat(data.coins()[..., None], 3, 2),
    "coffee": data.coffee,
    "rocket": data.rocket,
    "page": lambda: np.repeat(data.page()[..., None], 3, 2),
    "black": lambda: np.zeros((360, 640, 3), np.uint8),
}


@pytest.mark.parametrize("name", NO_FACE)
def test_no_face_where_there_is_none(tracker, name):
    try:
        picture = np.ascontiguousarray(NO_FACE[name]())
    except (OSError, ConnectionError, ModuleNotFoundError) as e:
        pytest.skip(f"scikit-image does not carry this picture here ({e})")
    assert not any(play(tracker, [picture] * 8))


def test_tiny_and_odd_pictures_do_no_harm(tracker):
    for shape in ((1, 1, 3), (2, 300, 3), (480, 3, 3)):
        tracker.reset()
        assert tracker.update(ArrayView(np.full(shape, 90, np.uint8)), 0.0) == ()


def test_names():
    assert create_tracker("none").update(ArrayView(astronaut()), 0.0) == ()
    with pytest.raises(UsageError, match=", ".join(plugins.BUILT_IN["tracker"])):
        create_tracker("mtcnn")


def test_short_of_time_one_face_a_frame_is_read_all_followed(networks, tracker, monkeypatch):
    def at(n: int, k: int) -> float:
        return 100 + 150 * n + 1.5 * k

    reads, read = list[int](), networks.reader.read

    def counted(view, region):
        reads[-1] += 1
        return read(view, region)

    monkeypatch.setattr(networks.reader, "read", counted)
    tracker.sparing = True
    for k in range(16):
        picture = background(640, 240)
        for n in range(4):
            picture = paste(picture, 80, at(n, k), 120 + 10 * np.sin(k / 6 + n))
        reads.append(0)
        faces = sorted(tracker.update(ArrayView(picture), k / FPS), key=lambda f: f.box[0])
        assert len(faces) == 4
        assert all(abs(middle(face.box)[0] - at(n, k)) < 6 for n, face in enumerate(faces))
    assert sum(reads[6:]) <= 1.5 * len(reads[6:])
    assert max(reads[6:]) <= 2


class BlindReader:
    """Sees no face anywhere, as the mesh network on a profile."""

    def read(self, view, region):
        return Mesh(np.zeros((478, 3)), 0.0, np.zeros(96))

    def close(self):
        """Nothing to release."""


class FarReader(BlindReader):
    """Sees a face only in a wide region around it."""

    def __init__(self, reader: FaceMesh) -> None:
        self.reader = reader

    def read(self, view, region):
        return self.reader.read(view, region) if region.side > 78 else super().read(view, region)


@pytest.mark.parametrize("thorough", [True, False])
def test_a_doubtful_face_of_a_still_gets_a_second_look(networks, thorough):
    tracker = MediaPipeTracker(FarReader(networks.reader), DetectorSearch(networks.detector))
    tracker.thorough = thorough
    faces = tracker.update(ArrayView(paste(background(640, 360), 48, 200, 150)), 0.0)
    assert len(faces) == thorough


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_face_is_found_as_it_lies(tracker, quarters):
    upright = paste(background(400, 400), 120, 200, 150)
    view, turned = ArrayView(upright), ArrayView(np.ascontiguousarray(np.rot90(upright, -quarters)))
    (was,), (face,) = tracker.update(view, 0.0), tracker.update(turned, 0.04, cut=True)
    angle = quarters * np.pi / 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    want = (was.points - 200) @ turn.T + 200
    assert np.linalg.norm(face.points - want, axis=1).max() < 0.1 * np.linalg.norm(want[0] - want[1])


def test_a_detector_only_face_is_reported_where_a_stage_hides(networks):
    picture = paste(background(640, 360), 120, 200, 150)
    tracker = MediaPipeTracker(BlindReader(), DetectorSearch(networks.detector))
    assert not any(play(tracker, [picture] * 3))
    assert tracker.unfollowed == ()
    tracker.watchful = True
    for i in range(3, 6):
        assert tracker.update(ArrayView(picture), i / FPS) == ()
        (face,) = tracker.unfollowed
        assert face.track_id == 0
        assert face.mesh is None
        assert np.linalg.norm(middle(face.box) - (200, 150)) < 20


def test_only_faces_beyond_the_limit_are_reported_as_such(networks):
    picture = paste(paste(background(640, 360), 130, 160, 170), 90, 450, 170)
    tracker = MediaPipeTracker(networks.reader, DetectorSearch(networks.detector), max_faces=1)
    tracker.watchful = True
    for i in range(4):
        (face,) = tracker.update(ArrayView(picture), i / FPS)
        assert np.linalg.norm(middle(face.box) - (160, 170)) < 20
        (other,) = tracker.unfollowed
        assert np.linalg.norm(middle(other.box) - (450, 170)) < 20
        assert other.mesh is not None  # followed like the first: a tile's turn need not come
        assert tracker.beyond == 1


def test_after_a_failed_update_all_faces_are_found_at_once(networks):
    class Fails(ArrayView):
        def thumbnail(self, max_side):
            raise MemoryError

        crop = thumbnail

    picture = paste(background(640, 360), 120, 200, 150)
    tracker = MediaPipeTracker(networks.reader, DetectorSearch(networks.detector), cuts=False)
    play(tracker, [background(640, 360)] * 3)
    for i in range(3, 40):
        with contextlib.suppress(MemoryError):
            tracker.update(Fails(picture), i / FPS)
    assert len(tracker.update(ArrayView(picture), 40 / FPS)) == 1
