"""Chooses the widest faces with hysteresis. Without it the choice would jump between faces of similar width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from rtface.frame import Face, Frame

_MARGIN = 1.2
"""Factor by which another face must be wider to replace a chosen one."""
_LOST_S = 1.0
"""Seconds for which the place of a lost face stays free."""
_NEW_S = 0.5
"""A face that appeared less than these seconds before another's loss may be the same under another number: trackers
still show a face for a while where it was."""


class HeldFaces:
    """Chooses the widest faces of successive frames, by track. Each sequence of frames needs its own object.

    While the place of a lost face is kept, faces that were passed over do not get it. A face that appeared when the
    other was lost gets it at once, so after a cut, or when a face gets another number, the choice does not wait.
    """

    def __init__(self) -> None:
        self._held: dict[int, Face] = {}  # last sight of each chosen face, by track
        self._seen: dict[int, tuple[float, float]] = {}  # first and last time of each track

    @property
    def tracks(self) -> frozenset[int]:
        """The chosen tracks, including lost ones."""
        return frozenset(self._held)

    def on(self, frame: Frame) -> Callable[[Sequence[Face], int], tuple[Face, ...]]:
        """Returns the function that chooses on the next frame; see `widest`."""
        return lambda faces, most: self.widest(faces, most, frame.time, new=frame.cut or frame.new)

    def widest(self, faces: Sequence[Face], most: int, time: float, *, new: bool = False) -> tuple[Face, ...]:
        """Chooses up to `most` of `faces`, and returns them in their order.

        Args:
            time: time of the frame in seconds.
            new: whether to forget earlier faces.
        """
        recent = {} if new else {track: seen for track, seen in self._seen.items() if 0 <= time - seen[1] < _LOST_S}
        here = {face.track_id for face in faces}
        first = time if recent else -inf  # faces on the first frame were there before
        seen = {track: (recent.get(track, (first,))[0], time) for track in here}
        newest = max((begin for begin, _ in seen.values()), default=-inf)
        held = {
            track: face
            for track, face in self._held.items()
            if track in here or (track in recent and newest < recent[track][1] - _NEW_S)
        }
        lost = [face for track, face in held.items() if track not in here]
        ranked = sorted([*faces, *lost], key=lambda face: -face.width * (_MARGIN if face.track_id in held else 1.0))
        chosen = {id(face) for face in ranked[:most]}
        self._seen = {**recent, **seen}
        self._held = {face.track_id: face for face in ranked[:most]}
        return tuple(face for face in faces if id(face) in chosen)
