"""A live run and single frames for one person: who is corrected, from when on, and after two people changed places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from rtface.config.options import Options
from rtface.device.cpu.device import CpuDevice, HostCorrection
from rtface.enhance.live import LiveEnhancer
from rtface.enhance.single import FrameEnhancer
from rtface.frame import Bytes, Float32, Frame
from rtface.persons.gallery import Gallery
from rtface.persons.recogniser import PersonRecogniser
from rtface.protocols import Runtime, ShapeTask
from rtface.stats import Stats
from tests.enhance.key_frames import Every
from tests.persons.made import ANNA, BEN, at
from tests.pipeline.fakes import FakeEngine, FakeEngines, face_at, frame_of, portrait

WIDTH = 320


def by_colour(chip: Bytes) -> Float32:
    """Anna is the red one."""
    red, _, blue = chip.reshape(-1, 3).mean(0)
    return at(ANNA if red > blue else BEN, 0.05)


def two(count: int, *, swapped: bool = False) -> Frame:
    """Track 1 on the left, 2 on the right; the red face is left unless `swapped`."""
    picture, points = portrait(WIDTH, 180)
    tints = [(1.0, 0.6, 0.5), (0.4, 0.6, 1.0)]
    halves = [np.asarray(picture * tint, np.uint8) for tint in (reversed(tints) if swapped else tints)]
    faces = (face_at(points, 1), face_at(points + (WIDTH, 0), 2))
    return replace(frame_of(np.hstack(halves), count), faces=faces)


def steps(kind: str) -> FrameEnhancer:
    persons = PersonRecogniser(by_colour, Gallery({"anna": [ANNA], "ben": [BEN]}), Stats())
    runtime, options = Runtime(CpuDevice(), FakeEngines()), Options(grain="none", faces="anna", person=("anna=a.jpg",))
    if kind == "live":
        return LiveEnhancer(runtime, options, Stats(), Every(1), analysis=False, persons=persons)
    return FrameEnhancer(runtime, options, Stats(), analysis=False, persons=persons)


def changed_halves(step: FrameEnhancer, frame: Frame) -> tuple[bool, bool]:
    def luma(shown: Frame) -> np.ndarray:
        plane = shown.image.planes[0]
        return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : 2 * WIDTH].astype(int).copy()

    before = luma(frame)
    after = luma(step.process(frame))
    return bool((before != after)[:, :WIDTH].any()), bool((before != after)[:, WIDTH:].any())


@pytest.mark.parametrize("kind", ["live", "single"])
def test_a_person_is_corrected_once_recognised(kind: str) -> None:
    step = steps(kind)
    seen = [changed_halves(step, two(count)) for count in range(16)]
    assert seen[0] == (False, False)
    assert seen[-1] == (True, False)
    assert not any(right for _, right in seen)
    assert [face.person for face in step.label(two(17)).faces] == ["anna", "ben"]


def test_the_correction_follows_people_who_change_places() -> None:
    step = steps("live")
    for count in range(0, 150, 3):
        step.process(two(count))
    assert changed_halves(step, two(150)) == (True, False)
    for count in range(153, 420, 3):
        step.process(two(count, swapped=True))
    assert changed_halves(step, two(420, swapped=True)) == (False, True)


@pytest.mark.parametrize(("engine", "known"), [("fake", False), ("fake@anna", True)])
def test_who_restores_says_whether_the_person_is_known(engine: str, known: bool) -> None:
    asked = list[bool]()

    class Device(CpuDevice):
        def shape(self, faces: Sequence[ShapeTask]) -> list[HostCorrection]:
            asked.extend(face.shaping.known for face in faces)
            return super().shape(faces)

    runtime = Runtime(Device(), FakeEngines(FakeEngine(engine)))
    FrameEnhancer(runtime, Options(grain="none"), Stats(), analysis=False).process(two(0))
    assert asked == [known, known]


def test_a_strength_for_a_person_changes_no_other() -> None:
    step = steps("live")
    step.use_persons(PersonRecogniser(by_colour, Gallery({"anna": [ANNA]}), Stats()))
    for count in range(16):
        step.process(two(count))
    assert changed_halves(step, two(16)) == (True, False)
    step.tracks.strengths = {"p2": 0.0}
    assert changed_halves(step, two(17)) == (True, False)
    step.tracks.strengths = {"anna": 0.0}
    assert changed_halves(step, two(18)) == (False, False)
