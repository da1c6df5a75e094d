"""Chooses the widest faces with hysteresis. Without it the choice would jump between faces of similar width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from rtface.frame import Face, Frame

_MARGIN = 1.2
"""Factor by which a face must be wider than a chosen one to replace it."""
_LOST_S = 1.0
"""Seconds for which a lost face keeps its place among the chosen ones."""
_NEW_S = 0.5
"""A face that appeared less than these seconds before another was lost may be the same face with a new number, because
trackers report a lost face for a while at its last place."""


class HeldFaces:
    """Chooses the widest faces of successive frames, by track. Each sequence of frames needs its own object.

    A lost face keeps its place for a while; faces that were not chosen before do not get it. A face that appeared when
    the other was lost gets it at once, so that the choice does not wait after a cut or a change of a track's number.
    """

    def __init__(self) -> None:
        self._chosen: dict[int, Face] = {}  # last state of each chosen face, by track
        self._times: dict[int, tuple[float, float]] = {}  # first and last time of each track

    @property
    def tracks(self) -> frozenset[int]:
        """The chosen tracks, including lost ones."""
        return frozenset(self._chosen)

    def on(self, frame: Frame) -> Callable[[Sequence[Face], int], tuple[Face, ...]]:
        """Returns the function that chooses on the next frame; see `widest`."""
        return lambda faces, count: self.widest(faces, count, frame.time, new=frame.cut or frame.new)

    def widest(self, faces: Sequence[Face], count: int, time: float, *, new: bool = False) -> tuple[Face, ...]:
        """Chooses up to `count` of `faces`, and returns them in their order.

        Args:
            time: time of the frame in seconds.
            new: whether to forget earlier faces.
        """
        recent = {} if new else {track: times for track, times in self._times.items() if 0 <= time - times[1] < _LOST_S}
        visible = {face.track_id for face in faces}
        first = time if recent else -inf  # faces on the first frame count as old
        times = {track: (recent.get(track, (first,))[0], time) for track in visible}
        newest = max((begin for begin, _ in times.values()), default=-inf)
        candidates = {
            track: face
            for track, face in self._chosen.items()
            if track in visible or (track in recent and newest < recent[track][1] - _NEW_S)
        }
        lost_faces = [face for track, face in candidates.items() if track not in visible]
        ranked = sorted(
            [*faces, *lost_faces], key=lambda face: -face.width * (_MARGIN if face.track_id in candidates else 1.0)
        )
        chosen = {id(face) for face in ranked[:count]}
        self._times = {**recent, **times}
        self._chosen = {face.track_id: face for face in ranked[:count]}
        return tuple(face for face in faces if id(face) in chosen)
