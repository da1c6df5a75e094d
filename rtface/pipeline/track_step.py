"""The step that finds the faces of a frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from time import perf_counter

from rtface.errors import DeviceLost
from rtface.frame import Face, Frame
from rtface.protocols import Device, Item, Tracker
from rtface.stats import Stats


def find_faces(frame: Frame, tracker: Tracker, device: Device, stats: Stats) -> Frame:
    """The frame with the tracker's faces.

    Where the tracker fails, it has no faces and `tracked` is False, and the fault is counted.
    DeviceLost is raised: the tracker's networks are gone for good.
    """
    started = perf_counter()
    try:
        faces = tracker.update(device.view(frame), frame.time, cut=frame.cut or frame.new)
        unfollowed: tuple[Face, ...] = getattr(tracker, "unfollowed", ())
        tracked = True
    except DeviceLost:
        raise
    except Exception as error:  # noqa: BLE001 - one bad frame must not end a run: counted and said
        stats.fault("tracker", error)
        faces, unfollowed, tracked = (), (), False
    stats.add("track", perf_counter() - started)
    return replace(frame, faces=faces, unfollowed=unfollowed, tracked=tracked)


def track(items: Iterable[Item], tracker: Tracker, device: Device, stats: Stats) -> Iterator[Item]:
    """`find_faces` for each frame."""
    for item in items:
        yield find_faces(item, tracker, device, stats) if isinstance(item, Frame) else item
