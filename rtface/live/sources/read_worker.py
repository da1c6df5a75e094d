"""The child process that reads a camera, stream, film or microphone.

It sends frames through shared memory, and sound as AAC.

One thread takes packets as they arrive; they wait in the jitter buffer until they are due. The main thread decodes. A
third thread sends a heartbeat several times a second.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import chain
from math import inf
from typing import Any

import av
import av.logging
from av.codec.context import Flags

from rtface.concurrency.child_main import ParentProcess
from rtface.concurrency.shared_frames import FrameLayout
from rtface.concurrency.threads import call_in_thread, start_thread
from rtface.errors import InputError, RtfaceError
from rtface.frame import Color, Display, Quantisers
from rtface.live.devices import camera, microphone
from rtface.live.messages import (
    Heartbeat,
    SoundPacketReady,
    SourceOpened,
    SourceRequest,
    VideoFrameReady,
)
from rtface.live.protocols import REST_S
from rtface.live.sources.damaged_frames import DamageFilter
from rtface.live.sources.deinterlace_tonemap import DeinterlaceToneMap
from rtface.live.sources.open_stream import OpenedInput, open_stream
from rtface.live.sources.playback_pace import CUSHION, BurstDetector, PlaybackPace, as_sent, longest_wait, repeated
from rtface.live.sources.sound_to_aac import AacConverter
from rtface.live.sources.source_times import Backlog, JitterBuffer
from rtface.media.formats.color import color_of, display_matrix, display_of, orientation
from rtface.media.read.arrivals import Arrival, is_sent_at_once, look_at, rate_of_arrivals, stamp_of
from rtface.media.read.container import is_unsized_end
from rtface.media.read.frame_details import details_of, without_profile
from rtface.media.read.quantiser import QuantiserReader

# FFmpeg's numbers of the matrices that a frame may name.
_TAGGED = {1, 4, 5, 6, 7, 9, 10}
# Seconds between beats.
_HEARTBEAT_S = 0.25
# Seconds that a packet may be overdue before frames are given up to catch up.
_MAX_LATE_S = 0.4
# Packets that may be overdue: some sources are as fast as they are read.
_MAX_OVERDUE_PACKETS = 60
# Seconds of overdue packets behind a frame from which it is not worth handing over, and their least number.
_BEHIND_S, _BEHIND = 0.2, 3
# Seconds that a driver's time may lie before a frame's arrival to be believed.
_PLAUSIBLE_AGE_S = 0.5
# Video packets that may wait where none is dropped; then the sender has to.
_MAX_WAITING = 3000
# Seconds that a paced source is read ahead: its frames and sound may lie apart in the file.
_READ_AHEAD_S = 1.5


def read(parent: ParentProcess, request: SourceRequest) -> None:
    """Runs in the child process: sends `SourceOpened` or an error, then `VideoFrameReady` and
    `SoundPacketReady`, with a `Heartbeat` several times a second."""
    av.logging.set_libav_level(av.logging.FATAL)
    reader = ReadWorker(parent, request)
    start_thread("beat", reader.follow)
    device = {"camera": camera.open_camera, "microphone": microphone.open_microphone}
    try:
        opened = device.get(request.kind, open_stream)(request)
    except RtfaceError as error:
        parent.send(error)
        return
    try:
        reader.run(opened)
    except (av.FFmpegError, OSError) as error:
        raise InputError(error.strerror or str(error)) from None


@dataclass(frozen=True, slots=True)
class QueuedPacket:
    """A video packet that waits until it is due.

    Attributes:
        due: when it is decoded, as `ReadWorker` counts the time.
        fresh: False for what the opening read ahead: it is decoded and not shown.
    """

    packet: av.Packet[Any]
    due: float
    fresh: bool


@dataclass(frozen=True, slots=True)
class QueuedSound:
    """Sound that waits until it is due."""

    sound: SoundPacketReady
    due: float


class ReadWorker:
    """One opened source; `run` reads it to its end.

    Attributes:
        resting: whether no output has a viewer.
    """

    def __init__(self, parent: ParentProcess, request: SourceRequest) -> None:
        self._parent, self._request = parent, request
        self._pictures, self._sounds = deque[QueuedPacket](), deque[QueuedSound]()  # as they are coded
        self._buffer, self._backlog = JitterBuffer(request.buffer), Backlog()
        self._changed = threading.Condition()
        self._demuxing: Future[None] = Future()
        self._received_at = time.monotonic()
        self._counts = Counter[str]()
        self._behind = _BEHIND
        self._need_key = self._over = False
        self.resting, self._handed_at = request.resting, -inf
        self._playing, self._held_s, self._held_at = threading.Event(), 0.0, inf
        self._whole = request.whole
        self._shown_from = -inf  # what came before is only decoded
        if not request.held:
            self._playing.set()
        self._conform = DeinterlaceToneMap()
        self._quantisers: QuantiserReader | None = None
        self._decoder: DamageFilter | None = None
        self._like: tuple[Any, ...] = ()
        self._color, self._display = Color(), Display()
        self._siting: str | None = None

    def _heartbeat(self) -> Heartbeat:
        return Heartbeat(
            max(0.0, time.monotonic() - self._received_at - self._buffer.seconds - self._held_s),
            Counter(self._counts),
            self._buffer.seconds + (self._held_s if self._whole else 0.0),
            self._backlog.seconds,
            tuple(self._conform.notes),
            self._over,
        )

    def follow(self) -> None:
        """Sends heartbeats, and follows what the parent requests, until it is gone."""
        while not self._parent.gone:
            self._parent.send(self._heartbeat())
            if (request := self._parent.receive(_HEARTBEAT_S)) is not None:
                self.resting = request.resting
                if not request.held:
                    self._playing.set()

    def run(self, opened: OpenedInput) -> None:
        """Until the source ends or fails, or the parent is gone.

        Raises:
            av.FFmpegError: reading failed.
        """
        video = opened.video
        self._received_at = time.monotonic()
        track = AacConverter(opened.sound, self._request.sound_format) if opened.sound is not None else None
        packets = self._probed(opened)
        self._parent.send(
            SourceOpened(
                opened.described,
                opened.rate,
                tuple(opened.notes),
                track and track.form,
                opened.played,
                opened.label,
            )
        )
        if video is not None:
            self._quantisers = QuantiserReader(video.codec_context)
            self._decoder = DamageFilter(video, self._counts)
        if video is not None and opened.by_arrival:
            video.codec_context.flags |= Flags.low_delay
        self._demuxing = call_in_thread("demux", self._demux, packets, opened, track)
        self._demuxing.add_done_callback(lambda _: self._wake())
        self._behind = max(_BEHIND, round(_BEHIND_S * opened.rate))
        alone = _stand_alone(video)
        while (waiting := self._next()) is not None:
            if isinstance(waiting, QueuedSound):
                self._send_sound(waiting.sound)
                continue
            rests = self.resting and waiting.fresh and not alone and time.monotonic() - self._handed_at < REST_S
            hurries = waiting.fresh and not self._whole and (not opened.played or self._playing.is_set())
            if hurries and not self._is_decoded(waiting):
                self._counts["dropped:source"] += 1
                continue
            for image, quantisers in self._decoded(waiting.packet):
                if rests:
                    continue
                if (opened.played or self._whole) and not self._playing.is_set():
                    self._hold(image, quantisers, waiting.due, opened)
                # The decoder gives frames in another order than packets come. What a frame has to wait for in the
                # stream is no delay of this run, so its age counts from the packet that let the decoder give it.
                if waiting.fresh and (self._whole or self._overdue() <= self._behind):
                    self._hand_over(image, quantisers, waiting.due + self._held_s, opened)
                elif waiting.fresh:
                    self._counts["dropped:source"] += 1
        if self._demuxing.done():
            self._demuxing.result()
        if opened.played or self._request.kind == "file":
            self._over = True
            self._parent.send(self._heartbeat())

    def _hold(self, image: av.VideoFrame, quantisers: Quantisers | None, due: float, opened: OpenedInput) -> None:
        """Shows the first frame of a film, and waits until it is to be played; it is played later by as much."""
        self._held_at = due
        self._hand_over(image, quantisers, due, opened)
        while not self._playing.wait(0.2) and not self._parent.gone:
            self._received_at = time.monotonic()
        self._held_s, self._held_at = time.monotonic() - due, inf

    def _now(self) -> float:
        """The time that packets are due by, which stands still while a film is held."""
        return min(time.monotonic() - self._held_s, self._held_at)

    def _next(self) -> QueuedPacket | QueuedSound | None:
        """What is due next, once it is due; None at the end of the source or of the parent."""
        with self._changed:
            while not self._parent.gone:
                waiting = [one for one in (self._pictures, self._sounds) if one]
                first = min(waiting, key=lambda one: one[0].due, default=None)
                if first is None and self._demuxing.done():
                    return None
                left = first[0].due - self._now() if first else 0.2
                if first and left <= 0:
                    return first.popleft()
                self._changed.wait(min(left, 0.2))
        return None

    def _overdue(self) -> int:
        """Number of video packets that wait although they are due."""
        now = self._now()
        with self._changed:
            return sum(one.due <= now for one in self._pictures)

    # -- packets ------------------------------------------------------------------------------------------------

    def _arrivals(self, opened: OpenedInput) -> Iterator[Arrival]:
        """Packets, and when each came."""
        streams = [s for s in (opened.video, opened.sound) if s is not None]
        try:
            for packet in (
                repeated(self._request.name, opened.container, *streams)
                if self._request.loop and opened.film
                else opened.container.demux(*streams)
            ):
                if packet.size:
                    self._received_at = arrived = time.monotonic()
                    self._counts["bytes"] += packet.size
                    yield packet, arrived
        except av.FFmpegError as error:
            if not is_unsized_end(error, opened.container):
                raise

    def _probed(self, opened: OpenedInput) -> Iterator[Arrival]:
        """The packets; where only that can tell, the first of them say how the source comes."""
        packets, stream = self._arrivals(opened), opened.video or opened.sound
        if not opened.probed or stream is None:
            return packets
        look_at(packets, stream, first := deque[Arrival]())
        leading = [(packet, arrived) for packet, arrived in first if packet.stream is stream]
        stamps, arrivals = [stamp_of(packet) for packet, _ in leading], [arrived for _, arrived in leading]
        opened.by_arrival = bool(leading) and (
            self._request.live or not is_sent_at_once(stamps, arrivals, timed=opened.timed)
        )
        if opened.by_arrival:
            self._shown_from = -inf if self._whole else arrivals[-1]
            self._buffer = JitterBuffer(self._request.buffer, longest_wait(stamps, arrivals))
            opened.rate = (not opened.timed and rate_of_arrivals(arrivals)) or opened.rate
        return chain(first, packets)

    def _demux(self, packets: Iterator[Arrival], opened: OpenedInput, track: AacConverter | None) -> None:
        """Takes packets as they come; those of sound go to the run from here."""
        pace = None if opened.by_arrival else PlaybackPace(CUSHION if opened.pieces and not opened.film else 0.0)
        burst = BurstDetector() if opened.by_arrival and opened.timed and not opened.monotonic else None
        leading = opened.video or opened.sound
        if burst is not None and leading is not None and self._whole and not self._request.live:
            packets, burst = as_sent(packets, leading), None
        alone, taken = _stand_alone(opened.video), -inf
        for packet, arrived in packets:
            if pace is not None:
                arrived = pace.due(packet, self._now())
                self._wait_for(arrived - _READ_AHEAD_S)
            elif not opened.timed:
                packet.pts, packet.dts = None, round(arrived / packet.time_base)
            if self._parent.gone:
                return
            if burst is not None and packet.stream is leading and burst.over(packet, arrived):
                burst = None
            if opened.video is not None and packet.stream_index == opened.video.index:
                if self.resting and alone and arrived - taken < REST_S:
                    continue
                taken = arrived
                if opened.by_arrival and opened.timed and self._request.kind in ("stream", "file"):
                    self._backlog.note(stamp_of(packet), arrived)
                fresh = burst is None and arrived >= self._shown_from
                due = (
                    self._buffer.due(stamp_of(packet), arrived) if fresh and not (pace or opened.monotonic) else arrived
                )
                with self._changed:
                    self._pictures.append(QueuedPacket(packet, due, fresh))
                    self._changed.notify()
                while self._whole and len(self._pictures) > _MAX_WAITING and not self._parent.gone:
                    time.sleep(0.05)
            elif track is not None:
                for received in track.push(packet, arrived):
                    if burst is None:
                        self._take_sound(received, arrived)
                self._counts["sounds_undecoded"] = track.errors

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _take_sound(self, received: SoundPacketReady, arrived: float) -> None:
        """Sound waits as long as video does, so that both reach the outputs together."""
        due = self._buffer.sound_due(received.stamp, arrived)
        waits = self._whole and not self._playing.is_set()  # for the frame beside it, which is held
        if waits or due > self._now() or self._sounds:
            with self._changed:
                self._sounds.append(QueuedSound(received, due))
                self._changed.notify()
        else:
            self._send_sound(received)

    def _send_sound(self, sound: SoundPacketReady) -> None:
        self._parent.send(replace(sound, captured=sound.captured + self._held_s))

    def _wait_for(self, due: float) -> None:
        while (left := due - self._now()) > 0 and not self._parent.gone:
            time.sleep(min(left, 0.2))
            self._received_at = time.monotonic()

    def _is_decoded(self, waiting: QueuedPacket) -> bool:
        """True if a packet is to be decoded: from one that is overdue for too long, all up to the newest I-frame that
        is due are dropped, and where there is none, all up to the next."""
        packet = waiting.packet
        if self._need_key and not packet.is_keyframe:
            return False
        self._need_key, now = False, self._now()
        waited = now - waiting.due
        if waited < _MAX_LATE_S and self._overdue() < _MAX_OVERDUE_PACKETS:
            return True
        with self._changed:
            keys = [one for one in self._pictures if one.due <= now and one.packet.is_keyframe]
            while keys and self._pictures[0] is not keys[-1]:
                self._pictures.popleft()
                self._counts["dropped:source"] += 1
        if keys:
            return False
        self._need_key = waited > 5 * _MAX_LATE_S and not packet.is_keyframe
        return not (self._need_key or packet.is_disposable)

    def _decoded(self, packet: av.Packet[Any]) -> list[tuple[av.VideoFrame, Quantisers | None]]:
        """Frames decoded from a packet, progressive and SDR, with their quantisers."""
        assert self._quantisers is not None and self._decoder is not None
        self._quantisers.note(packet)
        try:
            # Deinterlacing keeps what the decoder says of a frame; in a tone-mapped one other code values count.
            images = [
                (one, self._quantisers.of(one) if one.color_trc == image.color_trc else None)
                for image in self._decoder.decode(without_profile(packet))
                for one in self._conform(image)
            ]
        except av.FFmpegError:
            self._counts["packets_undecoded"] += 1
            return []
        return images

    # -- frames -----------------------------------------------------------------------------------------------

    def _hand_over(self, image: av.VideoFrame, quantisers: Quantisers | None, due: float, opened: OpenedInput) -> None:
        assert self._parent.frames is not None
        stamp = image.time
        captured = due
        if opened.monotonic:
            if 0 <= due - stamp < _PLAUSIBLE_AGE_S:
                captured = stamp
            stamp = None
        self._handed_at = time.monotonic()
        self._describe(image, opened)
        while (slot := self._parent.frames.put(image)) is None and self._whole and not self._parent.gone:
            time.sleep(0.005)
        if slot is None:
            self._counts["dropped:source"] += 1
            return
        self._parent.send(
            VideoFrameReady(slot, FrameLayout.of(image), stamp, captured, self._color, self._display, quantisers)
        )

    def _describe(self, image: av.VideoFrame, opened: OpenedInput) -> None:
        """Finds colour and display of frames like this one, again whenever they change."""
        like = (
            image.width,
            image.height,
            image.format.name,
            image.interlaced_frame,
            int(image.colorspace),
            int(image.color_range),
            int(image.color_trc),
            int(image.color_primaries),
        )
        if like == self._like or opened.video is None:
            return
        self._like = like
        self._siting, fields = details_of(image)
        matrix = display_matrix(image)
        turns, mirror = orientation(matrix) if matrix is not None else (0, False)
        self._color = color_of(image, siting=self._siting, codec=opened.video.codec_context.codec.canonical_name)
        if self._request.kind == "camera" and int(image.colorspace) not in _TAGGED and self._color.matrix == "bt709":
            # What says nothing is a film by its size; a camera's own frames are what V4L2 and UVC call the default.
            self._color = replace(self._color, matrix="bt601")
        self._display = display_of(
            turns, mirror, opened.video.sample_aspect_ratio, fields if image.interlaced_frame else "progressive"
        )


def _stand_alone(video: av.VideoStream | None) -> bool:
    """True if each frame can be decoded without others."""
    return video is not None and video.codec_context.codec.intra_only
