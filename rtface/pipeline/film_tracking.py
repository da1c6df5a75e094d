"""Finds the faces of a film's frames. Reads a tenth of a second apart while all faces move steadily."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Protocol, TypeGuard

from rtface.errors import DeviceLost
from rtface.frame import Face, Frame
from rtface.protocols import Device, FilmTracker, Item, Tracker, View
from rtface.stats import Stats
from rtface.tracking.interpolation import MAX_SPAN_S, READ_AFTER_S, MotionGuard, interpolated, new_period

_MAX_HELD = 5
_MAX_PIXELS = 16 << 20
"""Size of the largest frames that are held: 5K."""


class Update(Protocol):
    """Returns the faces on a frame, as `rtface.protocols.Tracker.update`."""

    def __call__(self, view: View, time: float, *, cut: bool = False) -> tuple[Face, ...]: ...


def reads_apart(tracker: Tracker) -> TypeGuard[FilmTracker]:
    """Returns whether the class with `update` also has `read`, unlike plugin subclasses."""
    with_update = next((base for base in type(tracker).__mro__ if "update" in vars(base)), object)
    return isinstance(tracker, FilmTracker) and "read" in vars(with_update)


class FilmTracking:
    """Finds faces. Holds frames until their faces can be interpolated between two readings.

    If a face appears, is lost, or moves otherwise than before, the held frames are read one by one, and so are the
    frames of the next tenth of a second.

    Args:
        tracker, device, stats: as for `rtface.pipeline.chain.find_faces`.
        find: `rtface.pipeline.chain.find_faces`.
    """

    def __init__(self, tracker: FilmTracker, device: Device, stats: Stats, find: Callable[..., Frame]) -> None:
        self._tracker, self._device, self._stats = tracker, device, stats
        self._find = partial(find, tracker=tracker, device=device, stats=stats)
        self._guard = MotionGuard()
        self._steady = False
        self._faces: tuple[Face, ...] = ()  # faces of the guard's last reading, before smoothing
        self._time: float | None = None  # time of that reading
        self._held: list[Item] = []

    def __call__(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yields the items in order; frames have their faces. Yields held frames before an error is raised."""
        try:
            for item in items:
                if isinstance(item, Frame):
                    yield from self._take(item)
                elif self._held:
                    self._held.append(item)
                else:
                    yield item
        except Exception:
            yield from self._read_held()
            raise
        yield from self._read_held()

    def _take(self, frame: Frame) -> Iterator[Item]:
        cut = self._sees_cut(frame) or frame.cut or frame.new
        if not cut and self._may_hold(frame):
            self._held.append(frame)
        elif self._held:
            yield from self._end_group(frame, cut)
        else:
            yield self._read(frame, cut)

    def _sees_cut(self, frame: Frame) -> bool:
        try:
            with self._stats.time("track"):
                return self._tracker.sees_cut(self._device.view(frame))
        except DeviceLost:
            raise
        except Exception:  # noqa: BLE001 - reading the frame reports it
            return False

    def _may_hold(self, frame: Frame) -> bool:
        """Returns whether a frame may wait for the next reading."""
        return (
            self._steady
            and self._time is not None
            and not _ends_group(self._time, frame.time)
            and frame.field is None
            and frame.image.width * frame.image.height <= _MAX_PIXELS
            and sum(isinstance(item, Frame) for item in self._held) < _MAX_HELD
        )

    def _read(self, frame: Frame, cut: bool, *, judged: bool = False) -> Frame:
        """Reads a frame by itself. Judges the motion at the end of a group, unless it was `judged`."""
        last = self._time
        judges = frame.field is None and not judged and (cut or last is None or _ends_group(last, frame.time))

        def update(view: View, time: float, **_: bool) -> tuple[Face, ...]:
            faces = self._tracker.read(view, time, cut=cut)
            if judges:
                self._judge(faces, time)
            return self._tracker.smoothed(faces, time)

        done = self._find(frame, update=update)
        if done.failed or frame.field is not None:
            self._steady, self._time = False, None
        return done

    def _judge(self, faces: tuple[Face, ...], time: float) -> None:
        self._steady = self._guard.steady(faces, time) and self._tracker.settled
        self._faces, self._time = faces, time

    def _end_group(self, frame: Frame, cut: bool) -> Iterator[Item]:
        """Ends a group with a reading. Interpolates the held frames if its faces are where they were expected."""
        tracker, before, began = self._tracker, self._faces, self._time
        assert began is not None
        judged = False
        if not cut and frame.field is None and 0 < frame.time - began <= MAX_SPAN_S:
            state = tracker.saved()
            after: tuple[Face, ...] = ()
            with self._stats.time("track"):
                try:
                    after = tracker.read(self._device.view(frame), frame.time)
                    self._judge(after, frame.time)
                    judged = True
                except DeviceLost:
                    raise
                except Exception:  # noqa: BLE001 - reading the frame once more reports it
                    self._steady = False
            if self._steady:
                held, self._held = self._held, []
                for item in held:
                    yield self._between(item, before, after, began, frame.time)

                def smoothed(view: View, time: float, **_: bool) -> tuple[Face, ...]:
                    return tracker.smoothed(after, time)

                yield self._find(frame, update=smoothed)
                return
            tracker.restore(state)
        self._steady = False
        yield from self._read_held()
        yield self._read(frame, cut, judged=judged)

    def _between(
        self, item: Item, before: tuple[Face, ...], after: tuple[Face, ...], began: float, ended: float
    ) -> Item:
        """Gives a held frame the faces between two readings."""
        if not isinstance(item, Frame):
            return item

        def update(view: View, time: float, **_: bool) -> tuple[Face, ...]:
            return self._tracker.smoothed(interpolated(before, after, (time - began) / (ended - began)), time)

        return self._find(item, update=update)

    def _read_held(self) -> Iterator[Item]:
        """Reads the held frames one by one. None of them begins a scene."""
        held, self._held = self._held, []
        for item in held:
            yield self._read(item, cut=False, judged=True) if isinstance(item, Frame) else item


def _ends_group(last: float, time: float) -> bool:
    """Returns whether a frame is read. `last` is the time of the last reading that was judged."""
    return not 0 < time - last < READ_AFTER_S or new_period(last, time)
