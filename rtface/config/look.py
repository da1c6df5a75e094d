"""Looks: how much fine detail a correction adds, by a word or by a number, the fidelity (``--look``)."""

from __future__ import annotations

from typing import Literal, get_args

Look = Literal["faithful", "clear", "vivid"]
LOOKS: tuple[str, ...] = get_args(Look)
USUAL: Look = "clear"
VIVID_DETAIL = 1.5
"""How much detail is added at fidelity 0, of that which makes a face as clear as one of its size."""
_FIDELITIES = {"faithful": 1.0, "clear": 0.5, "vivid": 0.0}


def fidelity_of(look: str | float) -> float:
    """The fidelity, 0…1, that a look means."""
    return _FIDELITIES[look] if isinstance(look, str) else look


def look_of(look: str | float) -> Look:
    """The word that a look belongs to: of numbers faithful is 1 alone, vivid all below a half."""
    fidelity = fidelity_of(look)
    return "faithful" if fidelity >= 1.0 else "clear" if fidelity >= _FIDELITIES[USUAL] else "vivid"


def detail_of(look: str | float) -> float:
    """How much detail is to be added: 0 at fidelity 1, 1 at a half, `VIVID_DETAIL` at 0, linear between."""
    fidelity, half = fidelity_of(look), _FIDELITIES[USUAL]
    return (1.0 - fidelity) / half if fidelity >= half else 1.0 + (VIVID_DETAIL - 1.0) * (half - fidelity) / half


def control_of(look: str | float) -> float | None:
    """Gives the position, 0…1, of an engine's control; None leaves it at the engine's own."""
    return None if look == USUAL else fidelity_of(look)
