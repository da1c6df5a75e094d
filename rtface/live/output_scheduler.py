"""Writes finished frames to the sinks when due, and fills gaps."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from math import inf
from time import monotonic

from rtface.concurrency.threads import start_thread
from rtface.frame import Frame
from rtface.live.control.status import LiveStatus
from rtface.live.frame_filters import FrameFilters
from rtface.live.protocols import REST_S, SoundPacket
from rtface.live.reshape import Letterbox
from rtface.live.run_state import RunState

# The last frame is repeated after this many seconds or frame periods (the longer time) without a new frame. Viewers and
# servers then stay connected, and HLS players do not stop at a gap.
_HOLD_S = 0.2
_HOLD_PERIODS = 3.0
# The thread never waits longer than this at a time, so that an irregular clock makes no frame late.
_SLICE_S = 0.1

SLATE_S = 5.0
"""Seconds until the slate replaces the last frame of a lost source, because a frozen face looks like a fault."""


class OutputScheduler:
    """Writes frames to all sinks on a separate thread.

    The run's delay, if any, is constant. Frames of another format are scaled to the run's format. Without a viewer, the
    last frame is repeated only every `2 * REST_S` seconds, and at once when a viewer connects. The scheduler counts
    written and dropped frames. It measures the latency from a frame's delivery until the sinks get the frame, plus the
    source's backlog beyond its jitter buffer.

    Args:
        state: state of the run.
        filters: filters whose preview receives every frame that the sinks received.
        status: status that counts the written frames.
        clock: returns seconds on the same clock as `Frame.captured_at`.
    """

    def __init__(
        self,
        state: RunState,
        filters: FrameFilters,
        status: LiveStatus,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._state, self._filters, self._status, self._clock = state, filters, status, clock
        self._stats, self._delay = state.stats, state.delay
        self._sinks = list(zip(state.ends.titles[1:], state.ends.sinks, strict=True))
        self._letterbox = Letterbox(state.form)
        self._period = float(1 / state.form.rate)
        self._repeat_s = max(_HOLD_S, _HOLD_PERIODS * self._period)
        # Frames wait no longer than until they are due, so this capacity always suffices.
        self._capacity = int((self._delay or 0.0) / self._period) + 8
        self._queue: deque[Frame] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._newest: Frame | None = None
        self._last_at = self._written_at = clock()
        self._pts = self._real_pts = -(1 << 62)
        self._slate: Frame | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._thread = start_thread("output", self._run)

    def put(self, frame: Frame) -> None:
        """Queues a finished frame. Waits for room only if no frame may be dropped."""
        with self._changed:
            if self._state.ends.whole:
                self._changed.wait_for(lambda: len(self._queue) < self._capacity or self._closing)
            self._queue.append(frame)
            if len(self._queue) > self._capacity:
                self._queue.popleft()
                self._stats.count("dropped:output")
            self._changed.notify()

    def sound(self, packet: SoundPacket) -> None:
        """Forwards sound at once. Its times are on the frames' clock, so the delay keeps sound and frames in sync."""
        for name, sink in self._sinks:
            with self._stats.tolerate(f"sink {name}", name):
                sink.sound(packet)

    def drain(self, timeout: float) -> None:
        """Waits until all queued frames are written (end of a film)."""
        with self._changed:
            self._changed.wait_for(lambda: not self._queue, timeout)

    def close(self) -> None:
        """Stops the thread and drops waiting frames. Safe to call twice."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(1.0)

    def write_due(self) -> None:
        """Writes every frame that is due: new, repeated or the slate. The thread from `start` calls it; a caller
        that controls the clock can call it instead of starting the thread."""
        while (frame := self._next()) is not None:
            self._write(frame)

    def _run(self) -> None:
        while not self._closing:
            self.write_due()
            with self._changed:
                self._changed.notify_all()  # wakes `drain`
                wait = min(_SLICE_S, min(self._due(), self._repeat_due()) - self._clock())
                if wait > 0 and not self._closing:
                    self._changed.wait(wait)

    def _next(self) -> Frame | None:
        """Returns the frame that is due now, or None."""
        with self._changed:
            if self._closing:
                return None
            now = self._clock()
            if self._due() <= now:
                return self._queue.popleft()
            return self._replacement(now) if self._repeat_due() <= now else None

    def _due(self) -> float:
        """Returns the time at which the next frame is due."""
        if not self._queue:
            return inf
        captured = self._queue[0].captured_at
        return 0.0 if self._delay is None or captured is None else captured + self._delay - self._state.ends.buffer

    def _repeat_due(self) -> float:
        """Returns the time at which the last frame is to be repeated."""
        if self._newest is None or (self._state.ends.whole and not self._state.lost):
            return inf  # a late frame is recorded at its own time
        if not self._state.watched:
            return self._written_at + 2 * REST_S  # a resting source delivers its next frame sooner
        return self._written_at + (self._repeat_s if self._written_at == self._last_at else self._period)

    def _replacement(self, now: float) -> Frame:
        """Returns the frame to write while none arrives: the last frame, or the slate."""
        assert self._newest is not None
        if self._slate is None and now - self._last_at > SLATE_S and self._state.lost:
            self._slate = replace(self._newest, image=self._state.ends.slate(self._state.form), faces=(), before=None)
        elapsed = max(1, round(1e6 * (now - self._written_at)))
        return replace(self._slate or self._newest, pts=self._pts + elapsed, captured_at=None)

    def _write(self, frame: Frame) -> None:
        if frame.pts <= self._real_pts:
            self._stats.count("dropped:order")
            return
        # If a repetition has already been written at a later time, this frame follows half a period after it. The next
        # frames follow at the same interval, until they have caught up with their own times.
        earliest_pts, ahead = self._pts + round(5e5 * self._period), self._pts > self._real_pts
        if frame.captured_at is not None:
            self._real_pts = frame.pts
            if ahead and frame.pts < earliest_pts:
                frame = replace(frame, pts=earliest_pts)
        faces = tuple(face.track_id for face in frame.faces)  # scaling to the outputs' format removes the faces
        converted = None
        with self._stats.tolerate("fit", "a frame of another format cannot be converted for the outputs"):
            converted = self._letterbox(frame)
        if converted is None:
            return
        frame = converted
        for name, sink in self._sinks:
            with self._stats.tolerate(f"sink {name}", name):
                sink.write(frame)
                continue
            self._stats.count("dropped:sink")  # the sink counts only frames that it failed to send
        self._filters.shown(frame)
        now = self._clock()
        self._pts, self._written_at = frame.pts, now
        if frame.captured_at is None:
            self._stats.count("frames_repeated")
            return
        health = self._state.ends.source.health
        latency = now - frame.captured_at + self._state.ends.buffer + max(0.0, health.backlog - health.buffer)
        self._stats.add("latency", latency)
        self._stats.count("frames_out")
        self._status.wrote(latency, faces)
        self._newest, self._last_at, self._slate = frame, now, None
