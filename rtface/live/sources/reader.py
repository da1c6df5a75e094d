"""Reads a camera, stream, film or microphone in a process of its own: the newest picture goes to the run, by way of
shared memory, and sound as AAC.

One thread takes packets as they come, so that their arrival is known and nothing piles up where it cannot be seen;
the main thread decodes; a third one tells the run several times a second that all this is alive.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import av.logging
from av.codec.context import Flags

from rtface.errors import InputError, MissingComponent, RtfaceError
from rtface.flow.child import Parent
from rtface.flow.shared_frames import Picture
from rtface.frame import Color, Display
from rtface.live.cameras import camera
from rtface.live.sources import microphone_input
from rtface.live.sources.messages import Beat, Opened, Over, Refused, Request, Shot
from rtface.live.sources.opening import Input, open_stream
from rtface.live.sources.sound_track import SoundTrack
from rtface.media.color import color_of, display_matrix, display_of, orientation
from rtface.media.probe import details_of

# FFmpeg's numbers of the matrices that a picture may name.
_TAGGED = {1, 4, 5, 6, 7, 9, 10}
# Seconds between beats.
_BEAT = 0.25
# Seconds that a packet may have waited for the decoder before pictures are given up to catch up.
_LATE = 0.4
# Packets that may wait: some sources are as fast as they are read.
_MOST = 60
# Pictures behind the newest packet from which a picture is not worth handing over.
_BEHIND = 3
# Seconds after the first packet in which what the opening read ahead, or the server had kept, is only decoded; and the
# packets from which it is seen that it is over.
_BURST, _BURST_PACKETS = 3.0, 4
# Seconds that a driver's time may lie before a picture's arrival to be believed.
_PLAUSIBLE = 0.5
# Seconds by which a paced source may be late before its clock is set anew.
_STALL = 0.5


def read(parent: Parent, request: Request) -> None:
    """What runs in the child: `Opened` or `Refused`, then `Shot` and `Heard`, with `Beat` all along."""
    av.logging.set_libav_level(av.logging.FATAL)
    reader = Reader(parent, request)
    threading.Thread(target=reader.beat, name="beat", daemon=True).start()
    device = {"camera": camera.open_camera, "microphone": microphone_input.open_microphone}
    try:
        opened = device.get(request.kind, open_stream)(request)
    except RtfaceError as error:
        kind = type(error).__name__
        parent.send(Refused(kind if isinstance(error, InputError | MissingComponent) else "InputError", str(error)))
        return
    try:
        reader.run(opened)
    except (av.FFmpegError, OSError) as error:
        raise InputError(error.strerror or str(error)) from None


class Reader:
    """See the module."""

    def __init__(self, parent: Parent, request: Request) -> None:
        self._parent, self._request = parent, request
        self._waiting: deque[tuple[av.Packet[Any], float, bool]] = deque()
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._done = False
        self._heard_at = time.monotonic()
        self._bytes = self._dropped = self._errors = self._sound_errors = 0
        self._arrivals: dict[int, float] = {}  # of packets, by pts: pictures come in another order
        self._need_key = False
        self._like: tuple[Any, ...] = ()
        self._color, self._display = Color(), Display()
        self._siting: str | None = None

    def beat(self) -> None:
        """Says that it lives, until the parent is gone."""
        while not self._parent.gone:
            self._parent.send(Beat(time.monotonic() - self._heard_at, self._bytes, self._dropped,
                                   self._errors + self._sound_errors))
            time.sleep(_BEAT)

    def run(self, opened: Input) -> None:
        """Until the source ends or fails, or the parent is gone.

        Raises:
            av.FFmpegError: reading failed.
        """
        video = opened.video
        self._heard_at = time.monotonic()
        aspect = video.sample_aspect_ratio if video is not None else None
        self._parent.send(Opened(opened.described, opened.rate, aspect or Fraction(1), tuple(opened.notes),
                                 opened.sound is not None, opened.film, opened.card))
        if video is not None and not opened.paced:
            video.codec_context.flags |= Flags.low_delay
        threading.Thread(target=self._demux, args=(opened,), name="demux", daemon=True).start()
        while not self._parent.gone:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._done, 0.2)
                if not self._waiting:
                    if self._done:
                        break
                    continue
                packet, arrived, fresh = self._waiting.popleft()
            packet = self._catch_up(packet, arrived) if fresh else packet
            if packet is None:
                continue
            if packet.pts is not None:
                self._arrivals[packet.pts] = arrived
                while len(self._arrivals) > 64:
                    del self._arrivals[next(iter(self._arrivals))]
            for image in self._decode(packet):
                if fresh and len(self._waiting) <= _BEHIND:
                    self._hand_over(image, self._arrivals.get(image.pts or 0, arrived), opened)
                elif fresh:
                    self._dropped += 1
        if self._failure is not None:
            raise self._failure
        if opened.film:
            self._parent.send(Over())

    # -- packets ------------------------------------------------------------------------------------------------

    def _demux(self, opened: Input) -> None:
        """Takes packets as they come; those of sound go to the run from here."""
        track = SoundTrack(opened.sound) if opened.sound is not None else None
        streams = [s for s in (opened.video, opened.sound) if s is not None]
        pace = Pace() if opened.paced else None
        burst = None if opened.paced or opened.monotonic else Burst()
        leading = opened.video or opened.sound
        try:
            for packet in opened.container.demux(*streams):
                if not packet.size:
                    continue
                self._heard_at = arrived = time.monotonic()
                self._bytes += packet.size
                if pace is not None:
                    arrived = self._wait_for(pace.due(packet, arrived))
                if self._parent.gone:
                    return
                if burst is not None and packet.stream is leading and burst.over(packet, arrived):
                    burst = None
                if opened.video is not None and packet.stream_index == opened.video.index:
                    with self._changed:
                        self._waiting.append((packet, arrived, burst is None))
                        self._changed.notify()
                elif track is not None:
                    for heard in track.push(packet, arrived):
                        if burst is None:
                            self._parent.send(heard)
                    self._sound_errors = track.errors
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            self._failure = error
        finally:
            with self._changed:
                self._done = True
                self._changed.notify()

    def _wait_for(self, due: float) -> float:
        while (left := due - time.monotonic()) > 0 and not self._parent.gone:
            time.sleep(min(left, 0.2))
            self._heard_at = time.monotonic()
        return time.monotonic()

    def _catch_up(self, packet: av.Packet[Any], arrived: float) -> av.Packet[Any] | None:
        """The packet to decode next: one that waited too long gives way to the newest that can be begun with, and if
        there is none, all of them up to the next."""
        if self._need_key and not packet.is_keyframe:
            self._dropped += 1
            return None
        self._need_key = False
        waited = time.monotonic() - arrived
        if waited < _LATE and len(self._waiting) < _MOST:
            return packet
        with self._changed:
            keys = [i for i, (p, _, _) in enumerate(self._waiting) if p.is_keyframe]
            if keys:
                self._dropped += 1 + keys[-1]
                for _ in range(keys[-1]):
                    self._waiting.popleft()
                return None
        if waited > 5 * _LATE and not packet.is_keyframe:
            self._need_key = True
            self._dropped += 1
            return None
        if packet.is_disposable:
            self._dropped += 1
            return None
        return packet

    def _decode(self, packet: av.Packet[Any]) -> list[av.VideoFrame]:
        try:
            return packet.decode()
        except av.FFmpegError:
            self._errors += 1
            return []

    # -- pictures -----------------------------------------------------------------------------------------------

    def _hand_over(self, image: av.VideoFrame, arrived: float, opened: Input) -> None:
        assert self._parent.frames is not None
        stamp = image.time
        captured = arrived
        if opened.monotonic:
            if 0 <= arrived - stamp < _PLAUSIBLE:
                captured = stamp
            stamp = None
        self._look_at(image, opened)
        slot = self._parent.frames.put(image)
        if slot is None:
            self._dropped += 1
            return
        self._parent.send(Shot(slot, Picture.of(image), stamp, captured, self._color, self._display))

    def _look_at(self, image: av.VideoFrame, opened: Input) -> None:
        """How to read pictures like this one; asked again when they change."""
        like = (image.width, image.height, image.format.name, image.interlaced_frame, int(image.colorspace),
                int(image.color_range), int(image.color_trc), int(image.color_primaries))
        if like == self._like or opened.video is None:
            return
        self._like = like
        self._siting, fields = details_of(image)
        matrix = display_matrix(image)
        turns, mirror = orientation(matrix) if matrix is not None else (0, False)
        self._color = color_of(image, siting=self._siting, codec=opened.video.codec_context.codec.canonical_name)
        if self._request.kind == "camera" and int(image.colorspace) not in _TAGGED and self._color.matrix == "bt709":
            # What says nothing is a film by its size; a camera's own pictures are what V4L2 and UVC call the default.
            self._color = replace(self._color, matrix="bt601")
        self._display = display_of(turns, mirror, opened.video.sample_aspect_ratio,
                                   fields if image.interlaced_frame else "progressive")


class Pace:
    """When the packets of a film or playlist are due: as its own clock runs, from its first packet on."""

    def __init__(self) -> None:
        self._base: float | None = None
        self._last = 0.0

    def due(self, packet: av.Packet[Any], now: float) -> float:
        """`time.monotonic()` at which a packet that was read at `now` is due."""
        ticks = packet.dts if packet.dts is not None else packet.pts
        if ticks is None:
            return now
        stamp = float(ticks * packet.time_base)
        # A clock that jumps, or a source that stood still: it goes on from here.
        if self._base is None or abs(stamp - self._last) > 10 or self._base + stamp < now - _STALL:
            self._base = now - stamp
        self._last = stamp
        return self._base + stamp


class Burst:
    """Whether packets come faster than their own clock runs: what was kept until now, and is old."""

    def __init__(self) -> None:
        self._last: deque[tuple[float, float]] = deque(maxlen=_BURST_PACKETS)
        self._began: float | None = None

    def over(self, packet: av.Packet[Any], arrived: float) -> bool:
        """Told of every packet of one stream; whether this one and those after it come as they are made."""
        ticks = packet.dts if packet.dts is not None else packet.pts
        self._began = self._began or arrived
        if ticks is None or arrived - self._began > _BURST:
            return True
        self._last.append((float(ticks * packet.time_base), arrived))
        if len(self._last) < _BURST_PACKETS:
            return False
        (stamp, then), (newest, now) = self._last[0], self._last[-1]
        return now - then > 0.5 * (newest - stamp)
