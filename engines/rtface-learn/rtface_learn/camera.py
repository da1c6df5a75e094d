"""Records takes from a live source and tracks which poses are missing."""

from __future__ import annotations

import queue
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from rtface.config.addresses import LiveAddress
from rtface.errors import InputError
from rtface.frame import Face, Float, Frame
from rtface.live.protocols import LiveSource
from rtface.persons.recogniser import Embedder
from rtface.protocols import Tracker, View
from rtface.stats import Stats
from rtface.util import plugins
from rtface_learn.takes import Take, frame_takes

LENGTH_S = 30.0
"""Recording time; up to twice as long if poses are missing by then."""
POSES = {"ahead": 15, "left": 5, "right": 5, "up": 5, "mouth": 5, "blink": 2}
"""Required number of frames of each pose. Left and right are the person's; mouth: open; blink: lids closed."""
_TURNED_DEG, _UP_DEG, _AHEAD_DEG = 12.0, 8.0, 8.0
_SILENT_S = 10.0
"""Time without a frame after which the recording fails."""
_LIDS = ((159, 145, 33, 133), (386, 374, 362, 263))
_MOUTH = (13, 14, 78, 308)
"""Mesh points of an eye or the mouth: upper edge, lower edge, and both corners."""
_OPEN, _CLOSED = 0.12, 0.6
"""Minimum height of an open mouth relative to its width; maximum height of closed lids relative to their median."""


@dataclass(slots=True)
class Guide:
    """Counts the frames that show each pose of a face."""

    counts: Counter[str] = field(default_factory=Counter[str])
    _lids: list[float] = field(default_factory=list[float])

    def see(self, face: Face) -> None:
        """Counts the poses that a face shows in one frame."""
        yaw, pitch = face.pose[:2] if face.pose is not None else (0.0, 0.0)
        visible = {"ahead": max(abs(yaw), abs(pitch)) < _AHEAD_DEG, "left": yaw > _TURNED_DEG,
                   "right": yaw < -_TURNED_DEG, "up": pitch > _UP_DEG and abs(yaw) < _TURNED_DEG}  # fmt: skip
        if face.mesh is None:
            visible |= {"mouth": True, "blink": True}  # not detectable without a mesh, so not waited for
        else:
            mesh = face.mesh
            visible["mouth"] = _height(mesh, *_MOUTH) > _OPEN
            lid_height = sum(_height(mesh, *points) for points in _LIDS) / 2
            median_height = float(np.median(self._lids[-300:])) if len(self._lids) >= 10 else 0.0
            visible["blink"] = abs(yaw) < _TURNED_DEG and lid_height < _CLOSED * median_height
            self._lids.append(lid_height)
        self.counts.update(name for name, is_visible in visible.items() if is_visible)

    @property
    def missing(self) -> list[str]:
        """Poses not yet seen often enough, in the order of `POSES`."""
        return [name for name, count in POSES.items() if self.counts[name] < count]

    @property
    def share(self) -> float:
        """Progress of the recording: mean over all poses of the seen share of the required frames, 0…1."""
        return sum(min(1.0, self.counts[name] / count) for name, count in POSES.items()) / len(POSES)


def _height(mesh: Float, top: int, bottom: int, left: int, right: int) -> float:
    return float(np.linalg.norm(mesh[top] - mesh[bottom]) / max(np.linalg.norm(mesh[left] - mesh[right]), 1e-6))


Watch = Callable[[Guide, float, View], None]
"""Function called with the guide, the remaining seconds, and the frame."""


def ignore_progress(guide: Guide, left: float, view: View) -> None:
    """Does nothing. Default of `watch`."""


def record_takes(
    address: LiveAddress,
    number: int,
    tracker: Tracker,
    embed: Embedder,
    watch: Watch,
    *,
    length: float = LENGTH_S,
    opened: Callable[[LiveAddress], LiveSource] | None = None,
) -> list[Take]:
    """Records takes from a live source.

    Args:
        number: number of the source.
        watch: function called on every frame.
        length: duration of the recording in seconds.
        opened: function that opens the source.

    Raises:
        InputError: the source cannot be opened, or sends no frames.
    """
    guide, source = Guide(), (opened or _open)(address)

    def process_frame(view: View, faces: dict[int, Face], since: float) -> bool:
        if faces:
            guide.see(max(faces.values(), key=lambda face: face.width))
        watch(guide, max(0.0, (length if since < length else 2 * length) - since), view)
        return since < length or (bool(guide.missing) and since < 2 * length)

    try:
        return list(frame_takes(_frames(source, address), length, number, tracker, embed, on_frame=process_frame))
    finally:
        source.close()


def check_live(address: LiveAddress) -> None:
    """Checks a live source. Raises InputError if it cannot be opened or sends no frames."""
    source = _open(address)
    try:
        next(_frames(source, address), None)
    finally:
        source.close()


def _open(address: LiveAddress) -> LiveSource:
    return plugins.load("source", address.kind)(
        address, size=None, fps=None, sound=False, buffer=0.0 if address.kind != "stream" else None, stats=Stats()
    )


def _frames(source: LiveSource, address: LiveAddress) -> Iterator[Frame]:
    """Yields frames. Drops all but the last two of the frames that arrive while one is processed."""
    pending: queue.Queue[Frame] = queue.Queue()

    def enqueue(frame: Frame) -> None:
        pending.put(frame)
        while pending.qsize() > 2:
            try:
                pending.get_nowait()
            except queue.Empty:
                break

    source.start(enqueue, lambda _: None)
    last_arrival = time.monotonic()
    while True:
        try:
            frame = pending.get(timeout=0.2)
        except queue.Empty:
            if source.ended:
                return
            if time.monotonic() - last_arrival > _SILENT_S:
                raise InputError(
                    "{name} sends no picture; check that it is on, and that no other program uses it",
                    code="learn_silent",
                    name=address,
                ) from None
            continue
        last_arrival = time.monotonic()
        yield frame
