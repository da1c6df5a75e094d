"""frames → tracker → frames with faces: the step that finds what is to be enhanced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from time import perf_counter

from rtface.errors import DeviceLost
from rtface.frame import Face, Frame
from rtface.protocols import Device, Item, Tracker
from rtface.stats import Stats


def track(items: Iterable[Item], tracker: Tracker, device: Device, stats: Stats) -> Iterator[Item]:
    """Puts the tracker's faces on every frame. A frame on which the tracker fails has no faces and `tracked` False,
    and is counted. DeviceLost is raised: the tracker's networks are gone for good."""
    for item in items:
        if isinstance(item, Frame):
            started = perf_counter()
            try:
                faces = tracker.update(device.view(item), item.time, cut=item.cut or item.new)
                unfollowed: tuple[Face, ...] = getattr(tracker, "unfollowed", ())
                tracked = True
            except DeviceLost:
                raise
            except Exception as error:  # noqa: BLE001 - one bad frame must not end a run: counted and said
                stats.fault("tracker", error)
                faces, unfollowed, tracked = (), (), False
            stats.add("track", perf_counter() - started)
            yield replace(item, faces=faces, unfollowed=unfollowed, tracked=tracked)
        else:
            yield item
