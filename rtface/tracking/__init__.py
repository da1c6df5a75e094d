"""Face trackers, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rtface.errors import UsageError
from rtface.frame import Face
from rtface.protocols import ALL_FACES, Tracker, View
from rtface.util import plugins

if TYPE_CHECKING:
    from rtface.tracking.mediapipe import Reader


class NoTracker:
    """A tracker that finds no face: for frames that bring their faces along, and as a base class of trackers.

    Args:
        options: what `create_tracker` passes on; not used.
    """

    sparing = False
    watchful = False
    thorough = False
    unfollowed: tuple[Face, ...] = ()
    beyond = 0

    def __init__(self, **options: object) -> None: ...

    def update(self, view: View, time: float, *, cut: bool = False) -> tuple[Face, ...]:
        """No faces."""
        return ()

    def reset(self) -> None:
        """Nothing to forget."""

    def close(self) -> None:
        """Nothing to release."""


def create_tracker(
    name: str = "auto",
    *,
    max_faces: int = ALL_FACES,
    threads: int = 1,
    cuts: bool = True,
) -> Tracker:
    """A tracker; its networks run on the CPU, wherever engines do.

    Args:
        name: "openvino" (what "auto" takes: YuNet and MediaPipe's mesh, both run by OpenVINO), "tasks" (the mesh run
            by MediaPipe's Tasks API; needs the extra ``mediapipe``, slower), "none", or a plugin's.
        max_faces: faces returned at once, at least 1.
        threads: cores that one detector run may use, at least 1.
        cuts: whether it looks for scene changes itself, besides those that `update` is given.

    Raises:
        UsageError: an unknown name.
        MissingComponent: a model file or package is not there; the message says how to get it.
    """
    name = "openvino" if name == "auto" else name
    if not plugins.exists("tracker", name):
        raise UsageError(
            "unknown tracker {name!r}: choose one of auto, {names}",
            code="tracker_unknown",
            name=name,
            names=", ".join(plugins.names("tracker")),
        )
    factory: Callable[..., Tracker] = plugins.load("tracker", name)
    return factory(max_faces=max_faces, threads=threads, cuts=cuts)


def openvino_tracker(*, threads: int, **following: Any) -> Tracker:
    """YuNet and MediaPipe's face mesh, both run by OpenVINO; arguments as of `create_tracker`."""
    from rtface.tracking.facemesh import FaceMesh

    return _following(FaceMesh(threads=threads), threads, **following)


def tasks_tracker(*, threads: int, **following: Any) -> Tracker:
    """YuNet run by OpenVINO, the face mesh by MediaPipe's Tasks API; arguments as of `create_tracker`."""
    from rtface.tracking.tasks import TasksMesh

    return _following(TasksMesh(), threads, **following)


def _following(reader: Reader, threads: int, **following: Any) -> Tracker:
    # Only now: the networks' library takes a while to import, and "none" does without.
    from rtface.tracking.detector import Detector
    from rtface.tracking.detector_search import DetectorSearch
    from rtface.tracking.mediapipe import MediaPipeTracker

    return MediaPipeTracker(reader, DetectorSearch(Detector(threads=threads)), **following)
