"""The quality governor, with simulated time and known costs: it holds the rate, is quick down, slow up, and settles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from benchmarks.ladder import simulate
from rtface.quality.governor import UNSEEN_STRENGTH, QualityGovernor
from rtface.quality.levels import FaceDecision, FaceDemand, levels_for
from rtface.util.fade import MOST_A_FRAME

PERIOD = 1 / 30
BETWEEN = 0.003


@dataclass
class Machine:
    """One thread that works on frames, newest first: what a frame takes decides how many are given up behind it."""

    governor: QualityGovernor
    key: dict[str, float]
    slow: Callable[[float], float] = lambda time: 1.0
    carries: bool = True
    now: float = 0.0
    given_up: list[float] = field(default_factory=list)
    busy: list[tuple[float, float]] = field(default_factory=list)
    plans: list[tuple[float, list[FaceDecision]]] = field(default_factory=list)
    _late: int = 0
    _behind: float = 0.0

    def run(self, seconds: float, faces: Sequence[FaceDemand]) -> None:
        end = self.now + seconds
        while self.now < end - 1e-9:
            if self._behind > PERIOD:  # a newer frame is there already
                self._behind -= PERIOD
                self._late += 1
                self.given_up.append(self.now)
                self.now += PERIOD
                continue
            plans = self.governor.plan(self.now, faces, late=self._late, carries=self.carries)
            self._late = 0
            done = [(p.engine, p.key) for p in plans if p.engine]
            took = self.slow(self.now) * sum(self.key[e] if k else BETWEEN for e, k in done)
            self.governor.costs.spent(took, done)
            self._behind = max(0.0, self._behind + took - PERIOD)
            self.busy.append((self.now, took))
            self.plans.append((self.now, plans))
            self.now += PERIOD


def governor(light: str | None = None, **known: float) -> QualityGovernor:
    out = QualityGovernor(PERIOD, 0.1, light)
    for name, seconds in known.items():
        out.costs.learn(name, seconds)
    return out


def face(track: int, width: float = 150.0, engine: str = "s", memory: bool = True, heavy: bool = False) -> FaceDemand:
    return FaceDemand(track, width, engine, memory, heavy)


def test_one_face_that_fits_stays_on_the_highest_rung_for_good() -> None:
    machine = Machine(governor(s=0.01), {"s": 0.016})
    machine.run(60, [face(1)])
    assert not machine.governor.steps and not machine.given_up
    assert all(p == [FaceDecision("s", True)] for _, p in machine.plans)
    assert machine.governor.levels == ["full"]


def test_new_faces_are_taken_in_without_losing_a_frame() -> None:
    machine = Machine(governor(s=0.01), {"s": 0.016})
    machine.run(3, [face(1, 200)])
    machine.run(10, [face(1, 200), face(2), face(3, 140), face(4, 130)])
    assert not machine.given_up
    took = [seconds for _, seconds in machine.busy]
    assert max(a + b + c for a, b, c in zip(took, took[1:], took[2:], strict=False)) < 3 * PERIOD
    first = [s for s in machine.governor.steps if s.time < 3.1]
    assert len(first) >= 3 and all(s.why == "a new face" for s in first)
    assert machine.governor.steps[0].time == pytest.approx(3.0, abs=PERIOD / 2)


def test_the_largest_face_keeps_its_quality_longest() -> None:
    machine = Machine(governor(s=0.01), {"s": 0.016})
    machine.run(6, [face(2, 120), face(1, 200), face(3, 110)])
    keys = {k: sum(p[k].key for _, p in machine.plans[-80:]) for k in range(3)}
    assert keys[1] >= keys[0] >= keys[2] > 0 and keys[1] > keys[2]


def test_key_frames_of_several_faces_do_not_fall_together() -> None:
    machine = Machine(governor(s=0.01), {"s": 0.016})
    faces = [face(k, 150 - k) for k in range(4)]
    machine.run(5, faces)
    late = [p for t, p in machine.plans if t > 2]
    counts = [sum(plan.key for plan in plans) for plans in late]
    assert max(counts) - min(counts) <= 1
    for k in range(4):  # and none is forgotten
        gaps = [n for n, plans in enumerate(late) if plans[k].key]
        assert max(b - a for a, b in itertools.pairwise(gaps)) <= 9


def test_doubled_work_goes_down_at_once_and_comes_back_slowly() -> None:
    machine = Machine(governor(s=0.01), {"s": 0.017}, slow=lambda t: 2.2 if 10 <= t < 15 else 1.0)
    machine.run(40, [face(1)])
    steps = list(machine.governor.steps)
    assert 10 < steps[0].time < 10.6 and steps[0].before == "full" and "ms" in steps[0].why + "ms"
    assert len([t for t in machine.given_up if t < 15.5]) <= 4
    assert not [t for t in machine.given_up if t > 11]
    assert steps[-1].after == "full" and 15 < steps[-1].time < 30
    assert len(steps) < 10


def test_a_level_without_spare_time_is_not_raised_to() -> None:
    machine = Machine(governor(s=0.01), {"s": 0.024}, slow=lambda t: 3.0 if 5 <= t < 8 else 1.0)
    machine.run(5, [face(1)])
    assert machine.governor.levels == ["full"]
    machine.run(25, [face(1)])
    assert machine.governor.levels == ["key/2"]


def test_it_does_not_swing_where_a_rung_nearly_fits() -> None:
    """A second load comes whenever quality goes up: tried again ever more rarely."""
    machine = Machine(governor(s=0.01), {"s": 0.016})
    machine.slow = lambda t: 2.6 if machine.plans and all(p.key for _, ps in machine.plans[-3:] for p in ps) else 1.0
    machine.run(120, [face(1)])
    tries = [s.time for s in machine.governor.steps if s.after == "full"]
    assert 2 <= len(tries) <= 9
    assert tries[-1] - tries[-2] > 3 * (tries[1] - tries[0]) or tries[-1] - tries[-2] > 20


def test_frames_that_come_too_late_lead_down_whatever_faces_cost() -> None:
    """Another thread is short of time: the frames of this one are cheap, and still go missing."""
    subject = governor(s=0.01)
    for k in range(120):
        plans = subject.plan(k * PERIOD, [face(1)], late=int(k >= 90 and k % 3 == 0))
        subject.costs.spent(0.016, [(p.engine, p.key) for p in plans])
    assert subject.steps and "too late" in subject.steps[0].why
    assert subject.steps[0].time < 105 * PERIOD


def test_one_hiccup_is_no_load() -> None:
    machine = Machine(governor(s=0.01), {"s": 0.016}, slow=lambda t: 6.0 if abs(t - 5) < PERIOD / 2 else 1.0)
    machine.run(10, [face(1)])
    assert not machine.governor.steps


def test_one_stall_is_no_load_however_many_frames_it_costs() -> None:
    subject = governor(s=0.01)
    for k in range(90):
        subject.plan(k * PERIOD, [face(1)], late=7 if k in (1, 50) else 0)
    assert not subject.steps


def test_the_smaller_engine_comes_before_nothing_and_fades_in() -> None:
    machine = Machine(governor("s", m=0.028, s=0.01), {"m": 0.033, "s": 0.016}, slow=lambda t: 1.6)
    machine.run(12, [face(1, 300, "m"), face(2, 280, "m"), face(3, 260, "m")])
    names = [s.after for s in machine.governor.steps]
    assert any(n.startswith("small key") for n in names)
    assert not any(n == "pass-through" for n in names)
    for k in range(3):
        before = ""
        share = 1.0
        for t, plans in machine.plans:
            plan = plans[k]
            if before and plan.engine != before:
                assert plan.key and plan.share < 0.5
            elif t:
                assert plan.share - share <= MOST_A_FRAME + 1e-6
            before, share = plan.engine, plan.share


def test_no_time_at_all_is_pass_through_faded_out_and_in() -> None:
    machine = Machine(governor(s=0.01), {"s": 0.016}, slow=lambda t: 30.0 if 5 <= t < 12 else 1.0)
    machine.run(60, [face(1)])
    strength = [p[0].strength for _, p in machine.plans]
    assert min(strength) == 0.0 and strength[-1] == 1.0
    assert max(abs(b - a) for a, b in itertools.pairwise(strength)) <= MOST_A_FRAME + 1e-6
    back = [(t, p[0]) for t, p in machine.plans if t > 13 and p[0].engine]
    rise = [p.strength for _, p in back if p.strength < 1.0]
    assert rise == sorted(rise) and back[0][1].key
    assert machine.governor.levels == ["full"]


def test_on_a_gpu_no_engine_rests_between_its_frames() -> None:
    machine = Machine(governor("s", m=0.02, s=0.01), {"m": 0.025, "s": 0.014}, carries=False)
    machine.run(10, [face(1, 200, "m"), face(2, 190, "m")])
    assert all(p.key for _, plans in machine.plans for p in plans if p.engine)
    assert {s.after for s in machine.governor.steps} <= {"small", "full", "pass-through"}


@pytest.mark.parametrize(("carries", "load"), [(True, 3.0), (False, 1.0)])
def test_what_a_slow_engine_added_fades_out_wherever_it_runs(carries: bool, load: float) -> None:
    machine = Machine(governor("s", m=0.015, s=0.005), {"m": 0.02, "s": 0.01}, lambda t: 1.0 + load * (t > 3), carries)
    machine.run(10, [face(1, 200, "m", heavy=True)])
    plans = [plan for _, (plan,) in machine.plans]
    changes = [after for before, after in itertools.pairwise(plans) if "" != before.engine != after.engine != ""]
    assert changes[0].engine == "s" and all(plan.share < 0.5 for plan in changes)


def test_a_slow_engine_gives_way_to_the_small_one() -> None:
    levels = levels_for(face(1, 200, "m", heavy=True), "s", 0.1, True)
    assert [(level.engine, level.every) for level in levels] == [("m", 1), ("s", 2), ("", 1)]  # as a memory lasts


def test_memory_keeps_key_frames_close_together() -> None:
    for memory, where in ((True, "pass-through"), (False, "key/8")):
        subject = QualityGovernor(1 / 15, 0.1)
        subject.costs.learn("s", 0.06)
        for k in range(100):
            done = [(p.engine, p.key) for p in subject.plan(k / 15, [face(1, memory=memory)]) if p.engine]
            subject.costs.spent(sum(0.3 if key else 0.02 for _, key in done), done)
        assert subject.levels == [where]


def test_patience_ends_with_the_ceiling() -> None:
    subject = governor(s=0.01)
    assert subject.patience(10.0, None) == pytest.approx(1.2 * PERIOD)
    assert subject.patience(10.0, 9.99) == pytest.approx(1.2 * PERIOD)
    assert 0.0 < subject.patience(10.0, 9.92) < 0.3 * PERIOD
    assert subject.patience(10.0, 9.5) == 0.0


def test_a_face_that_went_out_as_it_was_fades_in() -> None:
    subject = governor(s=0.01)
    subject.plan(0.0, [face(1)])
    subject.missing(1)
    strength = [subject.plan(k * PERIOD, [face(1)])[0].strength for k in range(1, 22)]
    assert strength[0] <= MOST_A_FRAME and strength[-1] == 1.0 and strength == sorted(strength)


def test_the_summary_names_what_is_there() -> None:
    subject = governor(s=0.01)
    assert subject.levels == []
    subject.plan(0.0, [face(1, 100), face(2, 200)])
    assert subject.levels == ["full", "key/2"]
    subject.plan(PERIOD, [])
    assert subject.levels == []


def test_an_uncorrected_face_does_not_wait_long() -> None:
    """A second load comes whenever the engine runs, for most of a minute. No trial is seen before it has held."""
    machine = Machine(governor(s=0.01), {"s": 0.016})
    machine.slow = lambda t: (
        20.0 if 5 <= t < 50 and machine.plans and any(p.key for _, ps in machine.plans[-20:] for p in ps) else 1.0
    )
    machine.run(70, [face(1)])
    tried = [t for t, (p,) in machine.plans if p.key and t > 8]
    starts = [b for a, b in itertools.pairwise(tried) if b - a > 1]
    assert len([t for t in starts if t < 50]) >= 4 and max(b - a for a, b in itertools.pairwise(starts)) < 9.0
    assert not any(p.strength > UNSEEN_STRENGTH for t, (p,) in machine.plans if 9.5 < t < 50)
    back = [s.time for s in machine.governor.steps if s.before == "pass-through"]
    assert len(back) == 1 and 50.0 < back[0] < 58.0
    assert machine.governor.levels != ["pass-through"]


def test_late_frames_do_not_cost_a_face_its_cheapest_correction() -> None:
    """Another thread is late: leaving the face alone would not make the frames any earlier."""
    subject = governor(s=0.01)
    for k in range(round(30 / PERIOD)):
        now = k * PERIOD
        plans = subject.plan(now, [face(1)], late=int(2 <= now < 12 and k % 2))
        done = [(p.engine, p.key) for p in plans if p.engine]
        subject.costs.spent(sum(0.03 if key else 0.006 for _, key in done), done)
        assert plans[0].strength == 1.0
    assert "pass-through" not in {s.after for s in subject.steps}
    assert subject.steps[-1].time < 24 and subject.steps[-1].after in ("full", "key/2")


def test_what_was_measured_under_load_does_not_forbid_a_trial() -> None:
    """The run begins on a busy computer: what faces cost at best is not known from it."""
    machine = Machine(governor(s=0.01), {"s": 0.016}, slow=lambda t: 12.0 if t < 20 else 1.0)
    machine.run(45, [face(1)])
    assert 20 < next(s.time for s in machine.governor.steps if s.before == "pass-through") < 30
    assert machine.governor.levels == ["full"]


def test_small_differences_of_cost_change_nothing() -> None:
    """At the edge of the room, a few milliseconds up and down all the time."""
    for cost in (0.024, 0.027, 0.030):
        machine = Machine(governor(s=0.01), {"s": cost}, slow=lambda t: 1.0 + 0.07 * math.sin(5 * t))
        machine.run(120, [face(1)])
        assert len(machine.governor.steps) <= 1, cost


LOADS = {"none": (1.0, 0.15, 1 / 20), "one core": (1.6, 0.3, 1 / 5), "two cores": (2.4, 0.45, 1 / 2)}


@pytest.mark.parametrize(("load", "enhanced", "switched"), [("none", 99, 0), ("one core", 99, 0), ("two cores", 85, 6)])
def test_a_lasting_load_is_hardly_seen(load: str, enhanced: float, switched: float) -> None:
    slow, noise, stalls = LOADS[load]
    found = simulate(300, lambda t: slow, noise, stalls).figures(300)
    assert found["enhanced_percent"] >= enhanced
    assert found["on_and_off_a_minute"] <= switched


@pytest.mark.parametrize("slow", [1.0, 1.3])
def test_sixty_frames_a_second_are_enhanced_and_carried(slow: float) -> None:
    found = simulate(120, lambda t: slow, 0.15, 1 / 20, rate=60).figures(120)
    assert found["enhanced_percent"] > 98 and found["p95_ms"] < 60


def test_after_a_load_faces_are_back_within_ten_seconds() -> None:
    out = simulate(120, lambda t: 8.0 if 20 <= t < 60 else 1.0, 0.2, 1 / 10)
    assert not any(strength > 0.01 for t, strength in out.seen if 25 < t < 60)
    back = next(t for t, strength in out.seen if t > 60 and strength > 0.99)
    assert back < 70
    assert out.steps[-1][2] == "full" and out.steps[-1][0] < 85
    changes = [abs(b - a) for (t, a), (_, b) in itertools.pairwise(out.seen) if t > 25]
    assert max(changes) < 0.3  # nothing pops


def test_what_faces_leave_of_a_frame_may_be_spent() -> None:
    machine = Machine(governor(s=0.01), {"s": 0.012})
    machine.run(5, [face(1)])
    assert machine.governor.has_room(0.002) and not machine.governor.has_room(PERIOD)
    crowded = Machine(governor(s=0.01), {"s": 0.012})
    crowded.run(5, [face(k) for k in range(6)])
    assert crowded.governor.sparing and not crowded.governor.has_room(0.0)
    assert governor().has_room(0.0)
