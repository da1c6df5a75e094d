"""Runs the tracker of a live run on a separate thread.

A frame that is tracked in time gets its own faces. All other frames pass at once with the faces of the last tracked
frames, extrapolated by their motion. A slow tracker reduces accuracy, but drops no frame.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter

from rtface.analysis.scene_cuts import CutDetector
from rtface.concurrency.threads import start_thread
from rtface.enhance.live import LiveEnhancer
from rtface.frame import Face, FailedStep, Frame
from rtface.live.run_state import RunState
from rtface.pipeline.chain import find_faces
from rtface.protocols import Tracker
from rtface.tracking.extrapolation import extrapolated
from rtface.util.av_arrays import copy_image

# Seconds after which faces are tracked again even if newer frames wait.
_FRESH_AGE_S = 0.2
# Limits, as shares of the frame period: average core time of the tracker, and time that a frame waits for the tracker.
_CORE_SHARE, _WAIT_SHARE = 0.4, 0.9
# Seconds after which the last faces expire: without, and with a stage that hides faces.
_MAX_AGE_S, _MAX_AGE_HIDING_S = 1.0, 0.5
# Maximum interval between tracked frames: in seconds (at least one frame), and in frames if a stage hides faces.
_MAX_INTERVAL_S, _MAX_INTERVAL_HIDING_FRAMES = 0.14, 2
_FACELESS_S = 10.0  # without a face for this long, as few frames as possible are tracked
_AVERAGE_WEIGHT = 0.1  # weight of a new measurement


@dataclass(frozen=True, slots=True)
class TrackingResult:
    """Faces that the tracker found on a frame."""

    time: float
    faces: tuple[Face, ...] = ()
    unfollowed: tuple[Face, ...] = ()
    failed: FailedStep = ""


class LiveTracker:
    """Adds faces to frames. Call `faces_of` from one thread only.

    Args:
        state: state of the run.
        tracker: tracker, called only on the thread of this class.
        enhance: enhancement step, whose device makes views of frames.
        period: seconds from one frame to the next.
        clock: returns seconds; measures the tracker's time.

    Attributes:
        every: frames from one tracked frame to the next, adapted to the cost of tracking.
    """

    def __init__(
        self,
        state: RunState,
        tracker: Tracker,
        enhance: LiveEnhancer,
        period: float,
        *,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._state, self._tracker, self._enhance, self._period = state, tracker, enhance, period
        self._clock = clock
        self._changed = threading.Condition()
        self._tracking: Frame | None = None
        self._sparing = self._hides = self._closed = self._cut = False
        self._results: deque[TrackingResult] = deque(maxlen=2)
        self._scene = 0  # number of cuts so far; results from an earlier scene are discarded
        self._mean_s = 0.0  # recent average time of tracking
        self._face_at: float | None = None  # time of the last frame with a face; at first, of the first frame
        self._max_interval = max(1, round(_MAX_INTERVAL_S / period))
        self._frames_since = self._max_interval
        self._submitted_at = 0.0  # time of the last frame submitted to the tracker
        self._arrived_at = self._resumed_at = float("-inf")  # times of the last frame, and of the first after a gap
        self._cuts = CutDetector()
        self.every = 1
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._thread = start_thread("tracker", self._work)

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the tracker is idle; returns False after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._tracking is None, timeout)

    def close(self, timeout: float) -> None:
        """Ends the thread after its current frame. Abandons it if it is blocked."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)

    def faces_of(
        self, frame: Frame, *, every: int = 1, hurry: bool = False, sparing: bool = False, hides: bool = False
    ) -> Frame:
        """Returns the frame with its faces.

        Args:
            every: minimum number of frames from one tracked frame to the next.
            hurry: whether newer frames wait; if so, does not wait for the tracker, and does not track if a result is
                fresh.
            sparing: whether the tracker must use less processor time.
            hides: whether a stage hides faces; if so, tracks them often, and never reuses faces of another scene.
        """
        oldest = _MAX_AGE_HIDING_S if hides else _MAX_AGE_S
        if frame.time - self._arrived_at > oldest:
            self._resumed_at = frame.time
        self._arrived_at = frame.time
        if hides and self._cuts.update(self._enhance.runtime.device.view(frame).thumbnail(64)[0]):
            frame = replace(frame, cut=True)
        if frame.cut:
            with self._changed:
                self._results.clear()
                self._cut = True
                self._scene += 1
        self._frames_since += 1
        self._face_at = frame.time if self._face_at is None else self._face_at
        if frame.time - self._face_at > _FACELESS_S:
            every = self._max_interval
        every = min(max(every, self.every), _MAX_INTERVAL_HIDING_FRAMES if hides else self._max_interval)
        # Cameras lower their rate in the dark, so the time since the last tracked frame counts, too.
        due = self._frames_since >= every or frame.time - self._submitted_at >= _MAX_INTERVAL_S
        if frame.cut or (due and not (hurry and self._has_fresh_result(frame))):
            result = self._submit(frame, hides, sparing or (every > 1 and not hides), wait=not hurry)
            if result is not None:
                return replace(frame, faces=result.faces, unfollowed=result.unfollowed, failed=result.failed)
        with self._changed:
            if self._tracking is not None and self._tracking.image is frame.image:
                frame = replace(frame, image=copy_image(frame.image))  # the tracker still reads the original
            results = tuple(self._results)
        extrapolated_frame = _extrapolate_faces(frame, results, oldest)
        if extrapolated_frame is not None:
            return extrapolated_frame
        if frame.time - self._resumed_at > oldest:  # not while the tracker starts up
            self._state.stats.count("frames_unseen")
        return replace(frame, faces=(), unfollowed=(), failed="tracker")

    def _has_fresh_result(self, frame: Frame) -> bool:
        with self._changed:
            return bool(self._results) and frame.time - self._results[-1].time < _FRESH_AGE_S

    def _submit(self, frame: Frame, hides: bool, sparing: bool, *, wait: bool) -> TrackingResult | None:
        """Submits a frame to the tracker, unless it is busy. Returns the result if it is ready in time, or None."""
        patience = _WAIT_SHARE * self._period
        with self._changed:
            if self._tracking is not None or self._closed:
                return None
            self._tracking, self._frames_since, self._submitted_at = frame, 0, frame.time
            self._hides, self._sparing = hides, sparing
            self._changed.notify_all()
            if not wait or self._mean_s > 0.8 * patience:
                return None
            if not self.wait(patience):
                return None
            newest = self._results[-1] if self._results else None
            return newest if newest is not None and newest.time == frame.time else None

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._tracking is not None or self._closed)
                frame, scene, cut = self._tracking, self._scene, self._cut
                if self._closed or frame is None:
                    return
                self._cut = False
            began = self._clock()
            result = self._track(replace(frame, cut=frame.cut or cut))
            with self._changed:
                self._adapt_interval(self._clock() - began)
                if scene == self._scene:
                    self._results.append(result)
                if result.faces:
                    self._face_at = result.time
                self._tracking = None
                self._changed.notify_all()

    def _track(self, frame: Frame) -> TrackingResult:
        device, stats = self._enhance.runtime.device, self._state.stats
        with stats.tolerate("tracker"):
            tracked = find_faces(frame, self._tracker, device, stats, watchful=self._hides, sparing=self._sparing)
            return TrackingResult(frame.time, tracked.faces, tracked.unfollowed, tracked.failed)
        return TrackingResult(frame.time, failed="tracker")

    def _adapt_interval(self, seconds: float) -> None:
        """Adapts `every`, so that the cost of tracking stays within its share."""
        self._mean_s += (_AVERAGE_WEIGHT if self._mean_s else 1.0) * (min(seconds, 1.0) - self._mean_s)
        needed = self._mean_s / (_CORE_SHARE * self._period)
        if needed > self.every + 0.25:
            self.every = min(self.every + 1, self._max_interval)
        elif needed < self.every - 1.25:
            self.every -= 1


def _extrapolate_faces(frame: Frame, results: tuple[TrackingResult, ...], oldest: float) -> Frame | None:
    """Adds faces extrapolated from `results` (newest last). Returns None if all results are older than `oldest`."""
    newest = results[-1] if results else None
    if newest is None or not 0.0 <= frame.time - newest.time <= oldest:
        return None
    if newest.failed:
        return replace(frame, faces=(), unfollowed=(), failed="tracker")
    earlier, age = results[0], frame.time - newest.time
    faces = extrapolated(newest.faces, () if earlier.failed else earlier.faces, newest.time - earlier.time, age)
    return replace(frame, faces=faces, unfollowed=newest.unfollowed, failed="", faces_age=age)
