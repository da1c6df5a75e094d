"""Sends streams in child processes, so that none blocks the frame loop."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from rtface.concurrency.threads import start_thread
from rtface.config.addresses import LiveAddress
from rtface.config.options import EncodeOptions
from rtface.errors import OutputError, RtfaceError, UsageError
from rtface.live.messages import SinkReport, StreamJob
from rtface.live.protocols import SoundFormat, VideoFormat
from rtface.live.sinks.child_sink import OPENING_S, ChildSink

# Maximum number of frames that wait for the child: more than the child itself queues (`BEHIND_S`) at 60 fps.
_SLOTS = 12
# Seconds after which a child that accepts no frames is stopped, and seconds until the next child starts.
STUCK_S, _RESTART_S = 3.0, 1.0
_CLOSING_S = 0.9


class StreamSink(ChildSink):
    """Publishes to a server, or serves viewers (rtmp, rtmps, tcp, udp, srt). Restarts the child until `close`.

    Args:
        endpoint: address of the stream.
        options: options of the run: bitrate, preset, encode.
        metadata: ignored.
    """

    def __init__(self, endpoint: LiveAddress, options: EncodeOptions, *, metadata: object = None) -> None:
        super().__init__("rtface.live.sinks.stream_worker:stream", str(endpoint), _SLOTS)
        self._endpoint, self._options = endpoint, options
        self._ended = threading.Event()

    def open(self, form: VideoFormat, *, sound: SoundFormat | None) -> None:
        """Starts the child; see `rtface.live.protocols.LiveSink`."""
        job = StreamJob(self._endpoint.name, form, sound, self._options)
        try:
            self._open(form, job)
        except UsageError:
            raise
        except OutputError as error:
            raise OutputError(
                "{what}; start the server, or correct the address",
                code="stream_refused",
                what=error.message,
                name=self._endpoint,
                why=error.values.get("why", error),
            ) from None
        start_thread("sink-keeper", self._restart_child, replace(job, patient=True))

    def close(self) -> None:
        """Flushes the stream and ends within a second; safe to call twice."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._ended.set()
        self._stop(_CLOSING_S)
        self._health = self._health.turned("closed", "closed")

    def _end(self, why: str) -> None:
        super()._end(why)
        self._ended.set()

    def _restart_child(self, job: StreamJob) -> None:
        """Restarts the child when it has ended, or accepts no more frames."""
        while not self._closing.is_set():
            dropped = self._dropped.total()
            ended = self._ended.wait(0.5)
            limit_s = STUCK_S if self.ready else OPENING_S
            stuck = self._dropped.total() > dropped and time.monotonic() - self.put_at > limit_s
            if self._closing.is_set() or not (ended or stuck):
                continue
            self._stop(0)
            self._health = self._health.turned(
                "away", "the writing process ended" if ended else "the writing process does not respond"
            )
            total = self._report.after(self._before)
            self._before, self._report = replace(total, reopened=total.reopened + 1), SinkReport("away")
            self._closing.wait(_RESTART_S)
            self._ended.clear()
            if not self._closing.is_set():
                try:
                    self._start(job)
                except RtfaceError as error:
                    self._health = self._health.turned("away", str(error))
                    self._ended.set()
        if self._child is not None:  # the child was started while `close` ran
            self._stop(0)
