"""A live run and single frames for one person: who is corrected, from when on, and after two people changed places;
and how weights that were learnt of somebody come and go."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from rtface.analysis.treatment import FORCED
from rtface.analysis.treatment_file import Treatments
from rtface.config.options import Options
from rtface.device.cpu.device import CpuDevice, HostCorrection
from rtface.enhance.corrector import Helpers
from rtface.enhance.film import FilmEnhancer
from rtface.enhance.live import FrameEnhancer, LiveEnhancer
from rtface.enhance.track_store import TrackRules
from rtface.frame import Bytes, Float32, Frame
from rtface.persons.gallery import Gallery
from rtface.persons.recogniser import PersonRecogniser
from rtface.protocols import Restored, Runtime, ShapeTask
from rtface.shots.settings import Shot, ShotList, ShotSettings
from rtface.stats import Stats
from tests.enhance.key_frames import Every
from tests.persons.made import ANNA, BEN, CLEO, at
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
        return LiveEnhancer(runtime, options, Stats(), Every(1), analysis=False, helpers=Helpers(persons=persons))
    return FrameEnhancer(runtime, options, Stats(), analysis=False, helpers=Helpers(persons=persons))


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
    for count in range(0, 150, 6):
        step.process(two(count))
    assert changed_halves(step, two(150)) == (True, False)
    for count in range(156, 420, 6):
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


class Remembering(FakeEngine):
    """Recurrent: notes which engine gave the answer that it is to continue from."""

    recurrent = True

    def __init__(self, name: str, amount: float) -> None:
        super().__init__(name, amount=amount)
        self.continued: list[str] = []

    def submit(self, crops: np.ndarray, after: Any = None) -> Future[Restored]:
        if after is not None:
            self.continued.append(after.result().state[0])
        answer = super().submit(crops, after)
        answer.result().state = [self.name]
        return answer


class OfPersons(FakeEngines):
    """Anna has weights of her own, which change more."""

    def __init__(self) -> None:
        super().__init__(Remembering("fake", 0.05), Remembering("fake@anna", 0.2))

    def of_person(self, engine: Any, person: str) -> Any:
        return self.all.get(f"{engine.name}@{person.lower()}", engine)


def with_weights(kind: str, **decided: Any) -> tuple[FrameEnhancer, OfPersons]:
    """A step for somebody who looks like Anna from the fifth look on, until the eleventh; `decided` of a film: by
    shots, or by her entry."""
    looks = 0

    def embed(chip: Bytes) -> Float32:
        nonlocal looks
        red, _, blue = chip.reshape(-1, 3).mean(0)
        looks += red > blue
        return at((CLEO if not 4 < looks < 11 else ANNA) if red > blue else BEN, 0.05)

    persons = PersonRecogniser(embed, Gallery({"anna": [ANNA]}), Stats())
    runtime, options = Runtime(CpuDevice(), OfPersons()), Options(grain="none", correct="always", person=("anna",))
    if kind == "film":
        step: FrameEnhancer = FilmEnhancer(  # type: ignore[assignment]
            runtime, options, Stats(), analysis=False, helpers=Helpers(persons=persons), **decided
        )
    elif kind == "single":
        step = FrameEnhancer(runtime, options, Stats(), analysis=False, helpers=Helpers(persons=persons))
    else:
        step = LiveEnhancer(
            runtime,
            options,
            Stats(),
            Every(2 if kind == "carried" else 1),
            analysis=False,
            helpers=Helpers(persons=persons),
        )
    return step, runtime.engines  # type: ignore[return-value]


def changes_of(kind: str, frames: Sequence[Frame], **decided: Any) -> tuple[np.ndarray, OfPersons]:
    """The mean change of luma in the left half and in the right one, frame by frame."""

    def luma(frame: Frame) -> np.ndarray:
        plane = frame.image.planes[0]
        return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : 2 * WIDTH].astype(int)

    step, engines = with_weights(kind, **decided)
    before = [luma(frame) for frame in frames]
    shown = step(frames) if isinstance(step, FilmEnhancer) else map(step.process, frames)
    after = [luma(frame) for frame in shown if isinstance(frame, Frame)]
    apart = [np.abs(a - b) for a, b in zip(before, after, strict=True)]
    return np.array([(d[:, :WIDTH].mean(), d[:, WIDTH:].mean()) for d in apart]), engines


ALWAYS = ShotList([Shot(Fraction(0), None, ShotSettings(correct="always"))])


@pytest.mark.parametrize(
    ("kind", "decided"),
    [
        ("film", {}),
        pytest.param("film", {"rules": TrackRules(shots=ALWAYS)}, marks=pytest.mark.slow),
        pytest.param(
            "film", {"rules": TrackRules(Treatments(by_person={"anna": FORCED["always"]}))}, marks=pytest.mark.slow
        ),
        ("live", {}),
        pytest.param("carried", {}, marks=pytest.mark.slow),
    ],
    ids=["film", "film of shots", "film with an entry", "live", "carried"],
)
def test_weights_of_a_person_fade_in_and_out(kind: str, decided: dict[str, Any]) -> None:
    apart = 3 if kind == "carried" else 4  # answers are not continued from after MEMORY_S
    changed, engines = changes_of(kind, [two(count) for count in range(0, 352, apart)], **decided)
    left, right = changed.T
    few, many = left[0], left.max()
    assert many > 2 * few
    assert abs(left[-1] - few) < 0.06 * (many - few)
    assert np.abs(np.diff(left)).max() < 0.12 * (many - few)  # where one frame in two is carried, it is two steps
    assert np.ptp(right) < 0.02 * few
    for engine in engines.all.values():  # each continues from its own answers alone
        assert isinstance(engine, Remembering) and set(engine.continued) == {engine.name}


def test_another_still_of_another_person_is_shown_at_once() -> None:
    changed, _ = changes_of("single", [replace(two(count), new=True) for count in range(0, 400, 20)])
    few, many = changed[0, 0], changed[:, 0].max()
    assert many > 2 * few
    assert all(min(abs(one - few), abs(one - many)) < 0.02 * few for one in changed[:, 0])
