"""The processor budget and the first seconds of a live run, with simulated time, costs and processor clock."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from rtface.quality.governor import QualityGovernor
from rtface.quality.levels import FaceDecision, FaceDemand
from rtface.quality.processor_budget import ProcessorBudget

PERIOD = 1 / 30
KEY_S, CARRY_S, OTHER_S = 0.016, 0.004, 0.008  # of a frame: the engine, a carried correction, all that is no face


@dataclass
class Run:
    """A run on two cores whose engine works on `threads` of them; `cpu_budget` is the limit."""

    cpu_budget: float = 1.0
    threads: float = 1.5
    faces: int = 1
    now: float = 0.0
    spent: float = 0.0
    slow: float = 1.0
    decisions: list[list[FaceDecision]] = field(default_factory=list[list[FaceDecision]])

    def __post_init__(self) -> None:
        budget = ProcessorBudget(self, 2, lambda: self.spent, PERIOD)
        self.governor = QualityGovernor(PERIOD, 0.1, budget=budget)
        self.governor.costs.learn("s", 0.0115)

    def go(self, seconds: float, *, late: int = 0) -> float:
        """Runs for so long; the cores in use on average."""
        began, spent = self.now, self.spent
        while self.now < began + seconds:
            decisions = self.governor.plan(
                self.now, [FaceDemand(k, 200.0 - k, "s") for k in range(self.faces)], late=late
            )
            done = [(d.engine, d.key) for d in decisions if d.engine]
            took = [self.slow * (KEY_S if key else CARRY_S) for _, key in done]
            self.governor.costs.spent(sum(took), done)
            self.spent += OTHER_S + sum(
                t * (self.threads if key else 1.0) for t, (_, key) in zip(took, done, strict=True)
            )
            self.decisions.append(decisions)
            self.now += PERIOD
        return (self.spent - spent) / (self.now - began)


def test_a_run_within_its_budget_stays_on_the_highest_level() -> None:
    run = Run(cpu_budget=0.6)  # 1.2 of two cores; it needs 0.96
    assert run.go(60) == pytest.approx(0.96, abs=0.02)
    assert not run.governor.steps


@pytest.mark.parametrize("share", [0.2, 0.25, 0.3, 0.4])
def test_the_budget_is_kept_and_the_level_settles(share: float) -> None:
    run = Run(cpu_budget=share)
    run.go(8)
    used = [run.go(2) for _ in range(60)]
    assert max(used) <= 2 * share * 1.02
    assert sum(used) / len(used) > 2 * share * 0.5
    assert len([s for s in run.governor.steps if s.time > 20]) <= 4
    assert "of the processor" in run.governor.steps[0].why


def test_a_budget_too_small_for_any_face_leaves_them_alone() -> None:
    run = Run(cpu_budget=0.15)  # 0.3 cores, of which 0.24 are no face's
    run.go(20)
    used = [run.go(2) for _ in range(60)]
    assert sum(used) / len(used) <= 0.3
    assert run.governor.levels == ["pass-through"]


def test_a_budget_that_is_changed_in_the_run_is_followed() -> None:
    run = Run(cpu_budget=0.6)
    run.go(10)
    run.cpu_budget = 0.3
    run.go(4)
    assert run.go(20) <= 0.61
    assert run.governor.levels != ["full"]
    run.cpu_budget = 1.0
    run.go(40)
    assert run.governor.levels == ["full"]


def test_more_faces_share_the_budget() -> None:
    run = Run(cpu_budget=0.5)
    run.go(10)
    run.faces = 3
    run.go(4)
    assert run.go(30) <= 1.02
    assert any(d.engine for d in run.decisions[-1])


def test_the_first_seconds_do_not_lead_down() -> None:
    run = Run(slow=6.0)  # a cold computer: everything takes six times as long, and frames come late
    run.go(1.5, late=1)
    run.slow = 1.0
    run.go(10)
    assert not run.governor.steps
    assert run.governor.levels == ["full"]


def test_a_computer_that_stays_slow_leads_down() -> None:
    run = Run(slow=6.0)
    run.go(4, late=1)
    assert run.governor.steps and 2.0 <= run.governor.steps[0].time < 3.0


def test_another_device_has_first_seconds_of_its_own() -> None:
    governor = QualityGovernor(PERIOD, 0.1)
    for k in range(240):
        governor.plan(k * PERIOD, [FaceDemand(1, 200.0, "s")], late=int(120 <= k < 160), carries=k < 120)
        governor.costs.spent(0.05 if 120 <= k < 160 else 0.016, [("s", True)])
    assert not governor.steps
