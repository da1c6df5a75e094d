"""Preview in a browser: the newest frame before and after enhancement, as JPEG."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from dataclasses import replace

import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from rtface.concurrency import Mailbox
from rtface.concurrency.threads import start_thread
from rtface.device.cpu.device import CpuView
from rtface.device.cpu.swscale import Swscale
from rtface.frame import Bytes, Frame

FPS, SIDE = 30.0, 640
"""Pairs a second, and the longer side of each half in pixels, at most: every frame of a call."""
SHARP_FPS, SHARP_SIDE = 10.0, 1280
"""The same where a viewer wants to see details."""
_QUALITY = 80
# A frame is sent again after this time without a new one, so that a viewer who left is noticed; an empty one where
# there was none yet.
AGAIN_S = 2.0


class Preview:
    """Pairs of the untouched and the finished frame, as JPEG.

    The loop keeps a copy of the untouched frame where one is `wanted`, which is 30 times a second at most and only
    while there are viewers, and gives both to `show`. Scaling and JPEG are done on a thread that has only ever the
    newest pair. While a viewer asks for sharp pictures all get these, larger and fewer.

    Args:
        clock: monotonic time in seconds.
        pairs: carries the frames to that thread; a new one by default.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic,
                 pairs: Mailbox[tuple[Frame, Frame]] | None = None) -> None:
        self._clock = clock
        self._viewers = self._sharp = 0
        self._due = 0.0
        self._pairs = pairs or Mailbox[tuple[Frame, Frame]]()
        self._jpegs = PairEncoder()
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
            period = 1.0 / (SHARP_FPS if self._sharp else FPS)
            self._due = max(self._due + period, self._clock() - period)
            self._pairs.put((before, after))

    def watch(self, *, sharp: bool = False) -> Generator[bytes]:
        """JPEG after JPEG, before on the left, after on the right, as they become ready until `close`; b"" every two
        seconds before the first.

        Args:
            sharp: halves of up to 1280 pixels, ten times a second, instead of 640 and 30.
        """
        with self._changed:
            if self._closed:
                return
            self._viewers += 1
            self._sharp += sharp
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
                self._sharp -= sharp

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
            jpeg = self._jpegs(before, after, SHARP_SIDE if self._sharp else SIDE)
            with self._changed:
                self._jpeg, self._number = jpeg, self._number + 1
                self._changed.notify_all()


class PairEncoder:
    """Two frames side by side as one JPEG. They are scaled as they are stored, and only the small ones become RGB: half
    the time of scaling RGB."""

    def __init__(self) -> None:
        self._scaler, self._swscale = VideoReformatter(), Swscale()

    def __call__(self, before: Frame, after: Frame, side: int) -> bytes:
        """JPEG of both frames with the longer side of each ≤ `side`, upright; the second is scaled to the first."""
        left, right = (self._small(frame, side) for frame in (before, after))
        if left.shape != right.shape:
            right = np.asarray(cv2.resize(right, left.shape[1::-1], interpolation=cv2.INTER_AREA), np.uint8)
        pair = cv2.cvtColor(np.concatenate([left, right], axis=1), cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", pair, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        return data.tobytes()

    def _small(self, frame: Frame, side: int) -> Bytes:
        image, view = frame.image, CpuView(frame, self._swscale)
        scale = side / max(view.width, view.height)
        if scale < 1.0:
            width, height = (max(2, round(length * scale)) for length in (image.width, image.height))
            image = self._scaler.reformat(image, width, height, interpolation="AREA", threads=1)
            view = CpuView(replace(frame, image=image), self._swscale)
        return view.thumbnail(side)[0]
