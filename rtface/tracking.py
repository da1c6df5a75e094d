"""frames → tracker → frames with faces: the step that finds what is to be enhanced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import perf_counter

from rtface.errors import DeviceLost
from rtface.frame import Frame
from rtface.protocols import Device, Item, Tracker
from rtface.stats import Stats


def track(items: Iterable[Item], tracker: Tracker, device: Device, stats: Stats) -> Iterator[Item]:
    """Puts the tracker's faces on every frame. A tracker fault leaves that frame without faces, counted; but where its
    card is lost (DeviceLost is raised) it would find none ever again."""
    for item in items:
        if isinstance(item, Frame):
            started = perf_counter()
            try:
                faces = tracker.update(device.view(item), item.time, cut=item.cut or item.new)
            except DeviceLost:
                raise
            except Exception as error:  # noqa: BLE001 - one bad frame must not end a run: counted and said
                stats.fault("tracker", error)
                faces = ()
            stats.add("track", perf_counter() - started)
            yield item.with_faces(faces)
        else:
            yield item
