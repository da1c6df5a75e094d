"""Shows the newest frame, original and enhanced, in a browser."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from rtface.concurrency.mailbox import Mailbox
from rtface.concurrency.threads import start_thread
from rtface.device.cpu.swscale import Swscale
from rtface.frame import Bytes, Frame
from rtface.geometry.transforms import display_size
from rtface.util.av_gpu import software

FPS, SIDE = 30.0, 640
"""Maximum pairs per second (every frame of a call), and maximum longer side of each half in pixels."""
_QUALITY = 80


@dataclass(eq=False, slots=True)
class _Viewer:
    loop: asyncio.AbstractEventLoop
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    newest: bytes | None = None


class Preview:
    """Publishes pairs of the original and the finished frame as JPEG.

    `FrameFilters` copies the original while the preview is `wanted` (at most 30 times a second, and only with viewers),
    and passes original and finished frame to `show`. A thread scales and encodes only the newest pair.

    Args:
        clock: returns monotonic time in seconds.
        pairs: mailbox that passes the frames to the thread; a new one by default.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, pairs: Mailbox[tuple[Frame, Frame]] | None = None
    ) -> None:
        self._clock = clock
        self._viewers: list[_Viewer] = []
        self._due = 0.0  # time from which the next pair is wanted
        self._pairs = pairs or Mailbox[tuple[Frame, Frame]]()
        self._encode = PairEncoder()
        self._lock = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def viewers(self) -> int:
        """Number of viewers."""
        return len(self._viewers)

    @property
    def wanted(self) -> bool:
        """True if there are viewers and another frame is due."""
        return bool(self._viewers) and self._clock() >= self._due

    def show(self, original: Frame, finished: Frame) -> None:
        """Queues an original and a finished frame. Neither may be changed afterwards."""
        if self.wanted:
            period = 1.0 / FPS
            self._due = max(self._due + period, self._clock() - period)
            self._pairs.put((original, finished))

    async def watch(self) -> AsyncGenerator[bytes | None]:
        """Yields the newest pairs until `close`. First yields None, as soon as the viewer is counted. A pair is a JPEG:
        original on the left, enhanced on the right."""
        viewer = _Viewer(asyncio.get_running_loop())
        with self._lock:
            if self._closed:
                return
            self._viewers.append(viewer)
            if self._thread is None:
                self._thread = start_thread("preview", self._encode_pairs)
        try:
            while not self._closed:
                yield viewer.newest
                await viewer.ready.wait()
                viewer.ready.clear()
        finally:
            with self._lock:
                self._viewers.remove(viewer)

    def close(self) -> None:
        """Ends the thread and every `watch`; safe to call twice."""
        self._closed = True
        self._publish(None)
        self._pairs.close()
        if self._thread is not None:
            self._thread.join(2.0)

    def _encode_pairs(self) -> None:
        for original, finished in self._pairs:
            self._publish(self._encode(original, finished, SIDE))

    def _publish(self, pair: bytes | None) -> None:
        with self._lock:  # while a viewer is in the list, its event loop runs
            for viewer in self._viewers:
                viewer.newest = pair
                viewer.loop.call_soon_threadsafe(viewer.ready.set)


class PairEncoder:
    """Encodes two frames side by side as one JPEG."""

    def __init__(self) -> None:
        self._shrink, self._swscale = VideoReformatter(), Swscale()

    def __call__(self, original: Frame, finished: Frame, side: int) -> bytes:
        """Encodes both frames with a longer side of at most `side`. Scales `finished` to the size of `original`."""
        width, height = display_size(original.image.width, original.image.height, original.display)
        scale = min(1.0, side / max(width, height))
        size = max(2, round(width * scale)), max(2, round(height * scale))
        pair = np.concatenate((self._rgb(original, size), self._rgb(finished, size)), axis=1)
        return cv2.imencode(".jpg", pair[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()

    def _rgb(self, frame: Frame, size: tuple[int, int]) -> Bytes:
        """Scales a frame to a size as RGB. Scaling before the conversion takes half the time."""
        scaled = self._shrink.reformat(software(frame.image), *size, interpolation="AREA", threads=1)
        full = frame.color.full_range or frame.color.matrix == "rgb"
        return np.asarray(
            self._swscale.rgb(scaled, size, frame.color.matrix, full=full, area=False).to_ndarray(), np.uint8
        )
