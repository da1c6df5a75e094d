"""Provides the base class of sinks that encode in a child process."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from dataclasses import replace
from typing import Any

from rtface.concurrency.child_process import ChildProcess
from rtface.concurrency.shared_frames import FrameLayout, FrameRing
from rtface.errors import OutputError, RtfaceError, UsageError
from rtface.frame import Frame
from rtface.live.messages import SinkOpened, SinkReport, WriteFrame
from rtface.live.protocols import EndpointHealth, LiveSink, SoundPacket, VideoFormat
from rtface.media.marks.provenance import Change

# Time limit for the child to start and open its sink; on a busy machine, the start takes long.
OPENING_S = 30.0
# Maximum total size of the frames that wait for the child.
_MAX_WAITING_BYTES = 64 << 20
# The first sound may set the start time although the first frame is earlier, by up to one sound packet and a rounding
# error. Such frames are written at time 0.
_EARLY_S = 0.03


class ChildSink(LiveSink):
    """Sends `WriteFrame` and `SoundPacket` to a child process, which encodes them. Their times are seconds of the
    output. The child responds with `SinkOpened` or an error, then sends `SinkReport` messages.

    Args:
        target: function that the child runs.
        title: name of the output, without secrets.
        slots: maximum number of frames that wait for the child.

    Attributes:
        began: time of the output's first frame or sound; None before that.
        patience: seconds that a frame waits for a slow child.
        ready: whether the child's sink is open.
        put_at: time when the child last accepted a frame, or started.
        encoder: name of the encoder; "" until the sink is open.
    """

    patience = 0.0

    def __init__(self, target: str, title: str, slots: int) -> None:
        self._target, self._title, self._slots = target, title, slots
        self._lock = threading.Lock()
        self._child: ChildProcess | None = None
        self._ring: FrameRing | None = None
        self._form: VideoFormat | None = None
        self.began: float | None = None
        self._responses: queue.SimpleQueue[SinkOpened | RtfaceError] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._dropped: Counter[str] = Counter()
        self._report = self._before = SinkReport("opening")
        self._health = EndpointHealth("opening", "not opened yet")
        self.ready = False
        self.put_at = time.monotonic()
        self._stuck_at: float | None = None  # time when the child stopped accepting messages
        self._notes: list[str] = []
        self.encoder = ""

    @property
    def described(self) -> str:
        """Name of the output, size of the frames, and encoder."""
        form = self._form
        size = f", {form.width}×{form.height}" if form else ""
        return self._title + size + (f", {self.encoder}" if self.encoder else "")

    @property
    def notes(self) -> list[str]:
        return self._notes

    @property
    def pid(self) -> int | None:
        """Process ID of the child; None without one."""
        child = self._child
        return None if child is None else child.pid

    @property
    def health(self) -> EndpointHealth:
        """State and counters; see `rtface.live.protocols.Endpoint`."""
        report = self._report.after(self._before)
        causes = report.dropped + self._dropped
        counted = {"frames": report.frames, "bytes": report.bytes, "reopened": report.reopened}
        return replace(self._health, dropped=causes.total(), causes=dict(causes), **counted)

    @property
    def wanted(self) -> bool | None:
        """Whether this sink, if it is a server, has viewers; otherwise None."""
        return None if self._report.viewers is None else self._report.viewers > 0

    def write(self, frame: Frame) -> None:
        """Copies a frame for the child. Drops it if the child is late."""
        slot: int | None = None
        seconds = self._output_time(frame.time)
        if -_EARLY_S < seconds < 0:
            seconds = 0.0
        with self._lock:
            child, ring = self._child, self._ring
            if child is not None and ring is not None and child.alive and seconds >= 0:
                try:
                    while (slot := ring.put(frame.image)) is None and self._may_wait(child):
                        time.sleep(0.005)
                except UsageError:  # the frame is larger than the agreed size
                    slot = None
                if slot is not None and not self._send(
                    child, WriteFrame(seconds, slot, FrameLayout.of(frame.image), Change.of(frame))
                ):
                    ring.free(slot)
                    slot = None
            if slot is None:
                if self._health.state != "closed":
                    self._dropped["encoder" if child is not None and child.alive else "away"] += 1
            else:
                self.put_at = time.monotonic()

    def _send(self, child: ChildProcess, message: object) -> bool:
        while not (sent := child.send(message)) and self._may_wait(child):
            time.sleep(0.005)
        self._stuck_at = None if sent else self._stuck_at
        return sent

    def _may_wait(self, child: ChildProcess) -> bool:
        now = time.monotonic()
        self._stuck_at = now if self._stuck_at is None else self._stuck_at
        return now - self._stuck_at < self.patience and child.alive and not self._closing.is_set()

    def sound(self, packet: SoundPacket) -> None:
        """Sends a packet of sound to the child."""
        seconds = self._output_time(packet.time)
        child = self._child
        if child is not None and seconds >= 0:
            self._send(child, replace(packet, time=seconds))

    def _output_time(self, at: float) -> float:
        """Returns a time as seconds since the first frame or sound."""
        if self.began is None:
            self.began = at
        return at - self.began

    def _open(self, form: VideoFormat, job: object) -> None:
        """Starts the child and waits until its sink is open.

        Raises:
            OutputError, UsageError, MissingComponent: the child reported an error, or did not respond in time.
        """
        self._form = form
        self._start(job)
        try:
            response = self._responses.get(timeout=OPENING_S)
        except queue.Empty:
            response = OutputError("it did not open within {seconds} s", code="sink_late", seconds=round(OPENING_S))
        if isinstance(response, SinkOpened):
            self._notes, self.encoder = list(response.notes), response.encoder
            return
        self._stop(0)
        why = response.message
        raise type(response)("{name}: {why}", code="sink_refused", name=self._title, why=why)

    def _start(self, job: object) -> None:
        assert self._form is not None
        samples = self._form.width * self._form.height
        size = samples * 8 + (1 << 20)  # enough for any format; unused memory costs nothing
        self._responses = queue.SimpleQueue()
        ring = FrameRing(max(3, min(self._slots, _MAX_WAITING_BYTES // (2 * samples))), size)

        def end(why: str) -> None:
            ring.close()
            self._end(why)

        try:
            child = ChildProcess(self._target, job, name="sink", on_message=self._receive, on_end=end, frames=ring)
        except RtfaceError:
            ring.close()
            raise
        with self._lock:
            self._child, self._ring = child, ring
            self.ready, self.put_at = False, time.monotonic()

    def _stop(self, wait: float) -> None:
        with self._lock:
            child, self._child, self._ring = self._child, None, None
        if child is not None:
            child.kill(wait)

    def _receive(self, message: Any) -> None:
        if isinstance(message, SinkOpened | RtfaceError):
            self.ready, self.put_at = isinstance(message, SinkOpened), time.monotonic()
            self._responses.put(message)
        elif isinstance(message, SinkReport):
            self._report = message
            if not self._closing.is_set():
                self._health = self._health.turned(message.state, message.detail)

    def _end(self, why: str) -> None:
        """Handles the end of the child."""
        self._responses.put(OutputError(why or "its process ended"))
        self._health = self._health.turned("closed" if self._closing.is_set() else "away", why or "ended")
