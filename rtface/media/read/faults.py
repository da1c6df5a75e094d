"""What is wrong with an input."""

from __future__ import annotations

from rtface.errors import InputError
from rtface.stats import Stats


class Faults:
    """Counts what is wrong with an input and warns about it once; without `stats`, nothing is said before
    `report_to`.

    Args:
        name: of the input, for messages.
        stats, strict: as of `report_to`.
    """

    def __init__(self, name: str, stats: Stats | None = None, *, strict: bool = False) -> None:
        self.name, self.stats, self._strict, self._silent = name, stats or Stats(), strict, stats is None

    def report_to(self, stats: Stats, *, strict: bool) -> None:
        """From now on counts and warns there; with `strict`, damage raises InputError."""
        self.stats, self._strict, self._silent = stats, strict, False

    def found(self, key: str, message: str, count: int = 1) -> None:
        """Counts a fault, and says it."""
        self.stats.count(key, count)
        self.say(key, message)

    def say(self, key: str, message: str) -> None:
        """Says a fault once, or raises InputError."""
        if self._strict:
            raise InputError(
                "{path}: {what} ({--strict=True})", code="strict_path", path=self.name, what=message.split(";")[0]
            )
        self.warn(key, message)

    def warn(self, key: str, message: str) -> None:
        """Says once what is no damage."""
        if not self._silent:
            self.stats.warn(key, f"{self.name}: {message}")
