"""Draws the contact sheet as one image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from rtface.contact_sheet.labels import cell_label, row_label
from rtface.contact_sheet.restore import CELL, SheetRow, Variant, at_strength
from rtface.frame import Bytes
from rtface.pipeline.show_invented import legend_image
from rtface.util.text import encodable

_GAP, _LABEL, _CAPTION, _TITLE = 8, 250, 26, 40
_TEXT, _SMALL = 17, 15
_PAPER, _INK, _FAINT = (24, 24, 26), (235, 235, 235), (165, 165, 170)


def draw(rows: Sequence[SheetRow], variants: Sequence[Variant], title: str, look: str) -> Bytes:
    """The sheet, uint8 RGB h×w×3: a row for each face, the input and then each variant in the columns.

    Crops are enlarged by whole factors (bicubic); the label says by how much.
    """
    variants = variants if rows[0].corrected else ()  # else all pictures of a row are the same
    columns, legend = 1 + len(variants), legend_image(look) if any(variant.invented for variant in variants) else None
    top = _TITLE if legend is None else len(legend) + _GAP
    width = _LABEL + columns * (CELL + _GAP) + _GAP
    height = top + len(rows) * (CELL + _CAPTION + _GAP) + _GAP
    sheet = np.full((height, width, 3), _PAPER, np.uint8)
    write_text(sheet, title, (_GAP, 27), _TEXT, _INK)
    if legend is not None:
        sheet[: len(legend), width - legend.shape[1] :] = legend[..., :3]
    for number, row in enumerate(rows):
        y = top + number * (CELL + _CAPTION + _GAP)
        for k, line in enumerate(row_label(row)):
            for part, text in enumerate(_wrapped(sheet, line, _LABEL - 2 * _GAP, _SMALL)):
                write_text(sheet, text, (_GAP, y + 18), _SMALL if k else _TEXT, _FAINT if k else _INK)
                y += 21 + 2 * (k == 0 and part == 0)
            y += 3
        y = top + number * (CELL + _CAPTION + _GAP)
        crops = [(row.shown.before, "input")]
        crops += [(crop_of(row, variant), cell_label(row, variant)) for variant in variants]
        for column, (crop, label) in enumerate(crops):
            x = _LABEL + column * (CELL + _GAP)
            sheet[y : y + CELL, x : x + CELL] = cv2.resize(crop, (CELL, CELL), interpolation=cv2.INTER_CUBIC)
            write_text(sheet, label, (x, y + CELL + 18), _SMALL, _INK)
    return sheet


def crop_of(row: SheetRow, variant: Variant) -> Bytes:
    """The face of a row in one variant, uint8 RGB of the size of `row.shown.before`."""
    if variant.invented:
        return row.maps[variant.engine]
    return at_strength(row.shown.before, row.crops[variant.engine], variant.strength)


def write_text(sheet: Bytes, text: str, at: tuple[int, int], size: int, ink: tuple[int, int, int]) -> None:
    """Writes a line of text; `at` is the left end of its base line."""
    cv2.putText(sheet, encodable(text), at, ink, cv2.FontFace("sans"), size, 400)


def _wrapped(sheet: Bytes, text: str, width: int, size: int) -> list[str]:
    """The text in lines that fit."""
    lines, face = [""], cv2.FontFace("sans")
    for word in encodable(text).split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and cv2.getTextSize(sheet.shape[1::-1], longer, (0, 0), face, size, 400)[2] > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
