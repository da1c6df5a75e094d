"""Face trackers, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from rtface import plugins
from rtface.errors import DeviceLost, EngineError, MissingComponent, UsageError, log
from rtface.frame import Face
from rtface.protocols import ALL_FACES, ImageNetwork, ImageNetworkRunner, Tracker, View

if TYPE_CHECKING:
    from rtface.tracking.mediapipe import Reader

Opener = Callable[[ImageNetwork], ImageNetworkRunner]


class _Closable(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=_Closable)


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
    device: str = "cpu",
    gpu: Opener | None = None,
) -> Tracker:
    """A tracker.

    A network that is not available on the requested device, or gives other answers there than on a
    CPU, runs on the CPU; the log says so.

    Args:
        name: "openvino" (what "auto" takes: YuNet and MediaPipe's mesh, both run by OpenVINO), "tasks" (the mesh run
            by MediaPipe's Tasks API; needs the extra ``mediapipe``, slower), "none", or a plugin's.
        max_faces: faces returned at once, at least 1.
        threads: cores that one detector run may use, at least 1.
        cuts: whether it looks for scene changes itself, besides those that `update` is given.
        device: the run's; its networks run there where it is one of OpenVINO's ("openvino:gpu.1"), else on the CPU.
        gpu: makes networks ready on the run's GPU instead.

    Raises:
        UsageError: an unknown name.
        MissingComponent: a model file or package is not there; the message says how to get it.
        DeviceLost: the GPU stopped answering.
    """
    name = "openvino" if name == "auto" else name
    if not plugins.known("tracker", name):
        raise UsageError(
            "unknown tracker {name!r}: choose one of auto, {names}",
            code="tracker_unknown",
            name=name,
            names=", ".join(plugins.names("tracker")),
        )
    factory: Callable[..., Tracker] = plugins.load("tracker", name)
    return factory(max_faces=max_faces, threads=threads, cuts=cuts, device=device, gpu=gpu)


def openvino_tracker(*, threads: int, device: str, gpu: Opener | None, **following: Any) -> Tracker:
    """YuNet and MediaPipe's face mesh, both run by OpenVINO; arguments as of `create_tracker`."""
    from rtface.tracking import golden, models
    from rtface.tracking.facemesh import FaceMesh

    mesh = _on_device(FaceMesh, models.face_mesh, golden.check_mesh, threads, device, gpu)
    return _following(mesh, threads, device, gpu, **following)


def tasks_tracker(*, threads: int, device: str, gpu: Opener | None, **following: Any) -> Tracker:
    """YuNet run by OpenVINO, the face mesh by MediaPipe's Tasks API; arguments as of `create_tracker`."""
    from rtface.tracking.tasks import TasksMesh

    return _following(TasksMesh(), threads, device, gpu, **following)


def _following(reader: Reader, threads: int, device: str, gpu: Opener | None, **following: Any) -> Tracker:
    # Only now: the networks' library takes a while to import, and "none" does without.
    from rtface.tracking import golden, models
    from rtface.tracking.detector import Detector
    from rtface.tracking.detector_search import DetectorSearch
    from rtface.tracking.mediapipe import MediaPipeTracker

    detector = _on_device(Detector, models.yunet, golden.check_detector, threads, device, gpu)
    return MediaPipeTracker(reader, DetectorSearch(detector), **following)


def _on_device(
    kind: Callable[..., T],
    network: Callable[[], ImageNetwork],
    check: Callable[[T], None],
    threads: int,
    device: str,
    gpu: Opener | None,
) -> T:
    """A network on the GPU or on OpenVINO's device, where it passes its check there; else on the CPU."""
    made: T | None = None
    if gpu is not None:
        made = _proven(lambda: kind(network=gpu(network())), check)
    elif device.startswith("openvino:"):  # one that is not the CPU
        made = _proven(lambda: kind(device=device.removeprefix("openvino:").upper()), check)
    return made or kind(threads=threads)


def _proven(make: Callable[[], T], check: Callable[[T], None]) -> T | None:
    """What was made, once it has given its golden answers; None where it is not available or gives others."""
    made: T | None = None
    try:
        made = make()
        check(made)
    except DeviceLost:
        raise
    except (EngineError, MissingComponent) as error:
        log.warning("the tracker runs on the CPU: %s", error)
        if made is not None:
            made.close()
        return None
    return made
