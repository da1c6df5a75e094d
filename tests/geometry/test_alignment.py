"""The similarity of a face, its pose, and how steady the Aligner makes it."""

import io
from pathlib import Path

import av
import numpy as np
import pytest

from rtface.frame import Face
from rtface.geometry.alignment import RIGID, RIGID_TEMPLATE, Aligner, crop_matrix, fit, pose, similarity
from rtface.geometry.transforms import FFHQ_512, apply, compose, invert
from rtface.tracking import create_tracker
from rtface.tracking.facemesh import box_of, five_points
from tests.tracking.scenes import ArrayView, background, paste

MESH = np.load(Path(__file__).parents[1] / "tracking" / "data" / "astronaut_tasks_1.2.2.npy").astype(float)
FPS = 30


def turned(angle: float, scale: float, x: float, y: float) -> np.ndarray:
    c, s = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    return np.array([[c, -s, x], [s, c, y]])


def face(mesh: np.ndarray, track_id: int = 1) -> Face:
    return Face(track_id, box_of(mesh), five_points(mesh), mesh)


def moved(matrix: np.ndarray, mesh: np.ndarray = MESH) -> np.ndarray:
    return np.column_stack([apply(matrix, mesh[:, :2]), mesh[:, 2] * np.hypot(matrix[0, 0], matrix[1, 0])])


def test_fit_recovers_a_similarity_and_never_mirrors():
    points = np.random.default_rng(0).normal(size=(7, 2))
    for angle in (0, 40, 170, -100):
        m = turned(angle, 2.5, 30, -7)
        np.testing.assert_allclose(fit(points, apply(m, points)), m, atol=1e-9)
    mirrored = fit(points, points * (-1, 1))
    assert np.linalg.det(mirrored[:, :2]) > 0
    with pytest.raises(ValueError, match="coincide"):
        fit(np.ones((5, 2)), FFHQ_512)


@pytest.mark.parametrize("size", [256, 512])
def test_points_at_the_template_give_the_template(size):
    np.testing.assert_allclose(similarity(FFHQ_512 * 2, size), turned(0, size / 1024, 0, 0), atol=1e-9)
    mesh = np.zeros((478, 3))
    mesh[RIGID] = RIGID_TEMPLATE
    np.testing.assert_allclose(similarity(mesh, size), turned(0, size / 512, 0, 0), atol=1e-9)


def test_mesh_and_five_points_agree_within_two_percent():
    corners = np.array([[150.0, 150], [360, 150], [256, 420]])
    between = compose(similarity(MESH, 512), invert(similarity(five_points(MESH), 512)))
    assert np.linalg.norm(apply(between, corners) - corners, axis=1).max() < 0.02 * 512


def test_pose_of_a_turned_head():
    mesh = np.zeros((478, 3))
    rigid = RIGID_TEMPLATE - RIGID_TEMPLATE.mean(0)
    mesh[RIGID] = rigid
    np.testing.assert_allclose(pose(mesh), (0, 0, 0), atol=1e-6)
    a = np.radians(25)
    # A head turned to the picture's right: what was in front (z < 0) moves to greater x.
    yaw = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
    pitch = np.array([[1, 0, 0], [0, np.cos(a), np.sin(a)], [0, -np.sin(a), np.cos(a)]])
    roll = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    mesh[RIGID] = rigid @ yaw.T
    np.testing.assert_allclose(pose(mesh), (25, 0, 0), atol=1e-6)
    assert (yaw @ (0, 0, -1))[0] > 0
    mesh[RIGID] = rigid @ pitch.T
    np.testing.assert_allclose(pose(mesh), (0, 25, 0), atol=1e-6)
    assert (pitch @ (0, 0, -1))[1] < 0, "looking up: what was in front moves to smaller y"
    mesh[RIGID] = rigid @ roll.T
    np.testing.assert_allclose(pose(mesh), (0, 0, 25), atol=1e-6)


def rms(matrices: list[np.ndarray]) -> float:
    """How far five fixed points of the picture wander in the 512 crop."""
    places = np.array([apply(m, five_points(MESH)) for m in matrices])
    return float(np.sqrt(((places - places.mean(0)) ** 2).sum(2).mean()))


def test_steady_removes_tremble_and_keeps_the_shape():
    rng = np.random.default_rng(1)
    aligner, raw, steady = Aligner(), [], []
    for i in range(120):
        shaken = face(moved(turned(rng.normal(0, 0.1), 1 + rng.normal(0, 0.001), *rng.normal(0, 0.1, 2))))
        quiet = aligner.steady(shaken, i / FPS)
        raw.append(crop_matrix(shaken, 512))
        steady.append(crop_matrix(quiet, 512))
        # Moved as a whole: what lies between smoothed and raw points is one similarity.
        between = fit(shaken.mesh[:, :2], quiet.mesh[:, :2])
        np.testing.assert_allclose(apply(between, shaken.mesh[:, :2]), quiet.mesh[:, :2], atol=1e-6)
        np.testing.assert_array_equal(quiet.raw_points, shaken.points)
    assert rms(steady[30:]) < 0.4 * rms(raw[30:])


@pytest.mark.parametrize("fps", [15, 30, 60])
@pytest.mark.parametrize("width", [60, 250])
def test_pan_lags_less_than_half_a_frame(fps, width):
    """10 pixels a frame at 30 fps, from rest; also in the first frames of the movement."""
    aligner, step = Aligner(), 300 / fps
    still = moved(turned(0, width / 90, 0, 0))
    for i in range(fps):
        here = moved(turned(0, 1, step * max(0, i - fps // 3), 0), still)
        quiet = aligner.steady(face(here), i / fps)
        assert abs((quiet.points - quiet.raw_points)[:, 0]).max() < 0.5 * 10


def test_faces_do_not_disturb_each_other_and_are_forgotten():
    aligner = Aligner()
    far = moved(turned(0, 1, 500, 0))
    for i in range(5):
        a, b = aligner.steady(face(MESH, 1), i / FPS), aligner.steady(face(far, 2), i / FPS)
    np.testing.assert_allclose(a.mesh, MESH, atol=1e-9)
    np.testing.assert_allclose(b.mesh, far, atol=1e-9)
    aligner.forget(2)
    np.testing.assert_allclose(aligner.steady(face(MESH, 2), 0.2).mesh, MESH, atol=1e-9)
    assert np.abs(aligner.steady(face(far, 1), 0.2).mesh - far).max() > 1
    aligner.forget()
    np.testing.assert_allclose(aligner.steady(face(far, 1), 0.3).mesh, far, atol=1e-9)


def test_a_long_gap_or_a_step_back_in_time_starts_anew():
    aligner = Aligner()
    far = moved(turned(20, 1.2, 50, 0))
    aligner.steady(face(MESH), 5.0)
    np.testing.assert_allclose(aligner.steady(face(far), 7.0).mesh, far, atol=1e-9)
    np.testing.assert_allclose(aligner.steady(face(MESH), 6.0).mesh, MESH, atol=1e-9)


def x264(pictures: list[np.ndarray], crf: int) -> list[np.ndarray]:
    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"crf": str(crf), "preset": "veryfast"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for p in pictures:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(p, "rgb24")))
        out.mux(stream.encode())
    memory.seek(0)
    with av.open(memory) as back:
        return [f.to_ndarray(format="rgb24") for f in back.decode(video=0)]


def test_still_face_with_noise_through_x264_hardly_moves():
    rng = np.random.default_rng(1)
    picture = paste(background(320, 240, 3), 110, 160.3, 120)
    noisy = [np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8) for _ in range(25)]
    tracker = create_tracker()
    matrices: list[np.ndarray] = []
    points: np.ndarray | None = None
    for i, rgb in enumerate(x264(noisy, 28)):
        (found,) = tracker.update(ArrayView(rgb), i / FPS)
        points = found.points if points is None else points
        matrices.append(crop_matrix(found, 512))
    places = np.array([apply(m, points) for m in matrices])
    assert np.sqrt(((places - places.mean(0)) ** 2).sum(2).mean()) < 0.3
