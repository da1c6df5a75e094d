"""Reads frames of a film around a time, and caches them."""

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
"""Seconds before the first wanted frame that a step back also reads, so that the next step needs no reading."""
_STEP_S = 0.1
"""The same for a jump, so that a first step back needs none."""
_AHEAD_S = 1.0
"""Up to this distance reading continues at the current position; a seek may have to decode more."""
_ROUNDING_S = 1e-4


class FrameReader:
    """Reads original frames of one film, or a still. Not thread-safe.

    The frames near the last time and the position in the film are cached, so that steps decode nothing or little.

    Args:
        path: path of a film or still.
        threads: threads of the decoder.
        memory: maximum bytes of cached frames; if frames are large, the lead-in becomes shorter, too.
    """

    def __init__(self, path: Path, threads: Threads | None = None, *, memory: int = 256 << 20) -> None:
        self._path, self._threads, self._stack = path, threads or Threads.for_film(None), ExitStack()
        self._frames: deque[Frame] = deque()  # consecutive frames
        self._bytes, self._memory = 0, memory
        self._from = math.inf  # `_frames` is complete from this time in seconds, as far as memory allows
        self._begin = 0.0  # beginning of the film on its own clock, in seconds
        self._items: Iterator[Item] = iter(())
        self._scale: str | None = None

    def read(self, time: float, lead_in: float = 0.3, scale: str | None = None) -> list[Frame]:
        """Returns the frame at a time, after the frames of its lead-in. Their images must not be changed.

        Args:
            time: seconds from the beginning of the film.
            lead_in: length of the lead-in in seconds.
            scale: size to which frames are enlarged; None for their own size.

        Raises:
            InputError: the film cannot be read there.
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
            if time > self._reached + _AHEAD_S or start < self._from - _BEHIND_S:
                self._seek(max(0.0, start - _STEP_S), time)
            elif start < self._from:  # a step back; further steps may follow
                self._seek(max(0.0, start - _BEHIND_S), time)
            self._read_until(time, start)
        except InputError:
            self.close()
            raise
        wanted = [frame for frame in self._frames if self._time(frame) >= start - _ROUNDING_S]
        if not wanted:
            raise self._beyond(time)
        return [frame for frame in wanted if self._time(frame) <= time + _ROUNDING_S] or wanted[:1]

    def close(self) -> None:
        """Closes the film and releases the frames; `read` reopens it."""
        self._stack.close()
        self._frames.clear()
        self._from, self._bytes, self._items = math.inf, 0, iter(())

    @property
    def _reached(self) -> float:
        return self._time(self._frames[-1]) if self._frames else -math.inf

    def _time(self, frame: Frame) -> float:
        return frame.time - self._begin

    def _seek(self, start: float, time: float) -> None:
        self.close()
        # Rounded down to microseconds, so that a frame that begins there is included.
        start = math.floor(start * 1_000_000) / 1_000_000
        try:
            options = Options(start=start or None, scale=self._scale)
            source = open_film(self._path, options, self._threads, Stats(), threading.Event(), self._stack)
        except UsageError as error:
            if error.code.startswith("scale"):
                raise
            raise self._beyond(time) from None  # the message of `error` is about a CLI option
        self._begin, self._items, self._from = float(source.info.clock_start), iter(source), start

    def _read_until(self, time: float, start: float) -> None:
        """Caches frames up to the first one after `time`. That frame proves that the frame before it is the wanted one.
        Releases frames long before `start`. If memory is too small, the lead-in is shorter."""
        while self._reached <= time + _ROUNDING_S:
            item = next(self._items, None)
            if item is None:
                return
            if isinstance(item, Frame):
                # Copies the image, because a decoder's frame keeps the memory of all that decoder's frames.
                self._frames.append(replace(item, image=copy_image(item.image)))
                self._bytes += bytes_of(item)
            while len(self._frames) > 2 and (
                self._bytes > self._memory or self._time(self._frames[0]) < start - _BEHIND_S
            ):
                self._bytes -= bytes_of(self._frames.popleft())
                self._from = min(self._time(self._frames[0]), start)

    def _beyond(self, time: float) -> InputError:
        return InputError(
            "{name}: there is no frame at {time} s; choose an earlier time",
            code="no_frame",
            name=self._path.name,
            time=f"{time:.3f}",
        )
