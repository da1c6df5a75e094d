"""Reads and writes files of shots. The extension determines the kind (.csv, .edl)."""

from __future__ import annotations

from pathlib import Path

from rtface.errors import InputMissing, OptionFlag, UsageError
from rtface.shots.clock import FilmClock
from rtface.shots.csv_list import read_csv, write_csv
from rtface.shots.edl import read_edl, write_edl
from rtface.shots.scenes import SceneRecorder
from rtface.shots.settings import Shot, ShotList
from rtface.util.foreign import read_regular

_HINTS = {
    ".csv": "fill in a cell, such as strength",
    ".edl": "write * RTFACE: strength=0.5 below an event",
}


def check_shots_file(path: Path) -> None:
    """Checks that a list of shots exists, in a supported format.

    Raises:
        InputMissing, UsageError: the file is missing, or of another kind.
    """
    list_kind(path, "--shots")
    if not path.exists():
        raise InputMissing(
            "{--shots:{path}}: there is no such file; make one with: rtface analyze INPUT --scenes FILE",
            code="scenes_gone",
            path=path,
        )


def read_shots(path: Path, clock: FilmClock) -> tuple[ShotList, list[str]]:
    """Reads a list of shots for a film.

    Returns:
        The shots that have settings, and notes for the user, one line each.

    Raises:
        UsageError: the list cannot be used; the message contains the line.
    """
    kind, name = list_kind(path, "--shots"), path.name
    try:
        data = read_regular(path)
    except OSError as error:
        raise UsageError(
            "{--shots:{path}}: cannot be read ({why})", code="shots_unreadable", path=path, why=error.strerror
        ) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")  # only comments of older programs are not ASCII
    all_shots = (read_csv if kind == ".csv" else read_edl)(text, name, clock)
    shots = ShotList(all_shots, name=name, early=clock.early)
    notes = _outside(shots, clock)
    if not shots:
        notes.append(f"no shot of {name} has settings, so it has no effect: {_HINTS[kind]}")
    else:
        notes.append(f"{name}: {len(shots)} of {len(all_shots)} shots have settings")
    return shots, notes


def scenes_text(path: Path, recorder: SceneRecorder, title: str) -> str:
    """Returns a film's scenes as text in the format of `path`'s extension."""
    assert recorder.clock is not None
    scenes = recorder.scenes, recorder.clock
    return write_csv(*scenes) if list_kind(path, "--scenes") == ".csv" else write_edl(*scenes, title)


def list_kind(path: Path, option: str) -> str:
    """Returns the kind of a list of shots: its extension. Raises UsageError for an unknown one."""
    kind = path.suffix.lower()
    if kind not in _HINTS:
        raise UsageError(
            "{option:{path}}: the extension must be one of {kinds}",
            code="list_kind",
            option=OptionFlag(option),
            path=path,
            kinds=", ".join(_HINTS),
        )
    return kind


def _outside(shots: ShotList, clock: FilmClock) -> list[str]:
    """Returns notes about shots outside the film. Raises UsageError if all shots are outside."""
    end = None if clock.length is None else clock.begin + clock.length
    outside: list[Shot] = [
        shot
        for shot in shots.shots
        if (end is not None and shot.begin >= end) or (shot.end is not None and shot.end <= clock.first)
    ]
    if not outside:
        return []
    places = ", ".join(shot.where for shot in outside[:5]) + (", …" if len(outside) > 5 else "")
    if len(outside) < len(shots):
        return [
            f"{shots.name}: {len(outside)} of {len(shots)} shots with settings lie outside the film and have no "
            f"effect ({places})"
        ]
    film_start = (
        f"its first frame has timecode {clock.start}"
        if clock.start
        else "it has no timecode, so its first frame is 00:00:00:00"
    )
    raise UsageError(
        "{name}: all shots with settings lie outside the film ({places}); {film}; {--timecode} sets the timecode "
        "of its first frame",
        code="shots_outside",
        name=shots.name,
        places=places,
        film=film_start,
    )
