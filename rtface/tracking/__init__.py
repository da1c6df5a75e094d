"""Creates face trackers by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rtface.errors import UsageError
from rtface.frame import Face
from rtface.protocols import ALL_FACES, Tracker, View
from rtface.util import plugins


class NoTracker:
    """Finds no faces: for frames whose faces the caller supplies, and as a base class.

    Args:
        options: options from `create_tracker`; not used.
    """

    sparing = False
    watchful = False
    thorough = False
    unfollowed: tuple[Face, ...] = ()
    beyond = 0

    def __init__(self, **options: object) -> None: ...

    def update(self, view: View, time: float, *, cut: bool = False) -> tuple[Face, ...]:
        """Returns no faces."""
        return ()

    def reset(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Releases nothing."""


def create_tracker(
    name: str = "auto",
    *,
    max_faces: int = ALL_FACES,
    threads: int = 1,
    cuts: bool = True,
) -> Tracker:
    """Creates a tracker. Its networks run on the CPU, even if engines run elsewhere.

    Args:
        name: "openvino" ("auto" chooses it: YuNet and MediaPipe's mesh, both run by OpenVINO), "none", or the name of
            a plugin.
        max_faces: maximum number of faces in a frame, at least 1.
        threads: cores for one detector run, at least 1.
        cuts: whether the tracker detects scene changes itself, besides those passed to `update`.

    Raises:
        UsageError: an unknown name.
        MissingComponent: a model file or package is missing; the message says how to get it.
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


def openvino_tracker(*, threads: int, **options: Any) -> Tracker:
    """Creates a tracker of YuNet and MediaPipe's face mesh, both in OpenVINO. For arguments see `create_tracker`."""
    # Imported late: the networks' library is slow to import, and "none" does not need it.
    from rtface.tracking.detector import Detector
    from rtface.tracking.detector_search import DetectorSearch
    from rtface.tracking.facemesh import FaceMesh
    from rtface.tracking.mediapipe import MediaPipeTracker

    search = DetectorSearch(Detector(threads=threads))
    return MediaPipeTracker(FaceMesh(threads=threads), search, **options)
