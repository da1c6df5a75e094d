"""The frame loop of a live run: every frame is tracked, enhanced as far as there is time, and passed on.

One thread tracks while another enhances the frame before; the tracker has a third (`rtface.live.live_tracker`). Frames
that come in a burst, or while a step is late, wait in a short queue. A late frame gets a simpler correction, then none;
a frame is dropped only where even passing it on is too slow.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from threading import Thread
from time import monotonic

from rtface.concurrency import Mailbox
from rtface.concurrency.threads import start_thread
from rtface.enhance.live import LiveEnhancer
from rtface.errors import Message
from rtface.frame import Face, Frame
from rtface.live.controls import LiveControls
from rtface.live.frame_filters import FrameFilters
from rtface.live.live_tracker import LiveTracker
from rtface.protocols import Tracker
from rtface.stats import Stats

log = logging.getLogger("rtface")


# Seconds between two frames from which the second counts as a new scene.
_GAP_S = 1.0
# Seconds of frames that may wait in the queue, at least.
_QUEUE_S = 0.25
# Multiple of the ceiling from which a frame passes uncorrected. Between one and this many ceilings the face's last
# correction is carried along, which is quick and does not flicker.
_BARE = 3
# Tracked frames that may wait for enhancement: with one alone, the two threads would wait for each other on a busy
# computer.
_AHEAD = 4


class FrameLoop:
    """Tracks, filters and enhances frames as they come.

    Args:
        tracker: with its networks on the CPU, so that it survives a lost GPU.
        enhance: the enhancement step, without look-ahead.
        filters: brightening, stages and preview.
        present: takes a finished frame, without waiting.
        wanted: False while the frames have no viewer; they then pass uncorrected.
        ceiling: seconds after capture from which a frame waits for no engine; from three times as many it passes
            uncorrected.
        period: seconds from one frame to the next.
        sparing: whether the tracker is to use less of the processor.
        every: frames from one tracked frame to the next, at least.
        clock: seconds, of the kind that `Frame.captured_at` counts.
    """

    def __init__(
        self,
        tracker: Tracker,
        enhance: LiveEnhancer,
        controls: LiveControls,
        stats: Stats,
        filters: FrameFilters,
        present: Callable[[Frame], None],
        *,
        wanted: Callable[[], bool] = lambda: True,
        ceiling: float = 0.1,
        period: float = 1 / 30,
        sparing: Callable[[], bool] = lambda: False,
        every: Callable[[], int] = lambda: 1,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._enhance, self._controls, self._stats = enhance, controls, stats
        self._filters, self._present, self._wanted, self._ceiling = filters, present, wanted, ceiling
        self._sparing, self._every, self._clock = sparing, every, clock
        self._tracker = LiveTracker(
            tracker, lambda: enhance.runtime.device, stats, period, lambda error: self._fault("tracker", error)
        )
        queue = 2 + round(max(_QUEUE_S, 2 * ceiling) / period)
        self._incoming = Mailbox[Frame](lambda _: stats.count("dropped:late"), size=queue)
        self._tracked = Mailbox[Frame](size=_AHEAD)
        self._seen: tuple[Face, ...] = ()
        self.faces = 0
        self._threads: list[Thread] = []

    def start(self) -> None:
        """Starts the threads."""
        self._tracker.start()
        self._threads = [start_thread("track", self._track), start_thread("enhance", self._finish)]

    def put(self, frame: Frame) -> None:
        """Takes a frame from the source; never waits. Those that come while the run ends are not counted as dropped."""
        if self._incoming.closed:
            return
        self._stats.count("frames_in")
        self._incoming.put(frame)

    def drain(self, timeout: float) -> None:
        """Takes no more frames, and waits until all are finished (at the end of a film)."""
        self._incoming.close()
        for thread in self._threads:
            thread.join(timeout)

    def close(self, timeout: float = 0.5) -> None:
        """Ends all threads after their current frame; a blocked one is left behind. Safe to call twice."""
        self._incoming.close()
        self._tracked.close()
        for thread in self._threads:
            thread.join(timeout)
        self._tracker.close(timeout)

    def _track(self) -> None:
        last: float | None = None
        for frame in self._incoming:
            if last is not None and frame.time - last > _GAP_S:  # the source was away
                frame = replace(frame, cut=True)
            last = frame.time
            faces: tuple[Face, ...] = ()
            wanted = self._wanted()
            if wanted:
                frame = self._before(frame)
            if (self._controls.enabled and wanted) or self._filters.needs_faces:
                frame = self._with_faces(frame)
                faces = frame.faces
            self._seen, self.faces = faces, len(faces)
            if not self._tracked.hand_over(frame):
                return
        self._tracked.close()

    def _with_faces(self, frame: Frame) -> Frame:
        try:
            return self._tracker.faces_of(
                frame,
                every=self._every(),
                hurry=self._incoming.waiting > 0,
                sparing=self._sparing(),
                hides=self._filters.hides,
            )
        except Exception as error:  # noqa: BLE001 - nothing ends a live run
            self._fault("tracker", error)
            return replace(frame, faces=(), tracked=False)

    def _before(self, frame: Frame) -> Frame:
        try:
            return self._filters.before(frame, self._controls.light if self._controls.enabled else None, self._seen)
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
        frame = self._enhance.label(frame)
        if not self._controls.enabled:
            frame = replace(frame, enhancing=False)
        elif frame.faces and self._wanted():
            frame = self._enhanced(frame)
        try:
            frame = self._filters.after(frame)
        except Exception as error:  # noqa: BLE001 - as above
            self._fault("stages", error)
            if self._filters.hides:  # it may show what was to be hidden: the frame before stays
                self._stats.count("dropped:stages")
                return
        self._present(frame)

    def _enhanced(self, frame: Frame) -> Frame:
        age = 0.0 if frame.captured_at is None else self._clock() - frame.captured_at
        if age > _BARE * self._ceiling:
            self._stats.count("passed:late")
            self._enhance.passed(frame)
            return frame
        if age > self._ceiling:  # it waits for no engine: the last correction is carried along
            self._stats.count("frames_late")
        self._enhance.strength, self._enhance.tracks.strengths = self._controls.strength, self._controls.persons
        try:
            return self._enhance.process(frame)
        except Exception as error:  # noqa: BLE001 - as above; a film ends after many faults in a row, a live run does not
            self._fault("enhance", error)
            self._enhance.reset()
            return frame

    def _fault(self, where: str, error: Exception) -> None:
        self._stats.count("faults")
        self._stats.warn(
            f"live_{where}_fault",
            Message(
                "a frame passes unchanged, because its {step} step failed: {why}",
                code="frame_unchanged",
                step=where,
                why=error,
            ),
        )
        log.debug("%s fault", where, exc_info=error)
