"""Reports damage of an input."""

from __future__ import annotations

from rtface.errors import InputError
from rtface.stats import Stats


class Faults:
    """Counts faults of an input and warns once about each kind.

    Args:
        name: name of the input, for messages.
        stats, strict: arguments of `report_to`. Without `stats`, there are no warnings until `report_to` is called.
    """

    def __init__(self, name: str, stats: Stats | None = None, *, strict: bool = False) -> None:
        self.name, self.stats, self._strict, self._silent = name, stats or Stats(), strict, stats is None

    def report_to(self, stats: Stats, *, strict: bool) -> None:
        """Sets the statistics to use. If `strict`, damage raises InputError."""
        self.stats, self._strict, self._silent = stats, strict, False

    def count(self, key: str, message: str, count: int = 1) -> None:
        """Counts a fault and reports it."""
        self.stats.count(key, count)
        self.report(key, message)

    def report(self, key: str, message: str) -> None:
        """Warns of a fault once. If strict, raises InputError instead."""
        if self._strict:
            raise InputError(
                "{path}: {what} ({--strict=True})", code="strict_path", path=self.name, what=message.split(";")[0]
            )
        self.warn(key, message)

    def warn(self, key: str, message: str) -> None:
        """Warns once of a peculiarity that is not damage."""
        if not self._silent:
            self.stats.warn(key, f"{self.name}: {message}")
