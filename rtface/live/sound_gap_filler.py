"""Fills gaps in a run's sound with silence."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rtface.concurrency.threads import start_thread
from rtface.live.protocols import SoundFormat, SoundPacket

# Seconds without a frame from which silence takes the place of sound, while its source is there: a network may hold
# it back, and what comes late is still in its place. Viewers of HLS stop playing at a hole.
_PATIENCE = 1.0
# The same before the first frame: frames and sound of a source do not begin with the same packet.
_FIRST = 0.3
_TICK = 0.05


class SoundGapFiller:
    """Passes sound on and fills what is missing, from `begin` to `close`. Its times rise without holes and overlaps.

    Args:
        form: of all frames.
        hear: takes them.
        lost: whether the source of the sound is away; silence begins at once then.
        clock: as the frames' times.
    """

    def __init__(
        self,
        form: SoundFormat,
        hear: Callable[[SoundPacket], None],
        *,
        lost: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from rtface.live.sources.sound_to_aac import FRAME, silent_frame

        self._form, self._hear, self._lost, self._clock = form, hear, lost, clock
        self._silence, self._step = silent_frame(form), FRAME / form.rate
        self._lock = threading.Lock()
        self._end: float | None = None  # up to where sound went out
        self._came: float | None = None  # when the source gave the last frame
        self._began = 0.0
        self._silent = False
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, at: float) -> None:
        """The first frame is of `at`; sound begins with it."""
        with self._lock:
            self._end, self._began = at, self._clock()

    def start(self) -> None:
        """Calls `tick` many times a second, in a thread."""
        self._thread = start_thread("silence", self._run)

    def put(self, sound: SoundPacket) -> None:
        """A frame of the source; one for a time that is over already is left out."""
        with self._lock:
            self._came, self._silent = self._clock(), False
            if self._end is None or sound.time + sound.duration / 2 < self._end:
                return
            self._fill(sound.time + self._step / 2)
            self._hear(sound)
            self._end = sound.time + sound.duration

    def tick(self) -> None:
        """Fills up to now where the source gives nothing; called many times a second."""
        with self._lock:
            if self._end is None:
                return
            now = self._clock()
            since, patience = (self._began, _FIRST) if self._came is None else (self._came, _PATIENCE)
            self._silent = self._silent or now - since > patience or (self._lost() and now - since > _TICK)
            if self._silent:
                self._fill(now)

    def close(self) -> None:
        """Ends the thread; safe to call twice."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(0.5)

    def _fill(self, until: float) -> None:
        assert self._end is not None
        while self._end + self._step <= until:
            self._hear(SoundPacket(self._silence, self._end, self._step, self._form.rate, self._form.channels))
            self._end += self._step

    def _run(self) -> None:
        while not self._closed.wait(_TICK):
            self.tick()
