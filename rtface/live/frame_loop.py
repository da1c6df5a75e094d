"""The middle of a live run: every frame gets its faces, is enhanced as far as there is time, and handed on.

Two threads, so that the next frame gets its faces while this one is enhanced; the tracker has a third one
(`rtface.live.live_tracker`). Frames that come in a burst, or while a step is late, wait in a short queue. What is late
is done more simply, then passed on as it is: a frame is dropped only where even that is too slow.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Protocol

from rtface.concurrency import Mailbox
from rtface.enhance.step import Enhance
from rtface.frame import Face, Frame
from rtface.live.controls import LiveControls
from rtface.live.live_tracker import LiveTracker
from rtface.protocols import Tracker
from rtface.stats import Stats

log = logging.getLogger("rtface")


# A pause after which pictures have nothing to do with those before.
_GAP_S = 1.0
# Seconds of frames that may wait for their turn, at least.
_QUEUE_S = 0.25
# Ceilings after which a frame goes through as it is. Before, its correction is carried: quickly done, and no flicker.
_BARE = 3
# Frames that may have their faces already while one is enhanced: on a busy computer, threads that take turns frame by
# frame wait for each other.
_AHEAD = 4


class Extras(Protocol):
    """What is done with a picture besides (`rtface.live.frame_filters`)."""

    @property
    def needs_faces(self) -> bool:
        """Whether faces matter while enhancement is off or nobody looks, too: what is covered has to stay covered."""
        ...

    @property
    def hides(self) -> bool:
        """Whether a frame on which `done` fails must not be shown."""
        ...

    def came(self, frame: Frame, light: float | None, faces: tuple[Face, ...]) -> Frame:
        """A picture before anything else is done to it.

        Args:
            light: how much it is to be lightened, 0…1; None while enhancement is off.
            faces: of the picture before.
        """
        ...

    def done(self, frame: Frame) -> Frame:
        """The finished picture, on its way to the sinks."""
        ...


class FrameLoop:
    """Tracks and enhances pictures as they come.

    Args:
        tracker: with its networks on the CPU: a lost GPU must not take it along.
        enhance: without frames ahead.
        present: takes a finished picture, without waiting.
        wanted: False while nobody looks at any output: pictures then go through as they are.
        ceiling: seconds after capture from which a frame waits for no engine; from three times as many it goes
            through as it is.
        period: seconds from one frame to the next.
        sparing: whether the tracker is to do with less.
        every: frames from one tracked frame to the next, at least.
    """

    def __init__(self, tracker: Tracker, enhance: Enhance, controls: LiveControls, stats: Stats, extras: Extras,
                 present: Callable[[Frame], None], *, wanted: Callable[[], bool] = lambda: True,
                 ceiling: float = 0.1, period: float = 1 / 30, sparing: Callable[[], bool] = lambda: False,
                 every: Callable[[], int] = lambda: 1) -> None:
        self._enhance, self._controls, self._stats = enhance, controls, stats
        self._extras, self._present, self._wanted, self._ceiling = extras, present, wanted, ceiling
        self._sparing, self._every = sparing, every
        self._tracker = LiveTracker(tracker, lambda: enhance.runtime.device, stats, period,
                                    lambda error: self._fault("tracker", error))
        queue = 2 + round(max(_QUEUE_S, 2 * ceiling) / period)
        self._incoming = Mailbox[Frame](lambda _: stats.count("dropped:late"), size=queue)
        self._tracked = Mailbox[Frame](size=_AHEAD)
        self._seen: tuple[Face, ...] = ()
        self.faces = 0
        self._threads = [threading.Thread(target=run, name=f"rtface-{name}", daemon=True)
                         for name, run in (("track", self._track), ("enhance", self._finish))]

    def start(self) -> None:
        """Begins with the frame that came first."""
        self._tracker.start()
        for thread in self._threads:
            thread.start()

    def put(self, frame: Frame) -> None:
        """Takes a picture from the source; never waits."""
        self._stats.count("frames_in")
        self._incoming.put(frame)

    def drain(self, timeout: float) -> None:
        """Waits until what came has gone through (the end of a film)."""
        self._incoming.close()
        self._threads[0].join(timeout)
        self._threads[1].join(timeout)

    def close(self, timeout: float = 0.5) -> None:
        """Ends both threads after the picture that they are at; a stuck one is left behind. Safe to call twice."""
        self._incoming.close()
        self._tracked.close()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout)
        self._tracker.close(timeout)

    def _track(self) -> None:
        last: float | None = None
        for frame in self._incoming:
            if last is not None and frame.time - last > _GAP_S:  # the source was away: another scene
                frame = replace(frame, cut=True)
            last = frame.time
            faces: tuple[Face, ...] = ()
            wanted = self._wanted()
            if wanted:
                frame = self._came(frame)
            if (self._controls.enabled and wanted) or self._extras.needs_faces:
                frame = self._with_faces(frame)
                faces = frame.faces
            self._seen, self.faces = faces, len(faces)
            if not self._tracked.hand_over(frame):
                return
        self._tracked.close()

    def _with_faces(self, frame: Frame) -> Frame:
        try:
            return self._tracker.faces_of(frame, every=self._every(), hurry=self._incoming.waiting > 0,
                                          sparing=self._sparing(), hides=self._extras.hides)
        except Exception as error:  # noqa: BLE001 - nothing ends a live run
            self._fault("tracker", error)
            return replace(frame, faces=(), tracked=False)

    def _came(self, frame: Frame) -> Frame:
        try:
            return self._extras.came(frame, self._controls.light if self._controls.enabled else None, self._seen)
        except Exception as error:  # noqa: BLE001 - as above
            self._fault("light", error)
            return frame

    def _finish(self) -> None:
        for frame in self._tracked:
            try:
                self._finish_one(frame)
            except Exception as error:  # noqa: BLE001 - as above
                self._fault("output", error)

    def _finish_one(self, frame: Frame) -> None:
        if frame.faces and self._controls.enabled and self._wanted():
            frame = self._enhanced(frame)
        try:
            frame = self._extras.done(frame)
        except Exception as error:  # noqa: BLE001 - as above
            self._fault("stages", error)
            if self._extras.hides:  # the frame may show what was to be hidden: the one before stays on
                self._stats.count("dropped:stages")
                return
        self._present(frame)

    def _enhanced(self, frame: Frame) -> Frame:
        age = 0.0 if frame.captured_at is None else monotonic() - frame.captured_at
        if age > _BARE * self._ceiling:
            self._stats.count("passed:late")
            self._enhance.passed(frame)
            return frame
        if age > self._ceiling:  # no engine is waited for: what was made of the face before is moved along
            self._stats.count("frames_late")
        self._enhance.strength = self._controls.strength
        try:
            return self._enhance.collect(self._enhance.submit(frame))
        except Exception as error:  # noqa: BLE001 - as above; a film ends after many faults in a row, a live run does not
            self._fault("enhance", error)
            self._enhance.reset()
            return frame

    def _fault(self, where: str, error: Exception) -> None:
        self._stats.count("faults")
        self._stats.warn(f"live_{where}_fault", f"a picture passes through as it is, because its {where} step failed: "
                         f"{error}")
        log.debug("%s fault", where, exc_info=error)
