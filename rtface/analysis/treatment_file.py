"""Reads and writes the JSON file of treatments, which users may edit.

Its format is ``{"version": 1, "tracks": {"3": {"on": true, "strength": 0.8}}}``. Other keys of a track (results of the
analysis) are for information only, and other top-level keys are ignored. ``"persons"`` may contain the same keys for a
person's name or number, ``{"P2": {"strength": 0.5}}``. They take precedence over those of tracks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal, cast

from msgspec import UNSET, UnsetType, defstruct

from rtface.analysis.treatment import MAX_STRENGTH, Treatment
from rtface.errors import InputMissing, UsageError
from rtface.util.foreign import read_regular
from rtface.util.parse import Check, boolean, is_person_name, is_person_number, number
from rtface.util.spelling import hint
from rtface.util.toml_dataclass import parse_json

VERSION = 1


def treatments_table(
    tracks: Mapping[int, Treatment], notes: Mapping[int, Mapping[str, Any]] | None = None
) -> dict[str, object]:
    """Returns the treatment file as a table."""
    return {
        "version": VERSION,
        "tracks": {
            str(track): {
                "on": t.on,
                "strength": t.strength if t.on else 1.0,
                "first": t.first,
                "ring": t.ring,
                "detail": t.detail,
                "gain_db": t.gain,
                "reasons": list(t.reasons),
                **(notes or {}).get(track, {}),
            }
            for track, t in sorted(tracks.items())
        },
    }


@dataclass(frozen=True, slots=True)
class Treatments:
    """The content of a treatment file.

    Attributes:
        by_track: the treatments of tracks.
        by_person: the treatments of persons, by label in lower case; entries without any treatment key are left out.
        made_for: the input for which the file was made; None if the file does not contain it.
    """

    by_track: Mapping[int, Treatment] = field(default_factory=dict[int, Treatment])
    by_person: Mapping[str, Treatment] = field(default_factory=dict[str, Treatment])
    made_for: str | None = None

    def other_than(self, input: str | os.PathLike[str]) -> str | None:
        """Returns `made_for` if its name differs from that of `input`."""
        made_for = self.made_for
        return None if made_for is None or PurePath(made_for).name == PurePath(str(input)).name else made_for


_FILE = defstruct(
    "_FILE",
    [("version", Literal[1]), ("tracks", dict[str, Any]), ("persons", dict[str, Any] | UnsetType, UNSET)],
)


def read_treatments(path: Path) -> Treatments:
    """Reads a treatment file. Raises InputMissing if there is none, UsageError if it is invalid."""
    where = f"treatment file {path}"
    try:
        table: Any = parse_json(read_regular(path).decode("utf-8"), _FILE)
    except FileNotFoundError as error:
        raise InputMissing(
            "treatment file {path} does not exist; make one with: rtface analyze INPUT --json",
            code="treatment_gone",
            path=path,
        ) from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(
            "treatment file {path} cannot be read: {why}", code="treatment_unreadable", path=path, why=why
        ) from error
    made_for = table.get("input")
    return Treatments(
        {int(track): treatment for track, treatment in _entries(table, "tracks", where)},
        {person.lower(): treatment for person, treatment in _entries(table, "persons", where)},
        made_for if isinstance(made_for, str) else None,
    )


_KEYS: Mapping[str, tuple[bool | float, Check[Any]]] = {
    "on": (True, boolean),
    "strength": (1.0, number(0, MAX_STRENGTH)),
    "first": (0.0, number(0, 1)),
    "ring": (0.0, number(0, 1)),
    "detail": (1.0, number(0, 1)),
}
"""Editable keys, each with its default and its check."""


def _entries(table: Mapping[str, Any], name: str, where: str) -> Iterator[tuple[str, Treatment]]:
    """Yields the treatments of tracks, or of persons who have one."""
    for key, value in table.get(name, {}).items():
        is_track = re.fullmatch("[1-9][0-9]{0,8}", key) is not None
        if not isinstance(value, dict) or not (
            is_track if name == "tracks" else is_person_number(key) or is_person_name(key)
        ):
            raise UsageError(
                "{where}: {name}.{key} must be the number of a track or a person, with a table of {keys}",
                code="treatment_entry",
                where=where,
                name=name,
                key=key[:40],
                keys=", ".join(_KEYS),
            )
        settings = cast("dict[str, object]", value)
        treatment = _treatment(settings, f"{where}: {name}.{key}")
        if name == "tracks" or not settings.keys().isdisjoint(_KEYS):
            yield key, treatment


def _treatment(table: dict[str, object], where: str) -> Treatment:
    for key in table:
        if key not in (*_KEYS, "first_s") and (suggestion := hint(key, _KEYS)):  # "first_s" is not a misspelt "first"
            raise UsageError(
                "{where}.{key} is not a key{hint}", code="treatment_unknown", where=where, key=key, hint=suggestion
            )
    values = {key: check(table.get(key, default), f"{where}.{key}") for key, (default, check) in _KEYS.items()}
    return Treatment(**values, reasons=("as the treatment file says",))
