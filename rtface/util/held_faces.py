"""The widest faces of a frame, held: a choice that is made on each frame alone jumps between faces of like width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from rtface.frame import Face, Frame

_MARGIN = 1.2
"""Another face has to be so much wider to take the place of a chosen one."""
_LOST_S = 1.0
"""Seconds for which the place of a chosen face that is not seen stays free."""
_NEW_S = 0.5
"""Seconds before its loss from which on a face that came may be the lost one under another number: trackers still show
a face for a while where it was."""


class HeldFaces:
    """Chooses the widest faces of frame after frame, by their tracks; one for each run of frames in order.

    The place of a lost face is kept from those that were passed over, not from one that came when it was lost: after a
    cut, or where a face gets another number, nothing is waited for.
    """

    def __init__(self) -> None:
        self._held: dict[int, Face] = {}  # by track, as it was seen last
        self._known: dict[int, tuple[float, float]] = {}  # when each track was seen first and last

    @property
    def tracks(self) -> frozenset[int]:
        """Those that are chosen, lost ones among them."""
        return frozenset(self._held)

    def on(self, frame: Frame) -> Callable[[Sequence[Face], int], tuple[Face, ...]]:
        """The choice on the next frame; see `widest`."""
        return lambda faces, most: self.widest(faces, most, frame.time, new=frame.cut or frame.new)

    def widest(self, faces: Sequence[Face], most: int, time: float, *, new: bool = False) -> tuple[Face, ...]:
        """The chosen ones of `faces`, in their order, at most `most`.

        Args:
            time: of the frame, in seconds.
            new: nothing is held from the frames before.
        """
        known = {} if new else {track: seen for track, seen in self._known.items() if 0 <= time - seen[1] < _LOST_S}
        here = {face.track_id for face in faces}
        first = time if known else -inf  # those on the first frame were there before
        seen = {track: (known.get(track, (first,))[0], time) for track in here}
        newest = max((begin for begin, _ in seen.values()), default=-inf)
        held = {
            track: face
            for track, face in self._held.items()
            if track in here or (track in known and newest < known[track][1] - _NEW_S)
        }
        lost = [face for track, face in held.items() if track not in here]
        ranked = sorted([*faces, *lost], key=lambda face: -face.width * (_MARGIN if face.track_id in held else 1.0))
        chosen = {id(face) for face in ranked[:most]}
        self._known = {**known, **seen}
        self._held = {face.track_id: face for face in ranked[:most]}
        return tuple(face for face in faces if id(face) in chosen)
