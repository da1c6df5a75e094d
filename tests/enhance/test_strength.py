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


def test_an_invisible_trial_of_a_level_is_not_seen() -> None:
    assert Strength(decided=0.01).seen and not Strength(level=0.001).seen
