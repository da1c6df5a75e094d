"""Stores the settings that can change during a live run."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from rtface.config.look import Look, control_of
from rtface.config.options import OPTIONS, Trait, having
from rtface.engine.engine_set import LIGHT, engines_of_look
from rtface.errors import RestartNeeded, UsageError
from rtface.util.parse import boolean, is_person_name, is_person_number
from rtface.util.text import brief

STEP = 0.1  # change by one key press


class LiveControls:
    """Settings that the run reads before every frame; thread-safe.

    Users change them by keyboard or over HTTP.

    Args:
        locked: settings that cannot be changed, with the reason.
        engine: engine of the run, as in the options.
        stop: event that ends the run when set; None creates one.
        values: initial values of the attributes below; omitted attributes get their defaults.

    Attributes:
        enabled: whether faces are enhanced; if not, frames pass unchanged.
        always: whether every face is corrected, regardless of the expected gain.
        strength: share of the correction that is added, 0…1.
        look: fine detail to add, as in the options.
        light: amount by which a dark frame is brightened, 0…1.
        cpu_budget: share of all cores that the run may use, 0…1; 1 is no limit.
        persons: share of the strength for individual persons, 0…1, by lower-case label. Persons without an
            entry get 1. The mapping is replaced, never modified.
        stop: event that ends the run when set.
    """

    enabled: bool
    always: bool
    strength: float
    look: Look | float
    light: float
    cpu_budget: float

    def __init__(
        self,
        *,
        locked: Mapping[str, UsageError] | None = None,
        engine: str = LIGHT,
        stop: threading.Event | None = None,
        **values: float | str,
    ) -> None:
        defaults = {"enabled": True, "always": False, **{name: OPTIONS[name].default for name in having(Trait.CONTROL)}}
        self._locked, self._engine, self._names = locked or {}, engine, tuple(defaults)
        for name, value in (defaults | values).items():
            setattr(self, name, value)
        self.persons: Mapping[str, float] = {}
        self._lock = threading.Lock()
        self.stop = stop or threading.Event()

    def set_person(self, label: str, strength: object) -> None:
        """Changes the share of the strength that a person gets.

        Raises:
            UsageError: `label` is not a person's name or number, or the strength is locked or no share.
        """
        if not (is_person_number(label) or is_person_name(label)):
            raise UsageError(
                "{name} is not a person's name or number; 'GET /status' lists the persons",
                code="live_person",
                name=brief(label, 40),
            )
        self.check_lock("strength")
        with self._lock:
            self.persons = {**self.persons, label.lower(): OPTIONS["strength"].check(strength, "strength")}

    def check_lock(self, name: str) -> None:
        """Raises UsageError for a locked option."""
        if name in self._locked:
            raise self._locked[name].with_traceback(None)

    def values(self) -> dict[str, float | str]:
        """Returns all settings by name."""
        return {name: getattr(self, name) for name in self._names}

    def set(self, name: str, value: object) -> None:
        """Changes one value.

        Raises:
            UsageError: the name is unknown or locked, or the value has the wrong type or is out of range.
            RestartNeeded: the engine is not loaded for this look, or a recording's metadata states the look.
        """
        if name not in self._names:
            raise UsageError(
                "{name} cannot be changed during a run; {names} can",
                code="control_name",
                name=brief(name, 40),
                names=", ".join(self._names),
            )
        self.check_lock("correct" if name == "always" else name)
        new: Any = (OPTIONS[name].check if name in OPTIONS else boolean)(value, name)
        if name == "look" and self._engines(new) != self._engines(self.look):
            raise RestartNeeded("the engine must be loaded again for this look; restart the run", code="look_engine")
        setattr(self, name, new)

    def _engines(self, look: Look | float) -> object:
        return engines_of_look(self._engine, control_of(look))

    def toggle(self, name: str = "enabled") -> None:
        """Toggles enhancement, or the correction of every face."""
        self.set(name, not getattr(self, name))

    def nudge(self, steps: int, name: str = "strength") -> None:
        """Changes strength (or light) by a number of tenths, within 0…1."""
        self.set(name, min(1.0, max(0.0, round(getattr(self, name) + steps * STEP, 3))))
