"""Tests of the strength of a face's correction, by factor."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from rtface.enhance.strength import Strength

FACTORS = [one.name for one in fields(Strength)]


@pytest.mark.parametrize("name", FACTORS)
def test_every_factor_counts(name: str) -> None:
    whole = Strength(decided=1.2)
    assert replace(whole, **{name: 0.0}).applied == 0.0
    half = replace(whole, **{name: 0.5 * getattr(whole, name)})
    assert half.applied == pytest.approx(0.5 * whole.applied)


def test_the_weakest_factor_is_named_but_what_was_asked() -> None:
    assert (Strength().weakest, Strength(asked=0.1, decided=1.4).weakest) == ("", "")
    assert Strength(0.1, pose=0.7, level=0.4, guard=0.9).weakest == "level"


def test_an_invisible_trial_of_a_level_is_not_seen() -> None:
    assert Strength(decided=0.01).seen and not Strength(level=0.001).seen
