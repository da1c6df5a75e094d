"""Draws the contact sheet as one image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from rtface.analysis.verdict import LEFT_ALONE, faults_of
from rtface.contact_sheet.restore import CELL, SheetRow, Variant
from rtface.frame import Bytes
from rtface.util.parse import format_time
from rtface.util.text import encodable, printable

_GAP, _LABEL, _CAPTION, _TITLE = 8, 250, 26, 40
_TEXT, _SMALL = 17, 15
_PAPER, _INK, _FAINT = (24, 24, 26), (235, 235, 235), (165, 165, 170)


def draw(rows: Sequence[SheetRow], variants: Sequence[Variant], title: str) -> Bytes:
    """The sheet, uint8 RGB h×w×3: a row for each face, the input and then each variant in the columns.

    Crops are enlarged by whole factors (bicubic); the label says by how much.
    """
    variants = variants if rows[0].corrected else ()  # else all pictures of a row are the same
    width = _LABEL + (1 + len(variants)) * (CELL + _GAP) + _GAP
    sheet = np.full((_TITLE + len(rows) * (CELL + _CAPTION + _GAP) + _GAP, width, 3), _PAPER, np.uint8)
    _write(sheet, title, (_GAP, 27), _TEXT, _INK)
    for number, row in enumerate(rows):
        top = line = _TITLE + number * (CELL + _CAPTION + _GAP)
        for k, text in enumerate(row_label(row)):
            for part in _wrapped(sheet, text, _LABEL - 2 * _GAP):
                _write(sheet, part, (_GAP, line + 18), _SMALL if k else _TEXT, _FAINT if k else _INK)
                line += 22
        crops = [(row.before, "input"), *((row.crop(one), cell_label(row, one)) for one in variants)]
        for column, (crop, label) in enumerate(crops):
            x = _LABEL + column * (CELL + _GAP)
            sheet[top : top + CELL, x : x + CELL] = cv2.resize(crop, (CELL, CELL), interpolation=cv2.INTER_CUBIC)
            _write(sheet, label, (x, top + CELL + 18), _SMALL, _INK)
    return sheet


def row_label(row: SheetRow) -> list[str]:
    """The texts about a face: its place, its size, its faults, and the verdict of a run."""
    image = row.face.image
    lines = [printable(image.name) if image is not None else format_time(row.time)]
    lines.append(f"{row.width:.0f} px wide, shown at {100 * row.scale} %")
    track = next(iter(row.tracks.values()))
    if track is None:
        return [*lines, "not followed by a run"]
    lines += [f"{name} {score:.2f}" for name, score in faults_of(track.analysis)[:4]]
    return [*lines, track.verdict.sentence()]


def cell_label(row: SheetRow, variant: Variant) -> str:
    """The caption of a restored face."""
    track, name = row.tracks[variant.engine], f"{variant.engine}, strength {variant.strength:g}"
    return name if track is not None and track.treatment["on"] else f"{name}: {LEFT_ALONE}"


def _write(sheet: Bytes, text: str, at: tuple[int, int], size: int, ink: tuple[int, int, int]) -> None:
    """Writes a line of text; `at` is the left end of its base line."""
    cv2.putText(sheet, encodable(text), at, ink, cv2.FontFace("sans"), size, 400)


def _wrapped(sheet: Bytes, text: str, width: int) -> list[str]:
    """The text in lines that fit."""
    lines, face = [""], cv2.FontFace("sans")
    for word in encodable(text).split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and cv2.getTextSize(sheet.shape[1::-1], longer, (0, 0), face, _SMALL, 400)[2] > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
