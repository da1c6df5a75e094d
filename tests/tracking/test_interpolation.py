"""Faces of films between two readings: interpolated while they move steadily, read on every frame where they do not."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from rtface.frame import Face, Frame, Packet
from rtface.pipeline.chain import find_faces, track
from rtface.protocols import Item
from rtface.stats import Stats
from rtface.tracking.detector import Detector
from rtface.tracking.detector_search import DetectorSearch
from rtface.tracking.facemesh import FaceMesh
from rtface.tracking.interpolation import MotionGuard
from rtface.tracking.mediapipe import MediaPipeTracker
from tests.tracking.scenes import ArrayView, background, paste

FPS = 30


class CountingReader:
    """Reads meshes, and notes the frame of each reading."""

    def __init__(self) -> None:
        self.mesh, self.frames = FaceMesh(), list[int]()

    def read(self, view: Any, region: Any) -> Any:
        self.frames.append(view.number)
        return self.mesh.read(view, region)

    def close(self) -> None:
        """Keeps the network."""


class Scene:
    """A film of pasted faces, and the device that shows its frames."""

    name = "scene"

    def __init__(self, pictures: Iterable[np.ndarray], fps: float = FPS) -> None:
        self.pictures, self.fps = list(pictures), fps

    def view(self, frame: Frame) -> ArrayView:
        view = ArrayView(self.pictures[frame.pts])
        view.number = frame.pts  # type: ignore[attr-defined]
        return view

    def items(self) -> list[Item]:
        step = Fraction(1) / Fraction(self.fps).limit_denominator(1000)
        return [Frame(av.VideoFrame(16, 16, "gray"), n, step) for n in range(len(self.pictures))]


@pytest.fixture(scope="module")
def reader() -> CountingReader:
    return CountingReader()


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector()


@pytest.fixture
def tracker(reader: CountingReader, detector: Detector) -> MediaPipeTracker:
    reader.frames.clear()
    return MediaPipeTracker(reader, DetectorSearch(detector))


def gliding(count: int, *, width: float = 120, step: float = 1.5) -> list[np.ndarray]:
    under = background(480, 360, 3)
    return [paste(under, width, 170 + step * n, 180) for n in range(count)]


def one_by_one(tracker: Any, scene: Scene) -> list[Frame]:
    tracker.reset()
    return [find_faces(frame, tracker, scene, Stats()) for frame in scene.items()]  # type: ignore[arg-type]


def errors(a: Face, b: Face) -> float:
    """Mean distance of two meshes in widths of the face."""
    return float(np.linalg.norm(a.mesh[:, :2] - b.mesh[:, :2], axis=1).mean()) / a.width  # type: ignore[index]


@pytest.mark.parametrize("fps", [24, 30, 60])
def test_a_face_that_glides_is_read_every_tenth_of_a_second(tracker, reader, fps) -> None:
    scene = Scene(gliding(3 * fps // 2, step=45 / fps), fps)
    truth = one_by_one(tracker, scene)
    tracker.reset()
    reader.frames.clear()
    frames = list(track(scene.items(), tracker, scene, Stats()))
    assert [frame.pts for frame in frames] == list(range(len(frames)))
    assert len(set(reader.frames)) < 0.2 * fps + 0.5 * len(frames) * 24 / fps
    assert max(errors(a.faces[0], b.faces[0]) for a, b in zip(frames, truth, strict=True)) < 0.006


def test_a_face_that_starts_stops_and_turns_is_read_like_before(tracker) -> None:
    places = [170.0] * 10 + [170 + 14 * n for n in range(1, 9)] + [282 - 14 * n for n in range(1, 9)]
    scene = Scene(paste(background(480, 360, 3), 120, x, 180) for x in places)
    truth = one_by_one(tracker, scene)
    tracker.reset()
    frames = list(track(scene.items(), tracker, scene, Stats()))
    assert max(errors(a.faces[0], b.faces[0]) for a, b in zip(frames, truth, strict=True)) < 0.012


def test_a_face_that_comes_or_goes_has_the_frames_that_it_had(tracker) -> None:
    under = background(480, 360, 3)
    pictures = gliding(20)
    pictures = [*pictures[:10], *(paste(picture, 100, 400, 120) for picture in pictures[10:])]
    pictures += [under] * 12  # a cut to an empty scene
    scene = Scene(pictures)
    truth = one_by_one(tracker, scene)
    tracker.reset()
    frames = list(track(scene.items(), tracker, scene, Stats()))
    assert abs(sum(len(a.faces) - len(b.faces) for a, b in zip(frames, truth, strict=True))) <= 2
    assert all(not frame.faces for frame in frames[20:])


def test_packets_keep_their_place_and_an_error_comes_last(tracker) -> None:
    scene = Scene(gliding(23))
    items = scene.items()
    packet = Packet(av.Packet(1), 1)

    def broken() -> Iterable[Item]:
        for number, item in enumerate(items):
            yield item
            if number % 2:
                yield packet
        raise OSError("the disk is gone")

    passed: list[Item] = []
    with pytest.raises(OSError, match="disk"):
        passed.extend(track(broken(), tracker, scene, Stats()))
    expected = [one for n, item in enumerate(items) for one in ((item.pts, packet) if n % 2 else (item.pts,))]
    assert [item.pts if isinstance(item, Frame) else item for item in passed] == expected
    assert all(item.faces for item in passed if isinstance(item, Frame))


@pytest.mark.parametrize("packets", [0, 8])
def test_packets_between_frames_do_not_end_a_group(tracker, reader, packets) -> None:
    scene, packet = Scene(gliding(45)), Packet(av.Packet(1), 1)
    items = [one for frame in scene.items() for one in (frame, *[packet] * packets)]
    list(track(items, tracker, scene, Stats()))
    assert len(set(reader.frames)) < 25


def test_an_update_of_a_plugin_is_called_on_every_frame(tracker) -> None:
    class Own(MediaPipeTracker):
        def update(self, view: Any, time: float, *, cut: bool = False) -> tuple[Face, ...]:
            return super().update(view, time, cut=cut)[:0]

    tracker.__class__ = Own
    scene = Scene(gliding(12))
    assert not any(item.faces for item in track(scene.items(), tracker, scene, Stats()) if isinstance(item, Frame))


def test_a_reading_that_fails_once_leaves_no_frame_without_faces(tracker, reader, monkeypatch) -> None:
    scene, stats, failing = Scene(gliding(30)), Stats(), [20, 20]
    read, smoothed = tracker.read, tracker.smoothed

    def fails(view: Any, time: float, *, cut: bool = False) -> tuple[Face, ...]:
        if view.number in failing:
            failing.remove(view.number)
            raise ValueError("the reader fails here")
        return read(view, time, cut=cut)

    monkeypatch.setattr(tracker, "read", fails)
    monkeypatch.setattr(tracker, "smoothed", lambda faces, time: smoothed(faces, time))
    frames = list(track(scene.items(), tracker, scene, stats))
    assert [frame.pts for frame in frames] == list(range(30))
    assert sum(frame.failed == "tracker" for frame in frames) == stats.counters["faults"] <= 1


def test_a_stage_that_hides_faces_has_every_frame_read(tracker, reader) -> None:
    scene = Scene([background(480, 360, 3), *gliding(20)])
    seen: list[bool] = []
    update = tracker.update
    tracker.update = lambda *a, **k: seen.append(tracker.watchful) or update(*a, **k)
    list(track(scene.items(), tracker, scene, Stats(), watchful=True))
    assert seen == [True] * 21


def face(x: float, track_id: int = 1) -> Face:
    mesh = np.zeros((478, 3))
    mesh[:, 0] = np.linspace(0, 100, 478) + x
    return Face(track_id, np.array([x, 0.0, x + 100, 100]), np.zeros((5, 2)), mesh)


@pytest.mark.parametrize(
    ("places", "steady"),
    [
        ([0, 3, 6], True),
        ([0, 3, 5], True),
        ([0, 3, 3 - 1], False),  # turned round
        ([0, 0, 4], False),  # started
        ([0, 9, 18], False),  # too fast
    ],
)
def test_the_guard_accepts_a_face_where_its_motion_points(places, steady) -> None:
    guard = MotionGuard()
    assert [guard.steady([face(x)], 0.1 * n) for n, x in enumerate(places)] == [False, False, steady]


def test_the_guard_accepts_no_other_face_and_no_long_gap() -> None:
    guard = MotionGuard()
    for n in range(3):
        last = guard.steady([face(0)], 0.1 * n)
    assert last
    assert not guard.steady([face(0), face(300, 2)], 0.3)
    assert not guard.steady([face(0)], 0.4)
    assert not guard.steady([face(0)], 0.9)
    assert not guard.steady([], 1.0)
