"""The contact sheet of persons, a row for each with a face of some of their tracks; and photos of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from rtface._version import __version__
from rtface.contact_sheet.draw import write_text
from rtface.errors import OutputError
from rtface.frame import Bytes, Color, Frame
from rtface.media.files.outputs import OutputPath, check_outputs
from rtface.media.files.workfile import Target
from rtface.media.stills.images import ImagePlan, write_image
from rtface.report import PersonReport
from rtface.util.av_arrays import image_from_array
from rtface.util.parse import format_time

CELL = 128
"""Side of a face on the sheet, pixels."""
_PHOTOS = 4
"""Photos of a person at most."""
_MOST, _LABEL, _GAP, _TITLE = 8, 210, 8, 40


def draw_persons(persons: Sequence[PersonReport], faces: Mapping[int, Bytes], title: str) -> Bytes:
    """The sheet, uint8 RGB h×w×3.

    Args:
        persons: the rows.
        faces: of each track, uint8 RGB S×S×3.
        title: the heading.
    """
    width = _LABEL + _MOST * (CELL + _GAP) + _GAP
    sheet = np.full((_TITLE + max(len(persons), 1) * (CELL + _GAP), width, 3), (24, 24, 26), np.uint8)
    write_text(sheet, title, (_GAP, 27), 17, (235, 235, 235))
    for row, person in enumerate(persons):
        y = _TITLE + row * (CELL + _GAP)
        lines = [
            person.person,
            f"{person.seconds:.1f} s",
            f"from {format_time(person.first_s)}",
            f"to {format_time(person.last_s)}",
            f"{len(person.tracks)} track{'s' * (len(person.tracks) != 1)}",
        ]
        for k, line in enumerate(lines):
            write_text(sheet, line, (_GAP, y + 18 + 22 * k), 15 if k else 17, (165, 165, 170) if k else (235, 235, 235))
        shown = [faces[track] for track in person.tracks if track in faces][:_MOST]
        for column, face in enumerate(shown):
            x = _LABEL + column * (CELL + _GAP)
            sheet[y : y + CELL, x : x + CELL] = cv2.resize(face, (CELL, CELL), interpolation=cv2.INTER_AREA)
    return sheet


def write_photos(persons: Sequence[PersonReport], faces: Mapping[int, Bytes], folder: Path, *, overwrite: bool) -> int:
    """Writes faces of each person as ``FOLDER/P1/1.png``, ``2.png`` …, for ``--person NAME=FOLDER/P1``.

    Args:
        persons, faces: as for `draw_persons`.
        folder: where to; made if it is not there.
        overwrite: whether files may be replaced.

    Returns:
        How many were written.

    Raises:
        OutputError: a file is there already, or cannot be written.
    """
    written = 0
    for person in persons:
        place = folder / person.person
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                "{path}: the folder cannot be made ({why}); choose another place",
                code="folder_unmade",
                path=place,
                why=error.strerror,
            ) from error
        shown = [faces[track] for track in person.tracks if track in faces][:_PHOTOS]
        for number, face in enumerate(shown, 1):
            (target,) = check_outputs([OutputPath(place / f"{number}.png")], inputs=[], overwrite=overwrite)
            write_image(
                Frame(image_from_array(face, "rgb"), 0, Fraction(1, 25), color=Color("rgb", True)),
                ImagePlan(target, "png"),
                tags={},
            )
            written += 1
    return written


def write_persons(persons: Sequence[PersonReport], faces: Mapping[int, Bytes], name: str, image: Target) -> None:
    """Writes the sheet as PNG.

    Args:
        persons, faces: as for `draw_persons`.
        name: of the input.
        image: where to.

    Raises:
        OutputError: it cannot be written.
    """
    count = f"{len(persons)} person{'s' * (len(persons) != 1)}"
    drawn = draw_persons(persons, faces, f"{name}: {count} (rtface {__version__})")
    frame = Frame(image_from_array(drawn, "rgb"), 0, Fraction(1, 25), color=Color("rgb", True))
    write_image(frame, ImagePlan(image, "png"), tags={})
