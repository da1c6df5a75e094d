"""Fills gaps in a run's sound with silence."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rtface.concurrency.threads import start_thread
from rtface.live.output_scheduler import OutputScheduler
from rtface.live.protocols import Endpoint, SoundFormat, SoundPacket

# While the source is connected, silence is sent after this many seconds without sound. Sound that is delayed by less on
# the network still gets its place. Silence is necessary because HLS players stop at a gap.
_GAP_WAIT_S = 1.0
# The same for the first sound, because a source's frames and sound do not start at the same moment.
_START_WAIT_S = 0.3
_TICK_S = 0.05


class SoundGapFiller:
    """Forwards sound and fills gaps, from `begin` to `close`. Output times rise without gaps or overlaps.

    Args:
        form: format of the sound.
        source: source of the sound; while it is away, silence starts at once.
        output: scheduler that receives the sound.
        clock: returns seconds on the clock of the packets' times.
    """

    def __init__(
        self,
        form: SoundFormat,
        source: Endpoint,
        output: OutputScheduler,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from rtface.live.sources.sound_to_aac import FRAME, silent_frame

        self._source, self._output, self._clock = source, output, clock
        self._silence, self._frame_s = silent_frame(form), FRAME / form.rate
        self._lock = threading.Lock()
        self._end: float | None = None  # end of the sound written so far
        self._last_at: float | None = None  # arrival time of the source's last packet
        self._began = 0.0
        self._filling = False
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, at: float) -> None:
        """Starts the sound at the first video frame's time `at`. Later calls have no effect."""
        with self._lock:
            if self._end is None:
                self._end, self._began = at, self._clock()

    def start(self) -> None:
        """Starts a thread that calls `tick` many times a second."""
        self._thread = start_thread("silence", self._run)

    def put(self, sound: SoundPacket) -> None:
        """Forwards a packet from the source. Drops it if its time has passed."""
        with self._lock:
            self._last_at, self._filling = self._clock(), False
            if self._end is None or sound.time + sound.duration / 2 < self._end:
                return
            self._fill(sound.time + self._frame_s / 2)
            self._output.sound(sound)
            self._end = sound.time + sound.duration

    def tick(self) -> None:
        """Fills a gap with silence up to now. Called many times a second."""
        with self._lock:
            if self._end is None:
                return
            now = self._clock()
            since, patience = (self._began, _START_WAIT_S) if self._last_at is None else (self._last_at, _GAP_WAIT_S)
            self._filling = (
                self._filling
                or now - since > patience
                or (now - since > _TICK_S and self._source.health.state == "away")
            )
            if self._filling:
                self._fill(now)

    def close(self) -> None:
        """Ends the thread; safe to call twice."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(0.5)

    def _fill(self, until: float) -> None:
        assert self._end is not None
        while self._end + self._frame_s <= until:
            self._output.sound(SoundPacket(self._silence, self._end, self._frame_s))
            self._end += self._frame_s

    def _run(self) -> None:
        while not self._closed.wait(_TICK_S):
            self.tick()
