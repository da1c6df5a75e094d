"""Stores settings of a film: for the whole film, by shot and by person."""

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
from rtface.util.files import write_atomically
from rtface.util.parse import is_person_name, is_person_number
from rtface.util.paths import data_dir
from rtface.web.http import JsonObject

OPTIONS = having(Trait.FILM_PAGE)
"""The options of a run that the page sets for the whole film."""
_SHOT = ("start_s", "end_s", "on", "strength")
_PERSON = ("name", "on", "strength")
_MOST, _LATEST_S = 1000, 1e7
"""Maximum number of shots, and of persons; and the latest end of a shot in seconds."""


@dataclass(frozen=True, slots=True)
class FilmSettings:
    """Checked settings of the page for a film.

    Attributes:
        run: options for the whole film that differ from the defaults.
        shots: tables with "start_s" and "end_s" and some of "on" and "strength"; in order, without overlap.
        persons: tables by label (P1, P2, …) with "on" (default true), the factor "strength", and "name": the learnt
            person's name.
    """

    run: JsonObject = field(default_factory=JsonObject)
    shots: tuple[JsonObject, ...] = ()
    persons: dict[str, JsonObject] = field(default_factory=dict[str, JsonObject])

    @classmethod
    def of(cls, values: object) -> FilmSettings:
        """Checks a JSON object of the page: options by name, "shots" and "persons".

        Raises:
            UsageError: a name is not a setting of the page, or a value cannot be used.
        """
        table = _table(values, "settings")
        shots, persons = table.pop("shots", []), _table(table.pop("persons", {}), "persons")
        run = {key: value for key, value in table.items() if value is not None}
        if unknown := set(run) - set(OPTIONS):
            raise UsageError(
                "{name} is not a setting of this page; its settings are {names}",
                code="no_setting",
                name=sorted(unknown)[0][:40],
                names=", ".join(OPTIONS),
            )
        Options.of(run)
        if not isinstance(shots, list) or len(cast(list[Any], shots)) > _MOST or len(persons) > _MOST:
            raise UsageError("shots must be a list, and shots and persons not more than 1,000 each", code="shots_many")
        rows = sorted((_row(_table(row, "a shot")) for row in cast(list[Any], shots)), key=lambda row: row["start_s"])
        for before, after in pairwise(rows):
            if after["start_s"] < before["end_s"]:
                raise UsageError(
                    "the shots at {first} s and {second} s overlap",
                    code="shots_overlap",
                    first=f"{before['start_s']:g}",
                    second=f"{after['start_s']:g}",
                )
        return cls(run, tuple(rows), {label: _person(label, _table(value, label)) for label, value in persons.items()})

    def at(self, time: float, persons: Sequence[str] = ()) -> Options:
        """Returns the options for rendering one frame. Other options come from the settings file and variables.

        Args:
            time: seconds from the beginning of the film.
            persons: labels of the persons on the frame. A person's settings apply if no other person is on it.
        """
        defaults = load({}).options
        values: JsonObject = {**self.run, "person": self._named(defaults)}
        for shot in self.shots:
            if shot["start_s"] - 1e-4 <= time < shot["end_s"] - 1e-4:
                values["strength"] = shot.get("strength", values.get("strength", defaults.strength))
                if "on" in shot:
                    values["correct"] = "always" if shot["on"] else "never"
        if len(persons) == 1 and (person := self._treated(persons[0])):
            values["correct"] = "always" if person.get("on", True) else "never"
            values["strength"] = float(values.get("strength", defaults.strength)) * float(person.get("strength", 1.0))
        return replace(defaults, **values)

    def treatment_of(self, person: str) -> Treatment | None:
        """Returns the treatment set for a person, or None."""
        table, why = self._treated(person), ("set for this person",)
        return Treatment(bool(table.get("on", True)), float(table.get("strength", 1.0)), why) if table else None

    def for_run(self, folder: Path, source: Path) -> Options:
        """Returns the options of the whole run. Writes shots and persons to files in `folder`.

        The files are named by a hash of their content, so that the input of a waiting run never changes.

        Raises:
            OutputError: a file cannot be written.
        """
        options = load(self.run).options
        options = replace(options, person=self._named(options))
        if any(_sets_something(shot) for shot in self.shots):
            options = replace(options, shots=_kept(folder, "shots", ".csv", self._csv()))
        if by_person := {self.name_of(label) or label: row for label in self.persons if (row := self._treated(label))}:
            table = {"version": VERSION, "input": source.name, "tracks": {}, "persons": by_person}
            options = replace(options, treatment=_kept(folder, "persons", ".json", json.dumps(table, indent=1)))
        return options

    def name_of(self, label: str) -> str:
        """Returns the name given to a person by hand; "" for none."""
        return str(self.persons.get(label, {}).get("name", ""))

    def _treated(self, label: str) -> JsonObject:
        """Returns a person's settings except the name."""
        return {key: value for key, value in self.persons.get(label, {}).items() if key != "name"}

    def _named(self, options: Options) -> tuple[str, ...]:
        """Returns the ``--person`` values of `options`, and the names given by hand."""
        names = dict.fromkeys(filter(None, map(self.name_of, self.persons)))
        by_hand = [
            f"{name}@{','.join(label for label in self.persons if self.name_of(label) == name)}" for name in names
        ]
        others = (one for one in options.person if not {*person_photos((one,))} & {*names})
        return (*others, *by_hand)

    def to_json(self) -> JsonObject:
        """Returns the settings in the form that `of` accepts."""
        return {**self.run, "shots": list(self.shots), "persons": self.persons}

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
    """A folder for the settings of one film. It is named by a hash of the film's samples, so that a moved or renamed
    film keeps its settings."""

    def __init__(self, film: Path) -> None:
        prefix = "still" if is_image(film) else ""
        self.path = data_dir() / "studio" / (prefix + re.sub(r"\W", "", str(fingerprint(film)["samples_sha256"]))[:32])

    def load(self) -> FilmSettings:
        """Reads the settings; returns empty ones if none are stored or usable."""
        try:
            return FilmSettings.of(json.loads((self.path / "settings.json").read_bytes()))
        except (OSError, ValueError, UsageError):
            return FilmSettings()

    def keep(self, settings: FilmSettings) -> None:
        """Writes the settings; raises OutputError on failure."""
        _written(self.path / "settings.json", json.dumps(settings.to_json(), indent=1))


def _table(value: object, what: str) -> JsonObject:
    if not isinstance(value, dict):
        raise UsageError("{what} must be a JSON object", code="no_object", what=what)
    return {str(key): item for key, item in cast(Mapping[Any, Any], value).items()}


def _row(row: JsonObject) -> JsonObject:
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
        raise UsageError("{where} must end after it begins", code="shot_end", where=where)
    return {
        key: row[key] if key.endswith("_s") else _checked(key, value, where)
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
    return {key: _checked(key, value, label) for key, value in values.items() if value is not None}


def _checked(key: str, value: object, where: str) -> object:
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


def _kept(folder: Path, name: str, suffix: str, text: str) -> Path:
    return _written(folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}{suffix}", text)


def _written(path: Path, text: str) -> Path:
    try:
        write_atomically(path, text.encode() + b"\n", private=True)
    except OSError as error:
        raise OutputError(
            "{path}: cannot be written ({why}); free some space", code="write_room", path=path, why=error.strerror
        ) from error
    return path
