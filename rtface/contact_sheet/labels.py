"""The texts on a contact sheet."""

from __future__ import annotations

from rtface.analysis.verdict import LEFT_ALONE, faults_of
from rtface.contact_sheet.restore import SheetRow, Variant
from rtface.util.parse import format_time
from rtface.util.text import printable


def row_label(row: SheetRow, *, scale: bool = True) -> list[str]:
    """What is said of a face: where it is, how large, what is wrong with it, and what a run makes of it.

    Args:
        row: of the sheet.
        scale: whether to say how much the sheet enlarges the face; on the page that depends on the window.
    """
    face, shown = row.choice.face, row.shown
    lines = [printable(face.image.name) if face.image is not None else format_time(shown.time)]
    if shown.timecode:
        lines.append(f"timecode {shown.timecode}")
    lines += [f"face {face.track}"] if face.image is not None else []
    enlarged = f", shown at {100 * shown.scale} %" if scale else ""
    lines.append(f"{shown.width:.0f} px wide{enlarged}")
    track = next(iter(row.tracks.values()))
    if track is None:
        return [*lines, "not followed by a run"]
    lines += [f"{name} {score:.2f}" for name, score in faults_of(track.analysis)[:4]]
    return [*lines, track.verdict.sentence()]


def cell_label(row: SheetRow, variant: Variant) -> str:
    """The caption of a restored face."""
    track = row.tracks[variant.engine]
    name = f"{variant.engine}, {'invented' if variant.invented else f'strength {variant.strength:g}'}"
    return name if track is not None and track.treatment["on"] else f"{name}: {LEFT_ALONE}"
