"""Recorded motion: what a track does to a still, that the flow says so, and what is recorded of a clip."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from training.crop_space import at, cut, similarity
from training.data import motion_tracks
from training.data.face_warps import SIDE
from training.data.film_sequences import RECORDED, SIZE, film_clips, motion
from training.data.motion_tracks import Playing, Seen, Track, Tracks, resampled, save, shrinking, smooth, tracks_of
from training.data.moving_face import Actor, Film
from training.data.portraits import Face

LENGTH = 40


def grid() -> np.ndarray:
    x, y = np.meshgrid(np.arange(150, 380, 20), np.arange(150, 420, 20))
    return np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)


def sliding(far: tuple[float, float], moves: tuple[float, ...] = (0, 0, 0, 0)) -> Track:
    """The points around the nose go ``far`` (pixels of 512) over the track, and the face moves by ``moves``."""
    places = grid()
    near = np.exp(-((places - (256, 300)) ** 2).sum(1) / (2 * 60**2))
    share = np.linspace(0, 1, LENGTH)
    offsets = share[:, None, None] * near[None, :, None] * np.array(far)
    return Track("sliding", places, offsets.astype(np.float16), (share[:, None] * moves).astype(np.float32))


@pytest.fixture(scope="module")
def still() -> np.ndarray:
    return np.ascontiguousarray(cut(data.astronaut(), similarity(0.5, 0.0, (225, 120), 512), 512))


def playing(still: np.ndarray, what: Playing) -> tuple[Actor, Film]:
    actor = Actor(still, 512.0, (255.5, 255.5), np.random.default_rng(2))
    actor.shear *= 0
    actor.angle = 0.0
    actor.play(what)
    return actor, Film([actor], np.full((64, 64, 3), 128, np.uint8), np.random.default_rng(1), (512, 512))


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_track_moves_the_face_as_recorded(still: np.ndarray, mirrored: bool) -> None:
    track = sliding((12, 6))
    actor, _ = playing(still, Playing(track, 0.0, mirrored, 1.0))
    nose = np.array([[511 - 256.0 if mirrored else 256.0, 300.0]])
    far = np.array([[-12.0 if mirrored else 12.0, 6.0]])
    assert actor.origin(nose, 0) == pytest.approx(nose, abs=0.2)
    # The place where the nose is at the end shows the point of the still that is the nose.
    assert actor.origin(nose + far, LENGTH - 1) == pytest.approx(nose, abs=2.0)
    edge = np.array([[10.0, 10.0]])
    assert actor.origin(edge, LENGTH - 1) == pytest.approx(edge, abs=0.2)


def test_pose_moves_turns_and_scales(still: np.ndarray) -> None:
    actor, _ = playing(still, Playing(sliding((0, 0), (0.1, -0.05, 0.2, 0.3)), 0.0, False, 1.0))
    m = actor.matrix(LENGTH - 1)
    assert m[:, :2] @ (255.5, 255.5) + m[:, 2] == pytest.approx((255.5 + 51.2, 255.5 - 25.6), abs=0.1)
    assert np.hypot(m[0, 0], m[1, 0]) == pytest.approx(np.exp(0.2), abs=1e-3)
    assert np.arctan2(m[1, 0], m[0, 0]) == pytest.approx(0.3, abs=1e-3)


def test_the_flow_is_that_of_the_rendered_frames(still: np.ndarray) -> None:
    actor, film = playing(still, Playing(sliding((60, -30), (0.4, 0.2, 0.1, 0.2)), 0.0, False, 1.0))
    film.flick = 0.0
    for t in (5, 20):
        now, before = (at(actor.matrix(z), SIZE) for z in (t, t - 1))
        cells = motion(actor, (t, now), (t - 1, before))
        a, b = (cut(film.render(z), m, SIZE).astype(np.float32) for z, m in ((t, now), (t - 1, before)))
        flow = np.zeros((SIZE, SIZE, 2), np.float32)
        big = cv2.resize(cells, (cells.shape[1] * 8, cells.shape[0] * 8), interpolation=cv2.INTER_LINEAR)
        flow[56 : 56 + big.shape[0], 40 : 40 + big.shape[1]] = big
        x, y = np.meshgrid(np.arange(SIZE, dtype=np.float32), np.arange(SIZE, dtype=np.float32))
        moved = cv2.remap(b, x + flow[..., 0], y + flow[..., 1], cv2.INTER_CUBIC)
        inside = (slice(80, 220), slice(64, 192))
        assert np.abs(cells).max() > 0.5
        assert np.abs(a - moved)[inside].mean() < 0.45 * np.abs(a - b)[inside].mean()


def test_sequences_play_tracks(still: np.ndarray, tmp_path: Path) -> None:
    save(tmp_path / "t.npz", [sliding((8, 0)), sliding((0, 8), (0.1, 0, 0, 0))])
    tracks = Tracks(tmp_path / "t.npz")
    assert [len(t) for t in tracks.tracks] == [LENGTH, LENGTH]
    assert tracks.tracks[0].fields.shape == (LENGTH, SIDE, SIDE, 2)
    cv2.imwrite(str(tmp_path / "a.png"), still[:, :, ::-1])
    faces = [Face(tmp_path / "a.png", 512, "x", "a", False)]
    with_tracks, without = (film_clips(faces, np.random.default_rng(4), "clean", t) for t in (tracks, None))
    assert len(with_tracks) == len(without) == 2
    assert 0 < RECORDED <= 1 and any(
        not np.array_equal(a.flow, b.flow) for a, b in zip(with_tracks, without, strict=True)
    )
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match="holds no tracks"):
        Tracks(tmp_path / "other.npz")


def test_time_is_resampled_and_smoothed_without_drift() -> None:
    times = np.arange(20) / 12.5
    values = np.stack([3 * times, 5 - times], 1)
    out = resampled(times, values)
    at_30 = np.arange(len(out)) / 30
    assert len(out) == 46 and out[3:-3] == pytest.approx(np.stack([3 * at_30, 5 - at_30], 1)[3:-3], abs=1e-6)
    assert smooth(out, 1.5)[6:-6] == pytest.approx(out[6:-6], abs=1e-4)


def test_lost_points_end_a_track() -> None:
    places = grid().astype(float)

    def seen(i: int) -> Seen:
        jump = 90.0 if i >= 50 else 0.0
        return Seen(i / 30, places + (0.2 * i + jump, 0), np.array([5.0 * i, 0, 0, 0]), 200.0)

    found = list(tracks_of("clip", [seen(i) for i in range(90)]))
    assert [len(t) for t in found] == [50, 40]
    assert all(np.abs(np.diff(t.offsets.astype(float), axis=0)).max() < motion_tracks.FASTEST for t in found)
    assert abs(found[0].pose.mean()) < 1e-4  # relative to its mean
    assert not list(tracks_of("short", [seen(i) for i in range(10)]))


def test_a_folded_field_is_told() -> None:
    plain = np.zeros((1, SIDE, SIDE, 2), np.float32)
    folded = plain.copy()
    folded[0, :, :32, 0] = 40
    assert shrinking(plain)[0] == pytest.approx(1.0) and shrinking(folded)[0] < motion_tracks.CRUSHED


def test_a_clip_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                            capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    import av

    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=30)
        stream.width, stream.height, stream.pix_fmt = 320, 320, "bgr0"
        for i in range(30):
            image = cut(data.astronaut(), similarity(0.6, 0.003 * i, (225 - 0.5 * i, 130), 512), 512)
            image = np.asarray(cv2.resize(image, (320, 320), interpolation=cv2.INTER_AREA), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        out.mux(stream.encode())
    monkeypatch.setattr("sys.argv", ["motion_tracks", str(path), "--out", str(tmp_path / "t.npz")])
    assert motion_tracks.main() == 0
    assert "1 tracks, 30 frames" in capsys.readouterr().out
    track = Tracks(tmp_path / "t.npz").tracks[0]
    assert np.abs(track.offsets.astype(float)).mean() < 3  # a rigid face: all of the motion is in the pose
    assert track.pose[-1, 0] - track.pose[0, 0] > 0.03 and track.pose[-1, 3] < track.pose[0, 3]
    monkeypatch.setattr("sys.argv", ["motion_tracks", str(tmp_path / "no.mkv"), "--out", str(tmp_path / "u.npz")])
    assert motion_tracks.main() == 1
    assert "no.mkv" in capsys.readouterr().err
