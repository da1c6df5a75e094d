"""Reads and caches the frames of a film around a time."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rtface.config.options import Options
from rtface.errors import InputError, UsageError
from rtface.frame import Frame
from rtface.media.files.image_names import is_image
from rtface.media.read.enlarge import Enlarger
from rtface.media.stills.image_read import read_image
from rtface.pipeline.build import open_film
from rtface.pipeline.chain import bytes_of
from rtface.pipeline.threads import Threads
from rtface.protocols import Item
from rtface.stats import Stats
from rtface.util.av_arrays import copy_image

_BEHIND_S = 0.7
"""Seconds before the first requested frame that a step back reads, too. The next steps back then read nothing."""
_STEP_S = 0.1
"""Seconds that a jump reads in addition, so that a first step back reads nothing."""
_AHEAD_S = 1.0
"""Up to this distance ahead, reading continues at the current position, because a seek may have to decode more."""
_ROUNDING_S = 1e-4


class FrameReader:
    """Reads original frames of one film, or a still. Not thread-safe.

    Caches the frames near the last time, and keeps the film open, so that small steps decode few or no frames.

    Args:
        path: path of a film or still.
        threads: threads of the decoder.
        memory: maximum bytes of cached frames. If frames are large, this also shortens the lead-in.
    """

    def __init__(self, path: Path, threads: Threads | None = None, *, memory: int = 256 << 20) -> None:
        self._path, self._threads, self._stack = path, threads or Threads.for_film(None), ExitStack()
        self._frames: deque[Frame] = deque()  # consecutive frames
        self._bytes, self._memory = 0, memory
        self._cached_from = math.inf  # `_frames` starts at this time in seconds, as far as memory allows
        self._film_start = 0.0  # start of the film on the clock of its timestamps, in seconds
        self._items: Iterator[Item] = iter(())
        self._scale: str | None = None

    def read(self, time: float, lead_in: float = 0.3, scale: str | None = None) -> list[Frame]:
        """Returns the lead-in's frames, followed by the frame at a time. Do not change their images.

        Args:
            time: seconds from the beginning of the film.
            lead_in: length of the lead-in in seconds.
            scale: size to which frames are enlarged; None to keep their size.

        Raises:
            InputError: the film cannot be read at that time.
            UsageError: the frames cannot be enlarged to that size.
        """
        if scale != self._scale:
            self.close()
            self._scale = scale
        if is_image(self._path):
            if not self._frames:
                self._frames.append(Enlarger(scale)(read_image(self._path).frame))
            return list(self._frames)
        start = max(0.0, time - lead_in)
        try:
            if time > self._last_time + _AHEAD_S or start < self._cached_from - _BEHIND_S:
                self._seek(max(0.0, start - _STEP_S), time)
            elif start < self._cached_from:  # a step back; more steps back may follow
                self._seek(max(0.0, start - _BEHIND_S), time)
            self._read_until(time, start)
        except InputError:
            self.close()
            raise
        from_start = [frame for frame in self._frames if self._time(frame) >= start - _ROUNDING_S]
        if not from_start:
            raise self._no_frame(time)
        return [frame for frame in from_start if self._time(frame) <= time + _ROUNDING_S] or from_start[:1]

    def close(self) -> None:
        """Closes the film and releases the frames. `read` reopens the film."""
        self._stack.close()
        self._frames.clear()
        self._cached_from, self._bytes, self._items = math.inf, 0, iter(())

    @property
    def _last_time(self) -> float:
        return self._time(self._frames[-1]) if self._frames else -math.inf

    def _time(self, frame: Frame) -> float:
        return frame.time - self._film_start

    def _seek(self, start: float, time: float) -> None:
        self.close()
        # Rounded down to microseconds, so that a frame that begins at this time is included.
        start = math.floor(start * 1_000_000) / 1_000_000
        try:
            options = Options(start=start or None, scale=self._scale)
            source = open_film(self._path, options, self._threads, Stats(), threading.Event(), self._stack)
        except UsageError as error:
            if error.code.startswith("scale"):
                raise
            raise self._no_frame(time) from None  # the message of `error` is about a CLI option
        self._film_start, self._items, self._cached_from = float(source.info.clock_start), iter(source), start

    def _read_until(self, time: float, start: float) -> None:
        """Caches frames up to the first one after `time`. Only that frame proves that its predecessor is shown at
        `time`. Releases frames long before `start`. If memory is too small, the lead-in is shortened."""
        while self._last_time <= time + _ROUNDING_S:
            item = next(self._items, None)
            if item is None:
                return
            if isinstance(item, Frame):
                # Copies the image, because a decoder's frame keeps the decoder's whole frame pool in memory.
                self._frames.append(replace(item, image=copy_image(item.image)))
                self._bytes += bytes_of(item)
            while len(self._frames) > 2 and (
                self._bytes > self._memory or self._time(self._frames[0]) < start - _BEHIND_S
            ):
                self._bytes -= bytes_of(self._frames.popleft())
                self._cached_from = min(self._time(self._frames[0]), start)

    def _no_frame(self, time: float) -> InputError:
        return InputError(
            "{name}: there is no frame at {time} s; choose an earlier time",
            code="no_frame",
            name=self._path.name,
            time=f"{time:.3f}",
        )
