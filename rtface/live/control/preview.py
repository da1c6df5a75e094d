"""Preview in a browser: the newest frame before and after enhancement, as JPEG."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator

import cv2
import numpy as np

from rtface.concurrency import Mailbox
from rtface.concurrency.threads import start_thread
from rtface.device.cpu.device import CpuView
from rtface.device.cpu.swscale import Swscale
from rtface.frame import Bytes, Frame

FPS = 15.0
SIDE = 960
_QUALITY = 80
# A frame is sent again after this time without a new one, so that a viewer who left is noticed; an empty one where
# there was none yet.
AGAIN_S = 2.0


class Preview:
    """Pairs of the untouched and the finished frame, as JPEG.

    The loop keeps a copy of the untouched frame where one is `wanted`, which is 15 times a second at most and only
    while there are viewers, and gives both to `show`. Scaling and JPEG are done on a thread that has only ever the
    newest pair.

    Args:
        clock: monotonic time in seconds.
        pairs: carries the frames to that thread; a new one by default.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic,
                 pairs: Mailbox[tuple[Frame, Frame]] | None = None) -> None:
        self._clock = clock
        self._viewers = 0
        self._due = 0.0
        self._pairs = pairs or Mailbox[tuple[Frame, Frame]]()
        self._swscale = Swscale()
        self._changed = threading.Condition()
        self._jpeg, self._number = b"", 0
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def wanted(self) -> bool:
        """Whether there are viewers, and it is time for another frame."""
        return self._viewers > 0 and self._clock() >= self._due

    def show(self, before: Frame, after: Frame) -> None:
        """Takes an untouched and a finished frame, whose samples must not change any more."""
        if self.wanted:
            self._due = max(self._due + 1.0 / FPS, self._clock() - 1.0 / FPS)
            self._pairs.put((before, after))

    def watch(self) -> Generator[bytes]:
        """JPEG after JPEG, before on the left, after on the right, as they become ready until `close`; b"" every two
        seconds before the first."""
        with self._changed:
            if self._closed:
                return
            self._viewers += 1
            if self._thread is None:
                self._thread = start_thread("preview", self._make)
            seen = self._number  # what was made for another viewer, maybe long ago, is not shown
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or self._number != seen, AGAIN_S)  # noqa: B023
                    if self._closed:
                        return
                    seen, jpeg = self._number, self._jpeg
                yield jpeg
        finally:
            with self._changed:
                self._viewers -= 1

    def close(self) -> None:
        """Ends the thread and every `watch`; safe to call twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._pairs.close()
        if self._thread is not None:
            self._thread.join(2.0)

    def _make(self) -> None:
        for before, after in self._pairs:
            jpeg = encoded(*(CpuView(frame, self._swscale).thumbnail(SIDE)[0] for frame in (before, after)))
            with self._changed:
                self._jpeg, self._number = jpeg, self._number + 1
                self._changed.notify_all()


def encoded(before: Bytes, after: Bytes) -> bytes:
    """JPEG of two RGB frames (uint8 h×w×3) side by side; the second is scaled to the first."""
    if before.shape != after.shape:
        after = np.asarray(cv2.resize(after, before.shape[1::-1], interpolation=cv2.INTER_AREA), np.uint8)
    pair = cv2.cvtColor(np.concatenate([before, after], axis=1), cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", pair, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes()
