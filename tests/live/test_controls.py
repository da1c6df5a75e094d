"""Controls: what may be changed, and how far."""

from __future__ import annotations

import math

import pytest

from rtface.errors import UsageError
from rtface.live.controls import LiveControls


def test_values_change_within_their_range():
    controls = LiveControls(strength=0.95)
    controls.toggle()
    controls.nudge(1)
    assert controls.strength == 1.0
    controls.nudge(-2)
    controls.set("light", 0.5)
    assert controls.values() == {"enabled": False, "always": False, "strength": 0.8, "light": 0.5, "cpu_budget": 1.0}


@pytest.mark.parametrize(
    ("name", "value"), [("strenght", 1.0), ("strength", 1.5), ("strength", math.nan), ("enabled", 1.0), ("light", True)]
)
def test_what_cannot_be_is_refused(name, value):
    controls = LiveControls()
    before = controls.values()
    with pytest.raises(UsageError):
        controls.set(name, value)
    assert controls.values() == before
