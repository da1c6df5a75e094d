"""Writes photos of the persons in an analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from rtface.analysis.track_report import PersonReport
from rtface.frame import Bytes, Color, Frame
from rtface.media.files.outputs import OutputPath, check_outputs
from rtface.media.stills.images import ImagePlan, write_image
from rtface.util.av_arrays import image_from_array

_MAX_PHOTOS = 4
"""Maximum number of photos of a person."""


def write_photos(persons: Sequence[PersonReport], faces: Mapping[int, Bytes], folder: Path, *, overwrite: bool) -> int:
    """Writes faces of each person as ``FOLDER/P1/1.png``, ``2.png`` …, for ``--person NAME=FOLDER/P1``.

    Args:
        persons: persons whose photos are written.
        faces: image of the face of each track, uint8 RGB S×S×3.
        folder: folder for the photos; created if missing.
        overwrite: whether files may be replaced.

    Returns:
        The number of photos written.

    Raises:
        OutputError: a file exists already, or cannot be written.
    """
    count = 0
    for person in persons:
        person_folder = folder / person.person
        person_folder.mkdir(parents=True, exist_ok=True)
        person_faces = [faces[track] for track in person.tracks if track in faces][:_MAX_PHOTOS]
        for number, face in enumerate(person_faces, 1):
            (target,) = check_outputs([OutputPath(person_folder / f"{number}.png")], inputs=[], overwrite=overwrite)
            write_image(
                Frame(image_from_array(face, "rgb"), 0, Fraction(1, 25), color=Color("rgb", True)),
                ImagePlan(target, "png"),
                tags={},
            )
            count += 1
    return count
