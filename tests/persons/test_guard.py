"""How much of a correction is kept as the person drifts away: steady, bounded steps, and back again."""

from __future__ import annotations

from itertools import pairwise

import pytest

from rtface.persons.guard import FILTERING, MIN_KEPT_SHARE, GuardedTrack, kept_at
from rtface.util.fade import MOST_A_FRAME

SAME, OTHER = 0.03, 0.3
TICK = 0.04


def shares(track: GuardedTrack, begin: float, seconds: float, drift: float | None = None) -> list[float]:
    """The shares kept frame by frame, with a look every 0.6 s."""
    found: list[float] = []
    for count in range(round(seconds / TICK)):
        time = begin + count * TICK
        found.append(track.advance(time, FILTERING))
        if drift is not None and track.is_due(time):
            track.learn(time, drift, FILTERING, 0.6)
    return found


def test_what_stays_the_person_is_kept_whole() -> None:
    assert kept_at(0.0, FILTERING) == kept_at(SAME, FILTERING) == 1.0
    assert shares(GuardedTrack(), 0.0, 3.0, SAME) == [1.0] * 75


def test_farther_away_less_is_kept() -> None:
    found = [kept_at(0.01 * step, FILTERING) for step in range(30)]
    assert found == sorted(found, reverse=True)
    assert found[-1] == pytest.approx(MIN_KEPT_SHARE)


def test_the_first_look_holds_at_once() -> None:
    track = GuardedTrack()
    assert track.advance(5.0, FILTERING) == 1.0
    assert track.learn(5.0, OTHER, FILTERING, 0.6)
    assert track.kept == pytest.approx(MIN_KEPT_SHARE)
    assert not track.learn(5.6, OTHER, FILTERING, 0.6)


@pytest.mark.parametrize("pair", [(SAME, OTHER), (OTHER, SAME)])
def test_changes_are_smooth_in_both_directions(pair: tuple[float, float]) -> None:
    track = GuardedTrack()
    shares(track, 0.0, 1.0, pair[0])
    before = track.kept
    found = [before, *shares(track, 1.0, 4.0, pair[1])]
    steps = [b - a for a, b in pairwise(found)]
    assert max(map(abs, steps)) <= MOST_A_FRAME + 1e-9
    assert all(step >= -1e-9 for step in steps) or all(step <= 1e-9 for step in steps)
    assert abs(found[-1] - kept_at(pair[1], FILTERING)) < 0.02


def test_a_single_odd_look_takes_only_a_part() -> None:
    track = GuardedTrack()
    shares(track, 0.0, 2.0, SAME)
    track.learn(2.0, 0.14, FILTERING, 0.6)  # alone it would keep next to nothing
    assert track.drift == pytest.approx(0.085)
    assert min(shares(track, 2.04, 1.0)) > 0.99


def test_another_engine_lets_the_share_return() -> None:
    track = GuardedTrack()
    shares(track, 0.0, 1.0, OTHER)
    found = [track.advance(1.0 + TICK * k, None) for k in range(50)]
    assert found[0] < 0.15 and found[-1] > 0.95
