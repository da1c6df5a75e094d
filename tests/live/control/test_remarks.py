"""What a live run says where it changes nothing."""

from __future__ import annotations

from functools import partial
from itertools import product
from os import cpu_count
from types import SimpleNamespace

import numpy as np
import pytest

from rtface.analysis.measure import Analysis
from rtface.enhance.track_store import TrackStore
from rtface.frame import Display, Face
from rtface.geometry.transforms import apply, sample_to_display
from rtface.live.control.meters import ProcessorMeter
from rtface.live.control.remarks import TurnedFaces
from rtface.live.control.status_text import line_of
from rtface.live.controls import LiveControls
from rtface.live.protocols import EndpointHealth
from rtface.quality.levels import PASS_THROUGH
from rtface.stats import Stats
from tests.live.live_fakes import SteppedClock, live_status

Clock = partial(SteppedClock, 100.0)
CLEAN, WORN = {"error": 0.4, "remaining": 0.4, "step": 2.0}, {"error": 60.0, "remaining": 30.0, "step": 20.0}


def store(*faces: dict[str, float], width: float = 200.0) -> TrackStore:
    """Tracks 1, 2, … of faces of which this was measured for ten seconds."""
    tracks = TrackStore()
    for number, values in enumerate(faces, 1):
        analyzer = tracks.track_of(face(number, width), 0.0).analyzer
        for time in range(10):
            analyzer.learn(Analysis(**values), width, float(time))
    return tracks


def spent(clock: SteppedClock, share: float) -> float:
    """Seconds of processor time of programs that take this share of all cores."""
    return share * clock.now * (cpu_count() or 1)


def face(number: int, width: float) -> Face:
    return Face(number, np.array([0.0, 0.0, width, width]), np.zeros((5, 2)))


def status_of(tracks: TrackStore, clock: SteppedClock, *, seconds: float = 1.0, faces: int = 1, **more):
    live = SimpleNamespace(health=EndpointHealth("live", "", 90.0, frames=3), described="", wanted=True)
    status = live_status(("camera:0", live), [("vcam:", live)], tracks=tracks, clock=clock, **more)
    for _ in range(round(30 * seconds)):
        clock.now += 1 / 30
        status.wrote(0.02, range(1, faces + 1))
    return status


def codes(status) -> list[str]:
    return [remark["code"] for remark in status.snapshot()["remarks"]]


@pytest.mark.parametrize(
    ("faces", "controls", "said"),
    [
        ([CLEAN], {}, ["live_clear"]),
        ([CLEAN, CLEAN], {}, ["live_clear"]),
        ([CLEAN, WORN], {}, []),
        ([WORN], {}, []),
        ([CLEAN], {"always": True}, []),
        ([CLEAN], {"enabled": False}, []),
        ([CLEAN | {"under_exposure": 0.6}], {}, ["live_clear", "live_dim"]),
        ([WORN | {"under_exposure": 0.6}], {}, ["live_dim"]),
        ([WORN | {"under_exposure": 0.6}], {"light": 0.3}, []),
        ([WORN | {"under_exposure": 0.1}], {}, []),
        ([WORN], {"uneven": True}, ["live_dim"]),
        ([WORN], {"uneven": True, "light": 0.3}, []),
    ],
)
def test_it_is_said_why_nothing_is_done(faces, controls, said):
    uneven = controls.get("uneven", False)
    settings = LiveControls(**{name: value for name, value in controls.items() if name != "uneven"})
    status = status_of(
        store(*faces), Clock(), faces=len(faces), controls=settings, light=SimpleNamespace(uneven=uneven)
    )
    assert codes(status) == said
    line = line_of(status, 200)
    assert ("your picture is clear: nothing to gain" in line) is ("live_clear" in said)
    assert ("your face is dim" in line) is ("live_dim" in said)


def test_a_face_that_is_too_small_is_named():
    status = status_of(store(CLEAN, width=12.0), Clock())
    assert [str(remark) for remark in status.remarks] == ["faces are left as they are: too small (12 px)"]


def test_nothing_is_said_before_a_face_is_measured():
    tracks = TrackStore()
    assert tracks.track_of(face(1, 200.0), 0.0).analyzer.treatment.reasons == ()
    assert codes(status_of(tracks, Clock())) == []


def test_no_face_is_said_after_some_seconds():
    clock = Clock()
    status = status_of(store(), clock, faces=0)
    assert codes(status) == []
    clock.now += 3
    assert codes(status) == ["live_no_face"] and "  no face is seen  " in line_of(status, 200)


@pytest.mark.parametrize(("others", "said"), [(0.6, "live_others"), (0.1, "live_paused")])
def test_a_pause_names_other_programs(others: float, said: str):
    clock = Clock()
    own, machine = (ProcessorMeter(partial(spent, clock, share), cpu_count() or 1, clock) for share in (0.0, others))
    status = status_of(store(WORN), clock, levels=[PASS_THROUGH], processor=own, machine=machine)
    assert codes(status) == [said]
    assert line_of(status, 200).startswith(str(status.remarks[0]))


def test_every_face_may_be_corrected_while_it_runs():
    tracks = store(CLEAN)
    seen = face(1, 200.0)
    assert tracks.forced(seen, 10.0) is None
    tracks.always = True
    treatment = tracks.forced(seen, 10.0)
    assert treatment is not None and treatment.on
    assert tracks.see(seen, 10.0).decide(10.0, counted=True, forced=treatment) == 1.0
    tracks.always = False
    assert tracks.see(seen, 10.1).decide(10.1, counted=True, forced=tracks.forced(seen, 10.1)) == 0.0


@pytest.mark.parametrize(("camera", "turn", "mirror"), [*product(range(4), range(4), (False, True))])
def test_the_hint_names_the_turn_that_puts_faces_upright(camera: int, turn: int, mirror: bool):
    """The camera shows the scene turned by so many quarters, and so many are asked for already."""
    upright = np.array([[40.0, 40.0], [60.0, 40.0], [50.0, 50.0], [43.0, 60.0], [57.0, 60.0]])
    points = apply(sample_to_display(100, 100, Display(camera)), upright)
    points = apply(sample_to_display(100, 100, Display(turn, mirror)), points)
    stats = Stats()
    turned = TurnedFaces(stats, 90 * turn, mirror)
    for _ in range(160):
        turned.see([Face(1, np.array([0.0, 0.0, 100.0, 100.0]), points)])
    right = -camera % 4
    line = f"faces are sideways or upside down; if the picture is rotated, use --turn {90 * right}"
    assert stats.warned() == ([] if right == turn else [line])


def test_a_group_that_lies_for_some_seconds_is_no_turned_picture():
    stats = Stats()
    turned = TurnedFaces(stats, 0, False)
    lying = np.array([[0.0, 9.0], [0.0, 0.0], [4.0, 5.0], [9.0, 9.0], [9.0, 0.0]])
    group = [Face(number, np.array([0.0, 0.0, 9.0 - number, 9.0]), lying) for number in range(1, 5)]
    for _ in range(90):  # three seconds
        turned.see(group)
    for number in range(300):  # one of them lies on, behind somebody who sits
        turned.see([group[number % 4], Face(5, np.array([0.0, 0.0, 90.0, 90.0]), lying[:, ::-1])])
    assert stats.warned() == []
