"""Explains why a live run changes nothing, or what would improve it.

The status line, the pages and docks in OBS show these remarks. Programs identify a remark by its code; pages translate
it and offer a remedy (docs/control.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import atan2, degrees

from rtface.analysis.measure import Analysis
from rtface.analysis.treatment import Treatment
from rtface.errors import Message
from rtface.frame import Face
from rtface.stats import Stats

_DIM = 0.3
"""Under-exposure score of a dim picture: the brightest parts of the face are below 105 of 255."""
_BUSY = 0.25
"""Minimum processor share of other programs for a remark that blames them."""

# Roll in degrees above which a face counts as turned, and number of recent frames with a face to consider.
_MIN_ROLL, _FRAMES = 60.0, 300

FaceState = tuple[Treatment, Analysis]
"""The treatment of a face, and its latest analysis."""


def pause_of(why: str, others: float) -> Message:
    """Returns the remark of a run that enhances nothing.

    Args:
        why: reason, as in `LiveStatus.paused`.
        others: processor share of other programs, 0…1; 0 if they are not to blame.
    """
    if others >= _BUSY:
        percent = round(100 * others)
        return Message("paused: other programs use {percent} % of the processor", code="live_others", percent=percent)
    return Message("paused: {why}", code="live_paused", why=why)


def remarks_of(faces: Sequence[FaceState], *, always: bool, light: float, uneven: bool) -> list[Message]:
    """Returns the remarks about the faces of a picture.

    Args:
        faces: faces of the picture.
        always: whether every face is corrected, regardless of the expected gain.
        light: amount by which the light is improved, 0…1.
        uneven: whether a face is lit from one side.
    """
    remarks: list[Message] = []
    if not always and faces and all(not treatment.on and treatment.reasons for treatment, _ in faces):
        reasons = [treatment.reasons[0] for treatment, _ in faces]
        why = next((reason for reason in reasons if reason != "nothing to gain"), "")
        remarks.append(
            Message("faces are left as they are: {why}", code="live_left", why=why)
            if why
            else Message("your picture is clear: nothing to gain", code="live_clear")
        )
    if not light and (uneven or any(analysis.under_exposure >= _DIM for _, analysis in faces)):
        remarks.append(Message("your face is dim or lit from one side: Light improves that", code="live_dim"))
    return remarks


NO_FACE = Message("no face is seen", code="live_no_face")


class TurnedFaces:
    """Warns once that the picture may be rotated: if the largest face is sideways or upside down in most of the last
    300 frames with a face (ten seconds).

    Args:
        stats: statistics that receive the warning.
        degrees, mirror: values of `--turn` and `--mirror`, which are already applied.
    """

    def __init__(self, stats: Stats, degrees: int, mirror: bool) -> None:
        self._stats, self._degrees, self._mirror, self._rolls = stats, degrees, mirror, deque[int](maxlen=_FRAMES)

    def see(self, faces: Sequence[Face]) -> None:
        """Records the faces of the next frame."""
        for face in sorted(faces, key=lambda face: face.width)[-1:]:
            (x0, y0), (x1, y1) = face.points[:2].mean(0), face.points[3:].mean(0)  # from the eyes to the mouth
            roll = degrees(atan2(x0 - x1, y1 - y0))  # clockwise
            self._rolls.append(-90 * round(roll / 90) % 360 if abs(roll) > _MIN_ROLL else 0)
        for needed in (90, 180, 270):
            if self._rolls.count(needed) > _FRAMES / 2:
                turn = (self._degrees + (-needed if self._mirror else needed)) % 360
                line = "faces are sideways or upside down; if the picture is rotated, use {--turn:{turn}}"
                self._stats.warn("turned", Message(line, code="live_turned", turn=turn))
