"""Stores the settings that can change during a live run."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from rtface.config.options import OPTIONS, Trait, having
from rtface.errors import UsageError
from rtface.util.parse import is_person_name, is_person_number
from rtface.util.text import brief

STEP = 0.1  # change by one key press


class LiveControls:
    """Settings that the run reads before every frame; thread-safe.

    Users change them by keyboard or over HTTP.

    Args:
        locked: settings that cannot be changed, with the reason.
        stop: event that ends the run when set; None creates one.
        values: initial values of the attributes below; omitted attributes get their defaults.

    Attributes:
        enabled: whether faces are enhanced; if not, frames pass unchanged.
        always: whether every face is corrected, regardless of the expected gain.
        strength: share of the correction that is added, 0…1.
        light: amount by which a dark frame is brightened, 0…1.
        cpu_budget: share of all cores that the run may use, 0…1; 1 is no limit.
        persons: share of the strength for individual persons, 0…1, by lower-case label. Persons without an
            entry get 1. The mapping is replaced, never modified.
        stop: event that ends the run when set.
    """

    enabled: bool
    always: bool
    strength: float
    light: float
    cpu_budget: float

    def __init__(
        self,
        *,
        locked: Mapping[str, str] | None = None,
        stop: threading.Event | None = None,
        **values: float,
    ) -> None:
        defaults = {"enabled": True, "always": False, **{name: OPTIONS[name].default for name in having(Trait.CONTROL)}}
        self._locked, self._names = locked or {}, tuple(defaults)
        for name, value in (defaults | values).items():
            setattr(self, name, value)
        self.persons: Mapping[str, float] = {}
        self._lock = threading.Lock()
        self.stop = stop or threading.Event()

    def set_person(self, label: str, strength: float) -> None:
        """Changes the share of the strength that a person gets.

        Raises:
            UsageError: `label` is not a person's name or number, or a policy locks the strength.
        """
        if not (is_person_number(label) or is_person_name(label)):
            raise UsageError(
                "{name} is not a person's name or number; 'GET /status' lists the persons",
                code="live_person",
                name=brief(label, 40),
            )
        self.check_lock("strength")
        with self._lock:
            self.persons = {**self.persons, label.lower(): strength}

    def check_lock(self, name: str) -> None:
        """Raises UsageError for an option that a policy locks."""
        if name in self._locked:
            raise UsageError(self._locked[name])

    def values(self) -> dict[str, float | bool]:
        """Returns all settings by name."""
        return {name: getattr(self, name) for name in self._names}

    def set(self, name: str, value: float | bool) -> None:
        """Changes one value.

        Raises:
            UsageError: the name is unknown or locked, or the value has the wrong type or is out of range.
        """
        same_type = isinstance(self.values().get(name, ""), bool) == isinstance(value, bool)
        if name not in self._names or not same_type or not 0.0 <= value <= 1.0:  # rejects NaN, too
            raise UsageError(
                "{name} cannot be {value}: enabled and always must be true or false, and {names} numbers from 0 to 1",
                code="control_value",
                name=name,
                value=value,
                names=", ".join(having(Trait.CONTROL)),
            )
        self.check_lock("correct" if name == "always" else name)
        setattr(self, name, value)

    def toggle(self, name: str = "enabled") -> None:
        """Toggles enhancement, or the correction of every face."""
        self.set(name, not getattr(self, name))

    def nudge(self, steps: int, name: str = "strength") -> None:
        """Changes strength (or light) by a number of tenths, within 0…1."""
        self.set(name, min(1.0, max(0.0, round(getattr(self, name) + steps * STEP, 3))))
