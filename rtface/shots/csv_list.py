"""Reads and writes shots as CSV: one row for each shot, with times and settings."""

from __future__ import annotations

import csv
import io
from fractions import Fraction

from rtface.errors import UsageError
from rtface.shots.clock import FilmClock
from rtface.shots.scenes import Scene
from rtface.shots.settings import KEYS, Shot, read_settings
from rtface.util.spelling import hint

_START, _END = ("start", "in"), ("end", "out")
# Columns of free text.
_FREE_TEXT = ("shot", "name", "comment", "timecode")


def read_csv(text: str, name: str, clock: FilmClock) -> list[Shot]:
    """Reads shots of a CSV table, separated by commas, semicolons or tabs.

    The first row names the columns: ``start`` (or ``in``), ``end`` (or ``out``), and settings. Times are
    timecodes or film times; ends are exclusive. A shot without an end lasts until the next row's start, or to the end
    of the film.

    Raises:
        UsageError: the table cannot be used; the message contains the file and the line.
    """
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    rows = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        columns = [column.strip().lower() for column in next(rows)]
    except (StopIteration, csv.Error):
        raise UsageError(
            "{name} is empty; name the columns in its first row, such as start,end,strength",
            code="csv_empty",
            name=name,
        ) from None
    _check_columns(columns, name)
    records: list[tuple[int, dict[str, str]]] = []
    try:
        for row in rows:
            if any(cell.strip() for cell in row) and not row[0].lstrip().startswith("#"):
                if len(row) > len(columns):
                    raise UsageError(
                        "{name}, line {line} has {count} cells for {columns} columns; put text with a comma in quotes",
                        code="csv_cells",
                        name=name,
                        line=rows.line_num,
                        count=len(row),
                        columns=len(columns),
                    )
                records.append((rows.line_num, dict(zip(columns, (cell.strip() for cell in row), strict=False))))
    except csv.Error as error:
        raise UsageError(
            "{name}, line {line} is not CSV ({why})", code="csv_damaged", name=name, line=rows.line_num, why=error
        ) from error
    starts = [clock.time_of(_cell(row, _START), f"{name}, line {line}") for line, row in records]
    shots: list[Shot] = []
    for index, (line, row) in enumerate(records):
        where, end = f"{name}, line {line}", _cell(row, _END)
        settings = read_settings([(key, _number(value, delimiter)) for key, value in row.items() if key in KEYS], where)
        end_time: Fraction | None = None
        if end:
            end_time = clock.time_of(end, where)
        elif index + 1 < len(starts):
            end_time = starts[index + 1]
        shots.append(Shot(starts[index], end_time, settings, f"line {line}"))
    return shots


def write_csv(scenes: list[Scene], clock: FilmClock) -> str:
    """Returns a table with a row for each scene. Its columns are film times as for ``--start``, a timecode for readers,
    and empty ones for settings."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    columns = ("off", "strength")
    table.writerow(["shot", "start", "end", "timecode", *columns])
    for number, scene in enumerate(scenes, 1):
        times = clock.film_time(scene.begin), clock.film_time(scene.end), clock.timecode_at(scene.begin)
        table.writerow([number, *times, *("" for _ in columns)])
    return out.getvalue()


def _check_columns(columns: list[str], name: str) -> None:
    allowed = (*_START, *_END, *KEYS, *_FREE_TEXT)
    for column in columns:
        if column not in allowed:
            raise UsageError(
                "{name}, line 1: column {column!r} is unknown{hint} (columns are start, end, {columns}; free "
                "text: {free})",
                code="csv_column",
                name=name,
                column=column[:40],
                hint=hint(column, allowed),
                columns=", ".join(KEYS),
                free=", ".join(_FREE_TEXT),
            )
        if columns.count(column) > 1:
            raise UsageError(
                "{name}, line 1: column {column!r} appears twice; delete one",
                code="csv_column_twice",
                name=name,
                column=column,
            )
    if not set(_START) & set(columns):
        raise UsageError(
            "{name}, line 1: there is no column start; name the columns in it, such as start,end,strength",
            code="csv_start",
            name=name,
        )


def _cell(row: dict[str, str], names: tuple[str, ...]) -> str:
    return next((row[name] for name in names if row.get(name)), "")


def _number(value: str, delimiter: str) -> str:
    """Converts a decimal comma to a point, in tables with semicolons. Their programs use decimal commas."""
    whole_part, comma, fraction = value.partition(",")
    return (
        f"{whole_part}.{fraction}" if delimiter == ";" and comma and whole_part == "0" and fraction.isdigit() else value
    )
