"""The frame loop of a live run: tracks, enhances and forwards every frame.

One thread adds faces to a frame, a second enhances the previous frame, and a third runs the tracker
(`rtface.live.live_tracker`). Frames that arrive in a burst, or while a step is late, wait in a short queue. A late
frame gets a simpler correction, and a very late one gets none. A frame is dropped only if even forwarding is too slow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from threading import Thread
from time import monotonic

from rtface.concurrency.mailbox import Mailbox
from rtface.concurrency.threads import start_thread
from rtface.config.look import detail_of
from rtface.enhance.live import LiveEnhancer
from rtface.frame import Face, Frame
from rtface.live.frame_filters import FrameFilters
from rtface.live.live_tracker import LiveTracker
from rtface.live.output_scheduler import OutputScheduler
from rtface.live.run_state import RunState
from rtface.protocols import Tracker
from rtface.quality.governor import QualityGovernor

# If two frames are more than this many seconds apart, the second starts a new scene.
_GAP_S = 1.0
# Minimum length of the queue, in seconds of frames.
_QUEUE_S = 0.25
# A frame older than this many latency ceilings passes uncorrected. A frame older than one ceiling gets the previous
# corrections of its faces, which is fast and does not flicker.
_UNCORRECTED_CEILINGS = 3
# Maximum number of tracked frames that wait for enhancement. With only one, the two threads would wait for each other
# on a busy computer.
_WAITING_FRAMES = 4


class FrameLoop:
    """Tracks, filters and enhances frames as they arrive.

    Args:
        state: state of the run; frames without a viewer pass uncorrected.
        tracker: tracker whose networks run on the CPU, so that it survives the loss of a GPU.
        enhance: enhancement step, without look-ahead.
        governor: quality governor of `enhance`. A frame older than the governor's latency ceiling does not wait for an
            engine; a frame older than three ceilings passes uncorrected.
        filters: brightening, stages and preview.
        output: scheduler that receives the finished frames.
        clock: returns seconds on the same clock as `Frame.captured_at`.
    """

    def __init__(
        self,
        state: RunState,
        tracker: Tracker,
        enhance: LiveEnhancer,
        governor: QualityGovernor,
        filters: FrameFilters,
        output: OutputScheduler,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._state, self._controls, self._stats = state, state.controls, state.stats
        self._enhance, self._governor, self._filters, self._output = enhance, governor, filters, output
        self._clock, period = clock, governor.period
        self._tracker = LiveTracker(state, tracker, enhance, period)
        queue = 2 + round(max(_QUEUE_S, 2 * governor.ceiling) / period)
        stats = state.stats
        self._incoming = Mailbox[Frame](lambda _: stats.count("dropped:late"), size=queue)
        self._tracked = Mailbox[Frame](size=_WAITING_FRAMES)
        self._latest: tuple[Face, ...] = ()
        self._threads: list[Thread] = []

    def start(self) -> None:
        """Starts the threads."""
        self._tracker.start()
        self._threads = [start_thread("track", self._track), start_thread("enhance", self._finish_frames)]

    def put(self, frame: Frame) -> None:
        """Queues a frame from the source. Waits for room only if no frame may be dropped. Frames that arrive while the
        run ends do not count as dropped."""
        if self._incoming.closed:
            return
        self._stats.count("frames_in")
        if self._state.ends.whole:
            self._incoming.hand_over(frame)
        else:
            self._incoming.put(frame)

    def drain(self, timeout: float) -> None:
        """Finishes all frames and accepts no more (end of a film)."""
        self._incoming.close()
        for thread in self._threads:
            thread.join(timeout)

    def close(self, timeout: float = 0.5) -> None:
        """Ends all threads after their current frame. Abandons a blocked thread. Safe to call twice."""
        self._incoming.close()
        self._tracked.close()
        for thread in self._threads:
            thread.join(timeout)
        self._tracker.close(timeout)

    def _track(self) -> None:
        last_time: float | None = None
        for frame in self._incoming:
            if last_time is not None and frame.time - last_time > _GAP_S:  # the source was interrupted
                frame = replace(frame, cut=True)
            last_time = frame.time
            watched = self._state.watched
            if watched:
                frame = self._prepare(frame)
            if (self._controls.enabled and watched) or self._filters.needs_faces:
                frame = self._add_faces(frame)
            self._latest = frame.faces
            if not self._tracked.hand_over(frame):
                return
        self._tracked.close()

    def _add_faces(self, frame: Frame) -> Frame:
        with self._stats.tolerate("tracker"):
            return self._tracker.faces_of(
                frame,
                every=self._governor.track_every,
                hurry=self._incoming.waiting > 0,
                sparing=self._governor.sparing,
                hides=self._filters.hides,
            )
        return replace(frame, faces=(), failed="tracker")

    def _prepare(self, frame: Frame) -> Frame:
        with self._stats.tolerate("light"):
            return self._filters.before(frame, self._controls.light if self._controls.enabled else None, self._latest)
        return frame

    def _finish_frames(self) -> None:
        for frame in self._tracked:
            with self._stats.tolerate("output"):
                self._finish_frame(frame)

    def _finish_frame(self, frame: Frame) -> None:
        frame = self._enhance.label(frame)
        if not self._controls.enabled:
            frame = replace(frame, enhancing=False)
        elif frame.faces and self._state.watched:
            frame = self._enhance_frame(frame)
        result = None
        with self._stats.tolerate("stages"):
            result = self._filters.after(frame)
        if result is None and self._filters.hides:  # drops the frame, because it may show a face that must be hidden
            self._stats.count("dropped:stages")
        else:
            self._output.put(result or frame)

    def _enhance_frame(self, frame: Frame) -> Frame:
        age = 0.0 if frame.captured_at is None else self._clock() - frame.captured_at
        if age > _UNCORRECTED_CEILINGS * self._governor.ceiling:
            self._stats.count("passed:late")
            self._enhance.passed(frame)
            return frame
        if age > self._governor.ceiling:  # `process` uses the last correction instead of waiting
            self._stats.count("frames_late")
        tracks, controls = self._enhance.tracks, self._controls
        self._enhance.strength, tracks.strengths, tracks.always = controls.strength, controls.persons, controls.always
        self._enhance.select.detail = detail_of(controls.look)
        with self._stats.tolerate("enhance"):  # unlike a film job, a live run continues after many faults in a row
            return self._enhance.process(frame)
        self._enhance.reset()
        return frame
