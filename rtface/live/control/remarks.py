"""What a live run says where it changes nothing, or could show more: for the status line, pages and docks.

Programs know a remark by its code; pages translate it, and offer what helps (docs/control.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from rtface.analysis.measure import Analysis
from rtface.analysis.treatment import Treatment
from rtface.errors import Message

_DIM = 0.3
"""Score of under-exposure from which on a picture is dim: the brightest parts of the face are below 105 of 255."""

Seen = tuple[Treatment, Analysis]
"""What is decided for a face, and what was measured of it lately."""


def remarks_of(seen: Sequence[Seen], *, always: bool, light: float) -> list[Message]:
    """The remarks about the faces of a picture.

    Args:
        seen: its faces.
        always: whether every face is corrected, whatever that gains.
        light: how much the picture is brightened, 0…1.
    """
    found: list[Message] = []
    if not always and seen and all(not treatment.on and treatment.reasons for treatment, _ in seen):
        reasons = [treatment.reasons[0] for treatment, _ in seen]
        why = next((reason for reason in reasons if reason != "nothing to gain"), "")
        found.append(
            Message("faces are left as they are: {why}", code="live_left", why=why)
            if why
            else Message("your picture is clear: nothing to gain", code="live_clear")
        )
    if not light and any(analysis.under_exposure >= _DIM for _, analysis in seen):
        found.append(Message("the picture is dim: Light brightens it", code="live_dim"))
    return found


NO_FACE = Message("no face is seen", code="live_no_face")
