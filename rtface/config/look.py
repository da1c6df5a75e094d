"""Defines looks: how much fine detail a correction adds (``--look``). A look is a word or a number, the fidelity."""

from __future__ import annotations

from typing import Literal, get_args

Look = Literal["faithful", "clear", "vivid"]
LOOKS: tuple[str, ...] = get_args(Look)
USUAL: Look = "clear"
VIVID_DETAIL = 1.5
"""Detail at fidelity 0, as a factor of the detail that a sharp face of this size has."""
_FIDELITIES = {"faithful": 1.0, "clear": 0.5, "vivid": 0.0}


def fidelity_of(look: str | float) -> float:
    """Returns the fidelity of a look, 0…1."""
    return _FIDELITIES[look] if isinstance(look, str) else look


def look_of(look: str | float) -> Look:
    """Returns the word for a look. Of the numbers, only 1 is faithful, and those below 0.5 are vivid."""
    fidelity = fidelity_of(look)
    return "faithful" if fidelity >= 1.0 else "clear" if fidelity >= _FIDELITIES[USUAL] else "vivid"


def detail_of(look: str | float) -> float:
    """Returns the factor of detail for a look: 0 at fidelity 1, 1 at 0.5, `VIVID_DETAIL` at 0, and linear between."""
    fidelity, clear = fidelity_of(look), _FIDELITIES[USUAL]
    return (1.0 - fidelity) / clear if fidelity >= clear else 1.0 + (VIVID_DETAIL - 1.0) * (clear - fidelity) / clear


def control_of(look: str | float) -> float | None:
    """Returns the position of an engine's control, 0…1. None means the engine's default."""
    return None if look == USUAL else fidelity_of(look)
