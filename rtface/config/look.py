"""Looks: how much fine detail a correction adds, by a word (``--look``) or by a number (``--fidelity``)."""

from __future__ import annotations

from typing import Literal, get_args

from rtface.errors import UsageError

Look = Literal["faithful", "clear", "vivid"]
LOOKS: tuple[str, ...] = get_args(Look)
USUAL: Look = "clear"
VIVID_DETAIL = 1.5
"""How much detail is added at fidelity 0, of that which makes a face as clear as one of its size."""
_FIDELITIES = {"faithful": 1.0, "clear": 0.5, "vivid": 0.0}


def fidelity_of(look: str, fidelity: float | None = None) -> float:
    """The fidelity, 0…1, that a look means; a `fidelity` that was asked for is more exact."""
    return _FIDELITIES[look] if fidelity is None else fidelity


def look_of(fidelity: float) -> Look:
    """The look that a fidelity, 0…1, belongs to: faithful is 1 alone, vivid all below a half."""
    return "faithful" if fidelity >= 1.0 else "clear" if fidelity >= _FIDELITIES[USUAL] else "vivid"


def detail_of(fidelity: float) -> float:
    """How much detail is to be added at a fidelity, 0…1: 0 at 1, 1 at a half, `VIVID_DETAIL` at 0, linear between."""
    half = _FIDELITIES[USUAL]
    return (1.0 - fidelity) / half if fidelity >= half else 1.0 + (VIVID_DETAIL - 1.0) * (half - fidelity) / half


def control_of(look: str, fidelity: float | None = None) -> float | None:
    """What the control of an engine that has one is turned to, 0…1; None leaves it at the engine's own."""
    return None if fidelity is None and look == USUAL else fidelity_of(look, fidelity)


def check_look(look: str, fidelity: float) -> None:
    """Raises UsageError where a look and a fidelity do not agree."""
    if look != look_of(fidelity):
        raise UsageError(
            "{--look:{look}} and {--fidelity:{fidelity:g}}, which is {other}, do not agree; leave one of them out",
            code="look_fidelity",
            look=look,
            fidelity=fidelity,
            other=look_of(fidelity),
        )
