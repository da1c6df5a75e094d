"""Face trackers, by name."""

from __future__ import annotations

from rtface.errors import UsageError
from rtface.frame import Face
from rtface.protocols import Tracker, View

NAMES = ("auto", "openvino", "tasks", "none")
"""What `create_tracker` knows; "auto" is "openvino"."""


class NoTracker:
    """Finds nothing: for pictures whose faces the caller brings along."""

    def update(self, view: View, time: float, *, cut: bool = False) -> tuple[Face, ...]:
        """No faces."""
        return ()

    def reset(self) -> None:
        """Nothing to forget."""

    def close(self) -> None:
        """Nothing to release."""


def create_tracker(name: str = "auto", *, max_faces: int = 8, threads: int = 1, cuts: bool = True) -> Tracker:
    """A tracker.

    Args:
        name: "openvino" (what "auto" takes: YuNet and MediaPipe's mesh, both run by OpenVINO), "tasks" (the mesh run
            by MediaPipe's Tasks API; needs the extra ``rtface[mediapipe]``, slower) or "none".
        max_faces: faces followed at once, at least 1.
        threads: cores that one look may use, at least 1.
        cuts: whether it looks for scene changes itself, besides those it is told of.

    Raises:
        UsageError: an unknown name or a number below 1.
        MissingComponent: a model file or package is not there; the message says how to get it.
    """
    if max_faces < 1 or threads < 1:
        raise UsageError(f"a tracker needs max_faces ≥ 1 and threads ≥ 1, not {max_faces} and {threads}")
    if name == "none":
        return NoTracker()
    if name not in NAMES:
        raise UsageError(f"unknown tracker {name!r}: choose one of {', '.join(NAMES)}")
    # Only now: the networks' library takes a while to import, and "none" does without.
    from rtface.track.detector import Detector
    from rtface.track.facemesh import FaceMesh
    from rtface.track.long_range import Search
    from rtface.track.mediapipe import MediaPipeTracker
    from rtface.track.tasks import TasksMesh

    reader = TasksMesh() if name == "tasks" else FaceMesh(threads=threads)
    return MediaPipeTracker(reader, Search(Detector(threads=threads)), max_faces=max_faces, cuts=cuts)
