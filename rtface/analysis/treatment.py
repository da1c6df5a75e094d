"""The treatment of a face, and the JSON file in which a user can change it.

The file is JSON: ``{"version": 1, "tracks": {"3": {"on": true, "strength": 0.8, "engine": "rtface-m"}}}``. Other keys
of a track (what the analysis found) are for the reader only; other keys at the top are left alone. ``"persons"`` may
have the same keys by name or number of a person, ``{"P2": {"strength": 0.5}}``, and then goes before tracks. Both may
have ``"colour"`` and ``"region"``, too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, cast, get_args

from rtface.analysis.measure import CORE, Analysis
from rtface.analysis.patch import SMALLEST, SMALLEST_FACE
from rtface.errors import InputMissing, UsageError
from rtface.frame import ColourMode, WantedRegion
from rtface.util.parse import is_person_name, is_person_number
from rtface.util.spelling import hint
from rtface.util.text import brief
from rtface.util.toml_dataclass import parse_json

VERSION = 1

# Severity (all scores together) from which on a face is treated, and below which a treated one is let go where nothing
# is known of an engine's answer. Of 48 training portraits filmed clean four are above the first; of the same people in
# a call at crf 31 none is below 0.18. From `_FULL` on it gets all of the correction, before that at least `_LEAST`.
_ON, _OFF, _FULL, _LEAST = 0.16, 0.08, 0.20, 0.8
# From `_SURE` on a face is treated whatever the engine makes of it; a treated one stays so down to `_SURE_OFF`. Between
# that and nothing it depends on the gain: how much more of the finest octave the engine's answer has than the face.
# From a severity of `_SLIGHT` on `_SHARPER` is reason enough, from `_ON` on `_AS_SHARP` is. Of 20 training people that
# were filmed clean or with a little noise 19 have less gain than 1.046; of the same people 19 have more than 1.06 in
# calls of 90 and 150 kb/s, and more than 1.017 in calls of 320 kb/s.
_SURE, _SURE_OFF, _SLIGHT = 0.35, 0.25, 0.08
_SHARPER, _AS_SHARP, _SOFTER = 1.05, 1.01, 1.005

_NAMES = {"motion_blur": "motion blur", "low_resolution": "low resolution", "under_exposure": "under-exposed",
          "over_exposure": "over-exposed", "fading": "faded", "missing": "missing regions"}


@dataclass(frozen=True, slots=True)
class Treatment:
    """The treatment of one face.

    Attributes:
        on: False leaves the face as it is, bit for bit.
        strength: 0…1, multiplies the run's own.
        engine: by name, None for the run's own.
        reasons: why, one short phrase each.
        colour: "lock" or "restore", None for that of the shot or run.
        region: "face" or "head", None for that of the shot or run.
    """

    on: bool
    strength: float = 1.0
    engine: str | None = None
    reasons: tuple[str, ...] = ()
    colour: ColourMode | None = None
    region: WantedRegion | None = None

    @property
    def applied_strength(self) -> float:
        """The strength, 0 when off."""
        return self.strength if self.on else 0.0


FORCED = {"always": Treatment(True, 1.0, None, ("always asked for",)),
          "never": Treatment(False, 0.0, None, ("never asked for",))}
"""The treatments of ``--correct always`` and ``never``."""


def undecided_by_scores(analysis: Analysis, face_width: float, *, exposure: bool = False) -> bool:
    """Whether the treatment depends on what an engine makes of the face (`choose_treatment`'s `gain`)."""
    return face_width >= SMALLEST / CORE and severity_of(analysis, exposure)[0] < _SURE


def choose_treatment(analysis: Analysis, face_width: float, *, on: bool = False, exposure: bool = False,
                     gain: float | None = None) -> Treatment:
    """Decides whether a face is corrected, and how much.

    Args:
        analysis: what is wrong with it.
        face_width: display pixels.
        on: whether it is being treated already: it is then let go at a lower score (hysteresis).
        exposure: whether exposure and fading are reasons too; only ``--colour restore`` can do something about them.
        gain: finest detail of the engine's answer over that of the face
            (`rtface.enhance.track_measurement`); None where no engine was asked.
    """
    if face_width < SMALLEST_FACE:
        return Treatment(False, 0.0, None, (f"too small ({face_width:.0f} px)",))
    severity, scores = severity_of(analysis, exposure)
    if gain is None:
        treat = severity >= (_OFF if on else _ON)
    elif on:
        treat = severity >= _SURE_OFF or gain >= _SOFTER
    else:
        treat = (severity >= _SURE or (severity >= _ON and gain >= _AS_SHARP)
                 or (severity >= _SLIGHT and gain >= _SHARPER))
    if exposure:  # tone is corrected however sharp the face is
        treat |= max(analysis.under_exposure, analysis.fading) >= (_OFF if on else _ON)
    if not treat:
        sharp = gain is not None and severity >= _ON
        return Treatment(False, 0.0, None, ("as sharp as the engine's answer" if sharp else "clean",))
    strength = _LEAST + (1 - _LEAST) * min(1.0, max(0.0, (severity - _OFF) / (_FULL - _OFF)))
    found = sorted(((v, k) for k, v in scores.items() if v >= 0.1), reverse=True)
    reasons = tuple(f"{_NAMES.get(k, k)} {v:.2f}" for v, k in found) or ("the engine's answer is sharper",)
    return Treatment(True, round(strength, 2), None, reasons)


def severity_of(analysis: Analysis, exposure: bool = False) -> tuple[float, dict[str, float]]:
    """All scores together, and those that count: several small faults add up to one that is seen."""
    scores = analysis.scores()
    if not exposure:
        del scores["under_exposure"], scores["over_exposure"], scores["fading"]
    return 1 - math.prod(1 - score for score in scores.values()), scores


def treatments_table(tracks: Mapping[int, Treatment],
                     notes: Mapping[int, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """The treatment file as a table."""
    return {"version": VERSION, "tracks": {
        str(track): {"on": t.on, "strength": t.strength if t.on else 1.0, "engine": t.engine,
                     "reasons": list(t.reasons), **(notes or {}).get(track, {})}
        for track, t in sorted(tracks.items())}}


def read_treatments(path: Path) -> dict[int, Treatment]:
    """Reads a treatment file. Raises UsageError naming file and key, InputMissing when it is not there."""
    where, table = f"treatment file {path}", _read(path)
    tracks = table["tracks"]
    if not isinstance(tracks, dict):
        raise UsageError(f'{where}: "tracks" must be a table of track number: treatment')
    return {_track(key, where): _treatment(value, f"{where}: tracks.{key}")
            for key, value in cast(dict[str, Any], tracks).items()}


def read_person_treatments(path: Path) -> dict[str, Treatment]:
    """The treatments of persons in a treatment file, by label in lower case; those without a key that a
    treatment has are left out. Raises as `read_treatments`."""
    where, persons = f"treatment file {path}", _read(path).get("persons", {})
    if not isinstance(persons, dict):
        raise UsageError(f'{where}: "persons" must be a table of person: treatment')
    found: dict[str, Treatment] = {}
    for key, value in cast(dict[str, Any], persons).items():
        if not (is_person_number(key) or is_person_name(key)):
            raise UsageError(f"{where}: persons.{key[:40]} is no person (P1, or a name of --person)")
        treatment = _treatment(value, f"{where}: persons.{key}")
        if any(word in value for word in _EDITABLE):
            found[key.lower()] = treatment
    return found


def made_for_another(path: Path, input: str | os.PathLike[str]) -> str | None:
    """The input that a treatment file was made for, where that is not `input` by name; raises as `read_treatments`."""
    made_for = _read(path).get("input")
    if not isinstance(made_for, str) or PurePath(made_for).name == PurePath(str(input)).name:
        return None
    return made_for


def _read(path: Path) -> dict[str, Any]:
    """The file as a table, of this version and with tracks."""
    try:
        table: Any = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputMissing(f"treatment file {path} is not there; make one with: rtface analyze INPUT --json") from error
    except OSError as error:
        raise UsageError(f"treatment file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"treatment file {path} is not valid JSON: {error}") from error
    where = f"treatment file {path}"
    if not isinstance(table, dict) or "tracks" not in table:
        raise UsageError(f'{where}: key "tracks" is missing; make one with: rtface analyze INPUT --json')
    table = cast(dict[str, Any], table)
    if table.get("version") != VERSION:
        raise UsageError(f'{where}: "version" is {brief(table.get("version"))}, this rtface reads {VERSION}; '
                         "make it again with: rtface analyze INPUT --json")
    return table


def _track(key: str, where: str) -> int:
    if not (key.isascii() and key.isdigit() and len(key) < 10 and int(key) > 0):
        raise UsageError(f"{where}: tracks.{key[:40]} is not a track number (1, 2, …)")
    return int(key)


_CHOICES = {"colour": get_args(ColourMode), "region": get_args(WantedRegion)}
_EDITABLE = ("on", "strength", "engine", *_CHOICES)


def _treatment(value: Any, where: str) -> Treatment:
    if not isinstance(value, dict):
        raise UsageError(f"{where} must be a table with {', '.join(_EDITABLE)}, got {brief(value)}")
    table = cast(dict[str, Any], value)
    for key in table:
        if key not in _EDITABLE and (near := hint(key, _EDITABLE)):
            raise UsageError(f"{where}.{key} is not a key{near}")
    on, strength, engine = table.get("on", True), table.get("strength", 1.0), table.get("engine")
    if not isinstance(on, bool):
        raise UsageError(f"{where}.on must be true or false, got {brief(on)}")
    if isinstance(strength, bool) or not isinstance(strength, int | float) or not (
            0 <= strength <= 1):  # NaN is not either
        raise UsageError(f"{where}.strength must be a number from 0 to 1, got {brief(strength)}")
    if engine is not None and (not isinstance(engine, str) or not engine):
        raise UsageError(f"{where}.engine must be an engine's name or null, got {brief(engine)}")
    for key, choices in _CHOICES.items():
        if table.get(key) not in (None, *choices):
            raise UsageError(f"{where}.{key} must be {' or '.join(choices)}, or null, got {brief(table[key])}")
    return Treatment(on, float(strength), engine, ("as the treatment file says",), table.get("colour"),
                     table.get("region"))
