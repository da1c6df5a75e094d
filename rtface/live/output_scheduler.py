"""The last step of a live run: gives finished pictures to the sinks, in time, and goes on when the source is away."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from time import monotonic

from rtface.frame import Frame
from rtface.live.letterbox import Letterbox
from rtface.live.protocols import LiveSink, SoundPacket, VideoFormat
from rtface.live.slate import Slate
from rtface.stats import Stats

log = logging.getLogger("rtface")

# Without a new picture for this long, or for some of the source's own periods, the last one is given again: viewers and
# servers stay, and players of HLS never stand at a hole.
_HOLD_S = 0.2
_HOLD_PERIODS = 3.0
# A frozen face looks like a fault of the call: a source that is away for this long is replaced by a slate.
_SLATE_S = 5.0


class OutputScheduler:
    """Writes to all sinks from a thread of its own.

    Args:
        sinks: opened for `form`.
        form: of every picture that they get.
        delay: seconds from capture to output, held constant; None is as soon as possible.
        buffered: seconds of the delay that frames have waited in the source's jitter buffer, before `captured_at`.
        lost: whether the source is away; the slate is shown only then.
        slate: what is shown then.
        stats: latency (captured → handed to the sinks), frames out, dropped.
        shown: told of every picture that was given to the sinks.
        wrote: told of every picture's latency in seconds, and its faces.
    """

    def __init__(self, sinks: Sequence[LiveSink], form: VideoFormat, stats: Stats, *, delay: float | None = None,
                 buffered: float = 0.0, lost: Callable[[], bool] = lambda: False, slate: Slate | None = None,
                 shown: Callable[[Frame], None] = lambda frame: None,
                 wrote: Callable[[float, int], None] = lambda latency, faces: None) -> None:
        self._sinks, self._form, self._stats, self._delay = sinks, form, stats, delay
        self._buffered = buffered
        self._lost, self._make_slate, self._wrote = lost, slate or Slate(), wrote
        self._shown = shown
        self._fit = Letterbox(form)
        self._period = float(1 / form.rate)
        self._hold = max(_HOLD_S, _HOLD_PERIODS * self._period)
        # A picture waits for its time, and no longer: what comes later finds a place.
        self._room = int((delay or 0.0) / self._period) + 8
        self._waiting: deque[Frame] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._last: Frame | None = None
        self._last_at = self._shown_at = monotonic()
        self._pts = self._real_pts = -(1 << 62)
        self._slate: Frame | None = None
        self._thread = threading.Thread(target=self._run, name="rtface-present", daemon=True)
        self._thread.start()

    def put(self, frame: Frame) -> None:
        """Takes a finished picture; never waits."""
        with self._changed:
            self._waiting.append(frame)
            if len(self._waiting) > self._room:
                self._waiting.popleft()
                self._stats.count("dropped:output")
            self._changed.notify()

    def sound(self, packet: SoundPacket) -> None:
        """Passes sound on; its time is on the pictures' clock, so no delay moves them against each other."""
        for sink in self._sinks:
            try:
                sink.sound(packet)
            except Exception as error:  # noqa: BLE001 - a sink's fault never ends a live run
                self._fault(sink, error)

    def drain(self, timeout: float) -> None:
        """Waits until what came is written (the end of a film)."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, timeout)

    def close(self) -> None:
        """What waits for its time is given up. Safe to call twice."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(1.0)

    def _run(self) -> None:
        while (frame := self._next()) is not None:
            self._write(frame)
            with self._changed:
                self._changed.notify_all()

    def _next(self) -> Frame | None:
        """The next picture once it is due; the last one again, or a slate, when none comes; None at the end."""
        with self._changed:
            while not self._closing:
                now = monotonic()
                due, again = self._due(), self._again()
                if due <= now:
                    return self._waiting.popleft()
                if again <= now:
                    return self._instead()
                self._changed.wait(min(0.1, due - now, again - now))
        return None

    def _due(self) -> float:
        """When the next picture is to be shown."""
        if not self._waiting:
            return inf
        captured = self._waiting[0].captured_at
        return 0.0 if self._delay is None or captured is None else captured + self._delay - self._buffered

    def _again(self) -> float:
        """When the last picture is to be shown once more."""
        if self._last is None:
            return inf
        return self._shown_at + (self._hold if self._shown_at == self._last_at else self._period)

    def _instead(self) -> Frame:
        """What is shown while no picture comes."""
        assert self._last is not None
        now = monotonic()
        if self._slate is None and now - self._last_at > _SLATE_S and self._lost():
            self._slate = replace(self._last, image=self._make_slate(self._form), faces=(), before=None)
        passed = max(1, round(1e6 * (now - self._shown_at)))
        return replace(self._slate or self._last, pts=self._pts + passed, captured_at=None)

    def _write(self, frame: Frame) -> None:
        if frame.pts <= self._real_pts:
            self._stats.count("dropped:order")
            return
        # Where the last picture was shown again in place of this one, it comes half a period after that, as do those
        # after it until they have caught up.
        soonest, ahead = self._pts + round(5e5 * self._period), self._pts > self._real_pts
        if frame.captured_at is not None:
            self._real_pts = frame.pts
            if ahead and frame.pts < soonest:
                frame = replace(frame, pts=soonest)
        faces = len(frame.faces)  # a picture that is fitted to the outputs' form has none
        try:
            frame = self._fit(frame)
        except Exception as error:  # noqa: BLE001 - one picture of a kind that cannot be shown never ends a live run
            self._stats.count("faults")
            self._stats.warn("fit", f"a picture of another form cannot be shown: {error}")
            return
        for sink in self._sinks:
            try:
                sink.write(frame)
            except Exception as error:  # noqa: BLE001 - as above
                self._fault(sink, error)
        self._shown(frame)
        now = monotonic()
        self._pts, self._shown_at = frame.pts, now
        if frame.captured_at is None:
            self._stats.count("frames_repeated")
            return
        latency = now - frame.captured_at + self._buffered
        self._stats.add("latency", latency)
        self._stats.count("frames_out")
        self._wrote(latency, faces)
        self._last, self._last_at, self._slate = frame, now, None

    def _fault(self, sink: LiveSink, error: Exception) -> None:
        self._stats.count("faults")
        self._stats.warn(f"sink_fault:{sink.described}", f"{sink.described}: {error}")
        log.debug("sink fault", exc_info=error)
