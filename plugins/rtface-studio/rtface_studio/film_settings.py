"""Stores the settings of a film: for the whole film, for shots and for persons."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from rtface.analysis.treatment import Treatment
from rtface.analysis.treatment_file import VERSION
from rtface.config.option_sources import load
from rtface.config.options import Options, Trait, check, having, person_photos
from rtface.errors import OutputError, UsageError
from rtface.media.files.fingerprint import fingerprint
from rtface.media.files.image_names import is_image
from rtface.repair.mask import mask_path
from rtface.util.files import write_atomically
from rtface.util.parse import is_person_name, is_person_number
from rtface.util.paths import data_dir
from rtface.web.http import JsonObject

OPTIONS = having(Trait.FILM_PAGE)
"""The options of a run that the page sets for the whole film."""
_SHOT = ("start_s", "end_s", "on", "strength")
_PERSON = ("name", "on", "strength")
_MAX_ROWS, _LATEST_S = 1000, 1e7
"""Maximum number of shots, and also of persons; latest end of a shot in seconds."""


@dataclass(frozen=True, slots=True)
class FilmSettings:
    """Valid settings of one film.

    Attributes:
        run: options for the whole film that differ from the defaults.
        shots: tables with "start_s", "end_s" and optionally "on" and "strength"; in order, without overlap.
        persons: tables by label (P1, P2, …) with "on" (default: true), "strength" (a factor), and "name" (of the
            learnt person).
        repair: whether a run fills the damage that the kept mask of a photograph marks.
    """

    run: JsonObject = field(default_factory=JsonObject)
    shots: tuple[JsonObject, ...] = ()
    persons: dict[str, JsonObject] = field(default_factory=dict[str, JsonObject])
    repair: bool = False

    @classmethod
    def of(cls, values: object) -> FilmSettings:
        """Creates settings from a JSON object of the page: options by name, "shots", "persons" and "repair".

        Raises:
            UsageError: a name is not a setting of the page, or a value is invalid.
        """
        table = _table(values, "settings")
        shots, persons = table.pop("shots", []), _table(table.pop("persons", {}), "persons")
        repair = table.pop("repair", False) is True
        run = {key: value for key, value in table.items() if value is not None}
        if unknown := set(run) - set(OPTIONS):
            raise UsageError(
                "{name} is not a setting of this page; its settings are {names}",
                code="no_setting",
                name=sorted(unknown)[0][:40],
                names=", ".join(OPTIONS),
            )
        Options.of(run)
        if not isinstance(shots, list) or len(cast(list[Any], shots)) > _MAX_ROWS or len(persons) > _MAX_ROWS:
            raise UsageError("shots must be a list; 1,000 shots and 1,000 persons are the maximum", code="shots_many")
        rows = sorted((_shot(_table(row, "a shot")) for row in cast(list[Any], shots)), key=lambda row: row["start_s"])
        for earlier, later in pairwise(rows):
            if later["start_s"] < earlier["end_s"]:
                raise UsageError(
                    "the shots at {first} s and {second} s overlap",
                    code="shots_overlap",
                    first=f"{earlier['start_s']:g}",
                    second=f"{later['start_s']:g}",
                )
        return cls(
            run,
            tuple(rows),
            {label: _person(label, _table(value, label)) for label, value in persons.items()},
            repair,
        )

    def at(self, time: float, persons: Sequence[str] = ()) -> Options:
        """Returns the options for rendering one frame. Other options come from the settings file and the environment.

        Args:
            time: seconds from the beginning of the film.
            persons: labels of the persons on the frame. A single person's settings are included in the options.
        """
        defaults = load({}).options
        values: JsonObject = {**self.run, "person": self._person_values(defaults)}
        for shot in self.shots:
            if shot["start_s"] - 1e-4 <= time < shot["end_s"] - 1e-4:
                values["strength"] = shot.get("strength", values.get("strength", defaults.strength))
                if "on" in shot:
                    values["correct"] = "always" if shot["on"] else "never"
        if len(persons) == 1 and (person := self._factors(persons[0])):
            values["correct"] = "always" if person.get("on", True) else "never"
            values["strength"] = float(values.get("strength", defaults.strength)) * float(person.get("strength", 1.0))
        return replace(defaults, **values)

    def treatment_of(self, person: str) -> Treatment | None:
        """Returns the treatment set for a person, or None."""
        table, why = self._factors(person), ("set for this person",)
        return Treatment(bool(table.get("on", True)), float(table.get("strength", 1.0)), why) if table else None

    def for_run(self, folder: Path, source: Path) -> Options:
        """Returns the options of the whole run. Writes shots and persons to files in `folder`.

        The file names contain a hash of the content, so that later changes do not affect a waiting run.

        Raises:
            OutputError: a file cannot be written.
        """
        options = load(self.run).options
        options = replace(options, person=self._person_values(options))
        if self.repair and (mask := mask_path(source)).is_file():
            options = replace(options, repair=mask)
        if any(_sets_something(shot) for shot in self.shots):
            options = replace(options, shots=_write_hashed(folder, "shots", ".csv", self._csv()))
        if by_person := {self.name_of(label) or label: row for label in self.persons if (row := self._factors(label))}:
            table = {"version": VERSION, "input": source.name, "tracks": {}, "persons": by_person}
            options = replace(options, treatment=_write_hashed(folder, "persons", ".json", json.dumps(table, indent=1)))
        return options

    def name_of(self, label: str) -> str:
        """Returns the name that the user assigned to a person, or ""."""
        return str(self.persons.get(label, {}).get("name", ""))

    def _factors(self, label: str) -> JsonObject:
        """Returns a person's settings except the name."""
        return {key: value for key, value in self.persons.get(label, {}).items() if key != "name"}

    def _person_values(self, options: Options) -> tuple[str, ...]:
        """Returns the values of ``--person``: those of `options`, and the names that the user assigned."""
        names = dict.fromkeys(filter(None, map(self.name_of, self.persons)))
        assigned = [
            f"{name}@{','.join(label for label in self.persons if self.name_of(label) == name)}" for name in names
        ]
        unassigned = (value for value in options.person if not {*person_photos((value,))} & {*names})
        return (*unassigned, *assigned)

    def to_json(self) -> JsonObject:
        """Returns the settings in the form that `of` accepts."""
        return (
            self.run | {"shots": list(self.shots), "persons": self.persons} | ({"repair": True} if self.repair else {})
        )

    def _csv(self) -> str:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("start", "end", "strength", "correct"))
        for shot in self.shots:
            if _sets_something(shot):
                correct = {True: "always", False: "never", None: ""}[shot.get("on")]
                times = (f"{shot['start_s']:.6f}", f"{shot['end_s']:.6f}")
                table.writerow((*times, shot.get("strength", ""), correct))
        return text.getvalue()


class SettingsFolder:
    """A folder for the settings of one film. Its name is a hash of the film's samples, so that a moved or renamed film
    keeps its settings."""

    def __init__(self, film: Path) -> None:
        prefix = "still" if is_image(film) else ""
        self.path = data_dir() / "studio" / (prefix + re.sub(r"\W", "", str(fingerprint(film)["samples_sha256"]))[:32])

    def load(self) -> FilmSettings:
        """Reads the settings. Returns empty settings if there is no usable file."""
        try:
            return FilmSettings.of(json.loads((self.path / "settings.json").read_bytes()))
        except (OSError, ValueError, UsageError):
            return FilmSettings()

    def keep(self, settings: FilmSettings) -> None:
        """Writes the settings. Raises OutputError on failure."""
        _write(self.path / "settings.json", json.dumps(settings.to_json(), indent=1))


def _table(value: object, what: str) -> JsonObject:
    if not isinstance(value, dict):
        raise UsageError("{what} must be a JSON object", code="no_object", what=what)
    return {str(key): item for key, item in cast(Mapping[Any, Any], value).items()}


def _shot(row: JsonObject) -> JsonObject:
    """Checks one shot."""
    for key in ("start_s", "end_s"):
        value = row.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LATEST_S:
            raise UsageError("a shot needs {key} in seconds", code="shot_seconds", key=key)
    if unknown := set(row) - set(_SHOT):
        raise UsageError(
            "a shot has no {key}; it has {keys}", code="shot_key", key=sorted(unknown)[0][:40], keys=", ".join(_SHOT)
        )
    where = f"the shot at {row['start_s']:g} s"
    if row["start_s"] >= row["end_s"]:
        raise UsageError("{where} must end after it starts", code="shot_end", where=where)
    return {
        key: row[key] if key.endswith("_s") else _check_value(key, value, where)
        for key, value in row.items()
        if value is not None
    }


def _person(label: str, values: JsonObject) -> JsonObject:
    if not is_person_number(label):
        raise UsageError("{label} is not a person; persons are P1, P2, …", code="no_person", label=label[:40])
    if unknown := set(values) - set(_PERSON):
        raise UsageError(
            "{label} has no {key}; a person has {keys}",
            code="person_key",
            label=label,
            key=sorted(unknown)[0][:40],
            keys=", ".join(_PERSON),
        )
    return {key: _check_value(key, value, label) for key, value in values.items() if value is not None}


def _check_value(key: str, value: object, where: str) -> object:
    if key == "name":
        if not isinstance(value, str) or not is_person_name(value):
            raise UsageError("{name} is not a person", code="no_learnt", name=str(value)[:40])
        return value
    if key != "on":
        return check(key, value, f"{where}: {key}")
    if not isinstance(value, bool):
        raise UsageError("{where}: on must be true or false", code="on_value", where=where)
    return value


def _sets_something(shot: Mapping[str, Any]) -> bool:
    return "on" in shot or "strength" in shot


def _write_hashed(folder: Path, name: str, suffix: str, text: str) -> Path:
    return _write(folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}{suffix}", text)


def _write(path: Path, text: str) -> Path:
    try:
        write_atomically(path, text.encode() + b"\n", private=True)
    except OSError as error:
        raise OutputError(
            "{path}: cannot be written ({why}); free some space", code="write_room", path=path, why=error.strerror
        ) from error
    return path
