"""The texts on a contact sheet."""

from __future__ import annotations

from rtface.analysis.treatment import Treatment
from rtface.contact_sheet.restore import SheetRow, Variant
from rtface.util.parse import format_time
from rtface.util.text import printable


def row_label(row: SheetRow, *, scale: bool = True) -> list[str]:
    """What is said of a face: where it is, how large, what is wrong with it, and what a run decides.

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
    lines.append(f"the {row.choice.why}: score {face.severity:.2f}")
    scores = sorted(((value, name) for name, value in face.analysis.scores().items() if value >= 0.1), reverse=True)
    lines += [f"{name.replace('_', ' ')} {value:.2f}" for value, name in scores[:4]]
    treatment = next(iter(row.treatments.values()))
    lines.append(
        left_alone(treatment)
        if treatment is None or not treatment.on
        else f"corrected, strength factor {treatment.strength:g}"
    )
    if treatment is not None and treatment.on and treatment.gain is not None:
        lines.append(treatment.reasons[0])
    return lines


def left_alone(treatment: Treatment | None) -> str:
    """Why a face has no correction."""
    return f"left as it is: {', '.join(treatment.reasons)}" if treatment else "not followed by a run"


def cell_label(row: SheetRow, variant: Variant) -> str:
    """The caption of a restored face."""
    treatment = row.treatments[variant.engine]
    name = f"{variant.engine}, {'invented' if variant.invented else f'strength {variant.strength:g}'}"
    return name if treatment is not None and treatment.on else f"{name}: left as it is"
