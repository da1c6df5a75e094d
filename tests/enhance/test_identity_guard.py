"""Corrections that show somebody else are weakened, from the first frame on; others stay as they are."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import cv2
import numpy as np
import pytest

from rtface.config.options import Options
from rtface.device.cpu.device import CpuDevice
from rtface.enhance.corrector import Helpers
from rtface.enhance.identity_guard import FILM_S, IdentityGuard, with_correction
from rtface.enhance.live import FrameEnhancer
from rtface.enhance.tasks import FrameTask
from rtface.frame import Bytes, Float32, Frame
from rtface.persons.chip import SIDE
from rtface.persons.guard import FILTERING, MIN_KEPT_SHARE
from rtface.protocols import Runtime
from rtface.stats import Stats
from tests.persons.made import ANNA, BEN
from tests.pipeline.fakes import FakeEngine, FakeEngines, face_at, frame_of, portrait


class Striped(FakeEngine):
    """Adds stripes that are too wide for the blur to remove."""

    def __init__(self) -> None:
        super().__init__("striped")
        stripes = 0.3 * np.sin(np.arange(self.size) * (2 * np.pi / 24))
        self._pattern = np.broadcast_to(stripes, (self.size, self.size)).astype(np.float32)


class Watcher:
    """An embedding that turns from Anna's to Ben's as a face changes from the first one that was seen."""

    def __init__(self) -> None:
        self.first: Float32 | None = None
        self.seen: list[Bytes] = []

    def __call__(self, chip: Bytes) -> Float32:
        self.seen.append(chip)
        middle = cv2.resize(chip, (15, 15), interpolation=cv2.INTER_AREA).astype(np.float32)
        self.first = middle if self.first is None else self.first
        turned = min(1.0, float(np.abs(middle - self.first).mean()) / 4.0)
        mixed = (1 - turned) * ANNA + turned * BEN
        return np.asarray(mixed / np.linalg.norm(mixed), np.float32)


def enhancer(engine: FakeEngine, *, guarded: bool = True, watch: Watcher | None = None) -> FrameEnhancer:
    return FrameEnhancer(
        Runtime(CpuDevice(), FakeEngines(engine)),
        Options(grain="none"),
        Stats(),
        analysis=False,
        helpers=Helpers(guard=IdentityGuard(watch or Watcher(), lambda name: FILTERING if guarded else None, Stats())),
    )


def shown(count: int) -> Frame:
    picture, points = portrait()
    return replace(frame_of(picture, count), faces=(face_at(points, 1),))


def small(count: int) -> Frame:
    picture, points = portrait()
    points = points.mean(0) + (points - points.mean(0)) * 0.2
    return replace(frame_of(picture, count), faces=(face_at(points, 1),))


def change(step: FrameEnhancer, count: int) -> float:
    """Mean absolute change of a frame's luma."""
    frame = shown(count)
    plane = frame.image.planes[0]
    before = np.frombuffer(plane, np.uint8).astype(int).copy()
    plane = step.process(frame).image.planes[0]
    return float(np.abs(np.frombuffer(plane, np.uint8).astype(int) - before).mean())


def test_another_face_is_kept_out_from_its_first_frame() -> None:
    whole, step = change(enhancer(Striped(), guarded=False), 0), enhancer(Striped())
    found = [change(step, count) for count in range(6)]
    assert whole > 0.3
    assert max(found) < 0.25 * whole
    track = step.tracks.states[1]
    assert track.guard.kept == pytest.approx(MIN_KEPT_SHARE, abs=0.02)
    assert track.report().frames_corrected and track.report().strength < 0.1
    assert step.guard is not None and step.guard.weakened == 1
    (report,) = step.tracks.reports()
    assert report.frames_guarded == report.frames_corrected == 6


def test_a_correction_of_fine_detail_is_left_alone() -> None:
    engine = FakeEngine(amount=0.05)
    plain = FrameEnhancer(Runtime(CpuDevice(), FakeEngines(engine)), Options(grain="none"), Stats(), analysis=False)
    step = enhancer(engine)
    for count in range(3):
        assert change(step, count) == change(plain, count)
    assert step.tracks.reports()[0].frames_guarded == 0


def test_a_new_picture_is_judged_by_itself() -> None:
    watch = Watcher()
    step = enhancer(Striped(), watch=watch)
    change(step, 0)
    assert step.tracks.states[1].guard.kept == pytest.approx(MIN_KEPT_SHARE, abs=0.02)
    looks, watch.first = len(watch.seen), None
    step.process(replace(shown(1), new=True))  # another person may have the same number
    assert len(watch.seen) == looks + 2


@pytest.mark.parametrize("ahead", [1, 3])
def test_frames_in_work_do_not_change_what_is_handed_over(ahead: int) -> None:
    at_once = handed_over(0)
    assert at_once[0] == {"drift": None, "kept": 1.0} and at_once[-1]["kept"] < 0.1
    assert handed_over(ahead) == at_once


def handed_over(ahead: int, frames: int = 12) -> list[dict[str, float]]:
    """What the guard hands over behind each frame, where the next one is through and so many more are in work; the
    face is too small to be looked at on the first ones."""
    step, tasks, found = enhancer(Striped()), deque[FrameTask](), list[dict[str, float]]()
    for count in range(frames + ahead + 1):
        tasks.append(step.submit(small(count) if count < 4 else shown(count)))
        if count < ahead:
            continue
        step.collect(tasks.popleft())
        if count > ahead:
            state = step.tracks.states[1].handed_over(0.0, shown(count - ahead - 1).time)
            found.append({name: state[name] for name in ("drift", "kept")})
    return found


def test_engines_that_are_not_watched_cost_nothing() -> None:
    watch = Watcher()
    step = enhancer(Striped(), guarded=False, watch=watch)
    assert change(step, 0) > 0.3
    assert not watch.seen


def test_two_embeddings_a_look_and_few_looks() -> None:
    watch = Watcher()
    step = enhancer(FakeEngine(amount=0.05), watch=watch)
    for count in range(40):
        step.process(shown(count))
    seconds = 40 * float(shown(1).time - shown(0).time)
    assert len(watch.seen) <= 2 * (2 + seconds / FILM_S + 1)


def test_a_face_that_shows_too_little_is_not_judged() -> None:
    watch = Watcher()
    step = enhancer(Striped(), watch=watch)
    step.process(small(0))
    assert not watch.seen
    assert step.tracks.states[1].guard.kept == 1.0


def test_the_chip_shows_the_whole_correction() -> None:
    chip = np.full((SIDE, SIDE, 3), 100, np.uint8)
    pixels = np.full((40, 60, 3), 0.02, np.float32)  # a tenth of 0.2
    half = np.array([[0.5, 0.0, 10.0], [0.0, 0.5, 20.0]])
    seen = with_correction(chip, pixels, half, 0.1)
    assert (seen[24:36, 16:36] == 151).all()
    assert (seen[:18] == 100).all() and (seen[:, 42:] == 100).all()
