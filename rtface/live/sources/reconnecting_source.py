"""Reads live sources in child processes, and reopens lost sources."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import av

from rtface.concurrency.threads import start_thread
from rtface.errors import InputError, Message, RtfaceError
from rtface.frame import Frame
from rtface.live.backoff import Retry
from rtface.live.messages import Heartbeat, SoundPacketReady, SourceOpened, SourceRequest, VideoFrameReady
from rtface.live.protocols import (
    BACKLOG_S,
    TIME_BASE,
    EndpointHealth,
    EndpointState,
    SoundFormat,
    SoundPacket,
    VideoFormat,
)
from rtface.live.reshape import Rotation
from rtface.live.sources.read_process import ReadProcess
from rtface.live.sources.source_times import SourceClock
from rtface.stats import Stats
from rtface.util.machine import give_memory_back

_REOPEN_S = 20.0
"""A stream that ends before its first frame is reopened for this many seconds after the start."""
_WARNINGS = {
    "backlog": partial(
        Message,
        "{name}: frames arrive {seconds} s later than at first, because the network or the sender is too slow; reduce "
        "size, frame rate or bitrate",
        code="source_backlog",
    ),
    "frames_missing": partial(
        Message,
        "{name}: frames are missing (the report counts them); check the network",
        code="source_missing",
    ),
    "frames_corrupt": partial(
        Message,
        "{name}: some frames are damaged (/status and the report count them); check the cable or the network",
        code="frames_damaged",
    ),
}


class ReconnectingSource:
    """A `LiveSource` of any kind; a `SoundSource` if the request excludes video.

    Args:
        request: request that identifies the source.
        title: name of the source in messages.
        stats: receives ``dropped:source``, ``packets_lost``, ``frames_corrupt`` and warnings.
        clock: returns seconds, as in `ReadProcess`.
        process: function that creates the process that reads the source.
    """

    def __init__(
        self,
        request: SourceRequest,
        title: str,
        *,
        stats: Stats,
        clock: Callable[[], float] = time.monotonic,
        process: Callable[..., ReadProcess] = ReadProcess,
    ) -> None:
        self._request, self._title, self._stats = request, title, stats
        self._now, self._process = clock, process
        self._closed, self._settled = threading.Event(), threading.Event()  # `start` waits for `_settled`
        self._thread: threading.Thread | None = None
        self._refusal: RtfaceError | None = None
        self._connection: ReadProcess | None = None
        self._opened: SourceOpened | None = None
        self._form: VideoFormat | None = None
        self._new_clock = partial(SourceClock, recorded=request.whole)
        self._clock, self._pts, self._sound_end = self._new_clock(), -(1 << 62), 0.0
        self.ended = self._lost = self._ended_early = False
        self._conversion_notes: list[str] = []
        self._rotation = Rotation()
        self._health = EndpointHealth("opening", "", clock())
        self._frames = self._reopened = 0
        self._count_lock, self._latest, self._counts = threading.Lock(), Heartbeat(), Counter[str]()
        self._frame: Callable[[Frame], None] = lambda _: None
        self._sound: Callable[[SoundPacket], None] = lambda _: None

    @property
    def video_format(self) -> VideoFormat:
        assert self._form is not None, "call start first"
        return self._form

    @property
    def described(self) -> str:
        if self._opened is None:
            return self._title
        label = f" ({self._opened.label})" if self._opened.label else ""
        return f"{self._title}{label}, {self._format_text}"

    @property
    def _format_text(self) -> str:
        size = f"{self._form.width}×{self._form.height} " if self._form else ""
        return size + self._opened.described if self._opened else ""

    @property
    def notes(self) -> list[str]:
        notes = [*self._opened.notes, *self._conversion_notes] if self._opened else []
        return [f"{self._title}: {note}" for note in notes]

    @property
    def sound_format(self) -> SoundFormat | None:
        return self._request.sound_format

    @property
    def health(self) -> EndpointHealth:
        self._count()
        device = self._request.kind in ("camera", "microphone")
        return replace(
            self._health,
            frames=self._frames,
            dropped=self._counts["dropped:source"],
            reopened=self._reopened,
            bytes=None if device else self._counts["bytes"],
            buffer=self._latest.buffer,
            backlog=self._latest.backlog,
        )

    def start(self, frame: Callable[[Frame], None], sound: Callable[[SoundPacket], None]) -> None:
        self._frame, self._sound = frame, sound
        self._thread = start_thread("source", self._run)
        try:
            while not self._settled.wait(0.2):  # in slices, because on some platforms an endless wait delays signals
                pass
        except BaseException:
            self.close()
            raise
        if self._refusal is not None:
            self.close()
            raise self._refusal

    def hold(self, held: bool) -> None:
        self._request = replace(self._request, held=held)
        if not held and (connection := self._connection) is not None:
            if self._request.whole or (connection.opened is not None and connection.opened.film):
                self._clock, self._frames = self._new_clock(), 0  # because the first frame is delivered a second time
            connection.follow(self._request)

    def rest(self, resting: bool) -> None:
        self._request = replace(self._request, resting=resting)
        if (connection := self._connection) is not None:
            connection.follow(self._request)

    def close(self) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join(0.9)
        self._report_state("closed", self._health.detail)

    def _run(self) -> None:
        """Opens the source, and reopens it whenever it is lost, until `close`."""
        retry, began = Retry(self._now), self._now()
        while not self._closed.is_set():
            self._clock = self._new_clock()
            connection = self._connection = self._process(
                self._request, self._receive_frame, self._receive_sound, partial(self._report_state, "away")
            )
            connection.follow(self._request)  # the request may have changed in the meantime
            try:
                why = connection.run_until(self._closed)
            except RtfaceError as error:
                connection.refusal, why = error, error.message
            self._count()
            with self._count_lock:
                self._connection, self._latest = None, Heartbeat(buffer=self._latest.buffer)
            self.ended = connection.heartbeat.over
            live = self._opened is not None and not self._opened.film
            self._request = replace(self._request, live=live)
            if self._closed.is_set():
                break
            if not self._settled.is_set() and not self._may_reopen(connection, why, began):
                self._refusal = connection.refusal or InputError(
                    "{name}: {why}", code="source_lost", name=self._title, why=why
                )
                break
            if self.ended:
                break
            if self._settled.is_set():
                self._report_state("away", why)
            if getattr(why, "code", "") == "no_variant":  # the playlist no longer has this variant
                self._request = replace(self._request, variant="best")
            self._lost = self._settled.is_set()
            if connection.frames or connection.sounds:
                retry.reached()
                give_memory_back()  # otherwise each connection would leave memory allocated
            retry.wait(self._closed)
        if self.ended:
            self._report_state("closed", "it ended")
        self._settled.set()

    def _may_reopen(self, connection: ReadProcess, why: str, began: float) -> bool:
        """Decides whether to reopen a source that ended before its first frame."""
        if connection.opened is not None and getattr(why, "code", "") == "source_ended" and not self.ended:
            line = "{name}: the stream ended before its first frame; rtface tries to reopen it for up to {seconds} s"
            self._stats.warn("brief", Message(line, code="source_brief", name=self._title, seconds=f"{_REOPEN_S:.0f}"))
            self._ended_early = True
        return self._ended_early and not self.ended and self._now() - began < _REOPEN_S

    def _report_state(self, state: EndpointState, detail: str) -> None:
        if self._closed.is_set() and state != "closed":
            return
        self._health = self._health.turned(state, detail, self._now())

    def _count(self) -> None:
        """Adds what the process has counted since the last call."""
        with self._count_lock:
            if self._connection is None:
                return
            previous, self._latest = self._latest, self._connection.heartbeat
            counts = self._latest.counts - previous.counts
            self._counts += counts
        counts["packets_lost"] = counts["packets_undecoded"] + counts["sounds_undecoded"] + counts["frames_missing"]
        for name in ("dropped:source", "packets_lost", "frames_corrupt"):
            if counts[name]:
                self._stats.count(name, counts[name])
        counts["backlog"] = self._latest.backlog > BACKLOG_S
        for name, warning in _WARNINGS.items():
            if counts[name]:
                self._stats.warn(name, warning(name=self._title, seconds=round(self._latest.backlog, 1)))

    def _mark_live(self) -> None:
        """Marks the source as live, for the first time or again."""
        if self._health.state == "live" or self._closed.is_set():
            return
        self._reopened += self._lost
        self._lost = False
        self._report_state("live", self._format_text)

    def _update_description(self) -> None:
        """Updates the description of the source. The first opening decides the sound format."""
        connection, request = self._connection, self._request
        if connection is None or connection.opened is None:
            return
        self._opened = opened = connection.opened
        self._conversion_notes += [text for text in connection.heartbeat.notes if text not in self._conversion_notes]
        if request.sound and request.sound_format is None:
            # An encoder's sound may start long after its video. Viewers get silence until then.
            default = SoundFormat() if request.kind == "stream" and not opened.film else None
            self._request = replace(request, sound_format=opened.sound or default)

    def _receive_frame(self, ready: VideoFrameReady, image: av.VideoFrame) -> None:
        self._update_description()
        assert self._opened is not None
        decoded = image
        image, display = self._rotation(decoded, ready.display)
        form = VideoFormat(image.width, image.height, image.format.name, self._opened.rate, ready.color, display.aspect)
        self._form = form
        self._mark_live()
        pts = round(1e6 * self._clock.time("video", ready.stamp, ready.captured))
        self._pts = pts = max(pts, self._pts + 1)  # always rises
        duration = round(1e6 / form.rate)
        image.pts, image.time_base, image.duration = pts, TIME_BASE, duration
        if self._opened.film and ready.stamp is not None and not self._request.loop:
            self._request = replace(self._request, seek=ready.stamp)  # position at which to continue after a loss
        self._frames += 1
        self._frame(
            Frame(
                image,
                pts,
                TIME_BASE,
                duration,
                ready.color,
                display,
                captured_at=ready.captured,
                quantisers=ready.quantisers if image is decoded else None,
            )
        )
        self._settled.set()

    def _receive_sound(self, sound: SoundPacketReady) -> None:
        at = self._clock.time("sound", sound.stamp, sound.captured)
        if self._request.video:
            if self._form is None or self._health.state != "live":
                return  # the packet was read ahead during opening
        else:
            self._update_description()
            self._mark_live()
            self._frames += 1
            self._settled.set()
        if at + sound.duration / 2 < self._sound_end:
            return  # already delivered: the source's clock was set back
        self._sound_end = at + sound.duration
        self._sound(SoundPacket(sound.data, at, sound.duration))
