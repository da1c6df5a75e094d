"""Simulates the quality levels of a live run under scripted loads.

The run has one face and 30 frames per second. The costs of keyframes and of frames in between are constants that were
measured on two cores. The scripted load multiplies the costs, and adds noise and stalls. `benchmarks.live.loads`
measures real runs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rtface.quality.governor import QualityGovernor
from rtface.quality.levels import FaceDemand

KEY_S, CARRY_S, TRACK_S, REST_S = 0.0165, 0.0063, 0.0075, 0.0005  # keyframe, frame in between, tracking, other work
CEILING_S = 0.1  # maximum age of a frame


@dataclass
class Outcome:
    """The result of a simulated run."""

    frames: int = 0
    enhanced: int = 0
    switched: int = 0
    latency: list[float] = field(default_factory=list[float])
    steps: list[tuple[float, str, str]] = field(default_factory=list[tuple[float, str, str]])
    seen: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])

    def figures(self, seconds: float) -> dict[str, Any]:
        """Returns rates per minute, percentage of enhanced frames, and latencies."""
        p50, p95 = np.percentile(self.latency, [50, 95]) * 1e3
        return {
            "steps_a_minute": round(60 * len(self.steps) / seconds, 1),
            "on_and_off_a_minute": round(60 * self.switched / seconds, 1),
            "enhanced_percent": round(100 * self.enhanced / max(self.frames, 1), 1),
            "p50_ms": round(float(p50), 1),
            "p95_ms": round(float(p95), 1),
        }


def simulate(
    seconds: float, slow: Callable[[float], float], noise: float, stalls: float, *, rate: float = 30.0, seed: int = 1
) -> Outcome:
    """Simulates one run. `slow` returns the factor by which all work is slower at a time."""
    random, period, out = np.random.default_rng(seed), 1.0 / rate, Outcome()
    governor = QualityGovernor(period, CEILING_S)
    governor.costs.learn("s", KEY_S - 0.0045)
    arrivals = deque(np.arange(round(seconds * rate)) * period)
    stall_times = deque(np.cumsum(random.exponential(1 / stalls, round(3 * seconds * stalls) + 10)))
    idle_from, late, was_visible = 0.0, 0, True

    def duration_of(seconds_: float, at: float) -> float:
        pause = 0.0
        while stall_times and stall_times[0] <= at:
            pause += random.uniform(0.03, 0.15) if at - stall_times.popleft() < 1.0 else 0.0
        return seconds_ * slow(at) * float(np.exp(random.normal(0.0, noise))) + pause

    while arrivals:
        arrival = float(arrivals.popleft())
        wait = duration_of(TRACK_S, arrival)
        ready = arrival + (wait if wait < 0.9 * period and arrival >= idle_from - period else 0.0)
        start = max(ready, idle_from)
        age = start - arrival
        out.frames += 1
        strength = 0.0
        if age > 3 * CEILING_S:
            idle_from = start + duration_of(REST_S, start)
            governor.missing(1)
            late += 1
        else:
            late += age > CEILING_S
            (plan,) = governor.plan(arrival, [FaceDemand(1, 200.0, "s")], late=late, age=age)
            late, crops = 0, [(plan.engine, plan.key)] if plan.engine else []
            cost = duration_of(sum(KEY_S if key else CARRY_S for _, key in crops) + REST_S, start)
            governor.costs.spent(cost, crops)
            idle_from, strength = start + cost, plan.strength if plan.engine else 0.0
        visible = strength > 0.01
        out.enhanced += visible
        out.switched += visible != was_visible
        was_visible = visible
        out.seen.append((arrival, strength))
        out.latency.append(idle_from - arrival)
        out.steps += [(s.time, s.before, s.after) for s in governor.steps if not out.steps or s.time > out.steps[-1][0]]
    return out
