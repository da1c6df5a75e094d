"""Holds the settings of shots, and looks them up by presentation time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from rtface.config.options import check, locked, locked_error
from rtface.errors import UsageError
from rtface.util.parse import boolean
from rtface.util.spelling import hint


@dataclass(frozen=True, slots=True)
class ShotSettings:
    """Holds settings that replace the run's options in a shot. None means the run's option.

    Attributes:
        correct: "auto", "always" or "never"; "off" in a list means "never".
        strength: factor of the correction, 0…1.
    """

    correct: Literal["auto", "always", "never"] | None = None
    strength: float | None = None

    def __bool__(self) -> bool:
        return self != AS_RUN

    def strength_of(self, run: float) -> float:
        """Returns the strength in the shot, given that of the run."""
        return run if self.strength is None else self.strength


KEYS = ("strength", "correct", "off")
"""Settings of a shot; ``off`` is short for ``correct=never``."""

AS_RUN = ShotSettings()
"""No settings: the shot is processed with the options of the run."""


def read_settings(pairs: Iterable[tuple[str, object]], where: str) -> ShotSettings:
    """Converts keys and values of a list to settings. Empty values are skipped.

    Args:
        pairs: pairs of key and value: ("strength", "0.5"), ("off", "yes"), ("correct", "auto").
        where: prefix of the messages, such as "cuts.edl, line 7".

    Raises:
        UsageError: an unknown key (the message suggests the nearest), a value that is not valid or that the policy
            does not allow, or a duplicate key.
    """
    values, policy = dict[str, object](), locked()
    for name, value in pairs:
        key = name.strip().lower().replace("-", "_")
        if key not in KEYS:
            raise UsageError(
                "{where}: {setting!r} is not a setting of a shot{hint} (settings are {settings})",
                code="shot_setting",
                where=where,
                setting=name.strip()[:40],
                hint=hint(key, KEYS),
                settings=", ".join(KEYS),
            )
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        if key == "off":
            if not boolean(value, f"{where}: off"):
                continue
            key, value = "correct", "never"
        if key in values:
            raise UsageError(
                "{where}: {key} appears twice (off is correct=never); delete one",
                code="shot_setting_twice",
                where=where,
                key=key,
            )
        values[key] = check(key, value, f"{where}: {key}")
        if policy.get(key, values[key]) != values[key]:
            raise locked_error(key)
    return replace(AS_RUN, **values)


@dataclass(frozen=True, slots=True)
class Shot:
    """Describes one shot of a list.

    Attributes:
        begin, end: seconds of the input's own clock; frames with begin ≤ time < end belong to it. `end` is None for
            the end of the film.
        settings: settings for its frames.
        where: its place in the list for messages: "line 7", or the name of a clip.
    """

    begin: Fraction
    end: Fraction | None
    settings: ShotSettings
    where: str = ""


class ShotList:
    """Holds the shots of a film that have settings. Other frames use the run's options.

    Args:
        shots: shots in any order.
        name: name of the file, for messages.
        early: seconds by which all borders are moved earlier: a quarter of a frame. Timestamps that a container
            rounded, and second fields, are then on the correct side of a border.

    Raises:
        UsageError: a shot that does not end after it begins, or two overlapping shots; the message lists them.
    """

    def __init__(self, shots: Iterable[Shot] = (), *, name: str = "", early: Fraction = Fraction(0)) -> None:
        self.name = name
        self.shots: Sequence[Shot] = sorted((shot for shot in shots if shot.settings), key=lambda shot: shot.begin)
        for shot in self.shots:
            if shot.end is not None and shot.end <= shot.begin:
                raise UsageError(
                    "{name}, {where}: a shot must end after it begins", code="shot_order", name=name, where=shot.where
                )
        for one, other in zip(self.shots, self.shots[1:], strict=False):
            if one.end is None or one.end > other.begin:
                raise UsageError(
                    "{name}: the shots of {where} and {other} overlap; a frame can have the settings of one shot only",
                    code="shots_overlap_where",
                    name=name,
                    where=one.where,
                    other=other.where,
                )
        self._begins = [float(shot.begin - early) for shot in self.shots]
        self._ends = [float("inf") if shot.end is None else float(shot.end - early) for shot in self.shots]

    def __len__(self) -> int:
        return len(self.shots)

    def at(self, time: float) -> ShotSettings:
        """Returns the settings for `time`, seconds of the input's own clock."""
        place = bisect_right(self._begins, time) - 1
        return self.shots[place].settings if place >= 0 and time < self._ends[place] else AS_RUN


NO_SHOTS = ShotList()
"""The list of a run without ``--shots``."""
