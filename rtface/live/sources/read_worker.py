"""Reads a camera, stream, film or microphone in a child process.

The process sends frames through shared memory, and sound as AAC. One thread reads packets as they arrive
(`rtface.live.sources.packet_queue`). The main thread decodes. A third thread sends a heartbeat several times a second.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import replace
from math import inf
from typing import Any

import av
import av.logging
from av.codec.context import Flags
from av.video.stream import VideoStream

from rtface.concurrency.child_main import ParentProcess
from rtface.concurrency.shared_frames import FrameLayout
from rtface.concurrency.threads import start_thread
from rtface.errors import InputError, RtfaceError
from rtface.frame import Color, Display, Quantisers
from rtface.live.devices import capture
from rtface.live.messages import Heartbeat, SourceOpened, SourceRequest, VideoFrameReady
from rtface.live.protocols import REST_S
from rtface.live.sources.deinterlace_tonemap import DeinterlaceToneMap
from rtface.live.sources.open_stream import OpenedInput, open_stream
from rtface.live.sources.packet_queue import PacketQueue, QueuedSound
from rtface.live.sources.sound_to_aac import AacConverter
from rtface.media.formats.color import color_of, display_matrix, display_of, orientation
from rtface.media.read.concealment import Concealment
from rtface.media.read.frame_details import details_of, without_profile
from rtface.media.read.quantiser import QuantiserReader

# FFmpeg's colour spaces that specify a matrix.
_SPECIFIED = {1, 4, 5, 6, 7, 9, 10}
_HEARTBEAT_S = 0.25
# A frame is dropped if overdue packets of more than this many seconds, and more than this many, wait behind it.
_BEHIND_S, _BEHIND_PACKETS = 0.2, 3
# Maximum plausible difference between a driver's timestamp and a frame's arrival.
_PLAUSIBLE_AGE_S = 0.5
# Window, and maximum number of dropped frames in it: a source that is mostly damaged is shown nevertheless.
_RECENT_FRAMES, _MAX_DROPPED_FRAMES = 30, 15


def read(parent: ParentProcess, request: SourceRequest) -> None:
    """Runs in the child process. First sends `SourceOpened` or an error, then `VideoFrameReady` and `SoundPacketReady`.
    Sends a `Heartbeat` several times a second."""
    av.logging.set_libav_level(av.logging.FATAL)
    reader = ReadWorker(parent, request)
    start_thread("beat", reader.follow)
    device = {"camera": capture.open_camera, "microphone": capture.open_microphone}
    try:
        opened = device.get(request.kind, open_stream)(request)
    except RtfaceError as error:
        parent.send(error)
        return
    try:
        reader.run(opened)
    except (av.FFmpegError, OSError) as error:
        raise InputError(error.strerror or str(error)) from None


class ReadWorker:
    """Reads one opened source to its end.

    Attributes:
        queue: queue of the source's packets.
    """

    def __init__(self, parent: ParentProcess, request: SourceRequest) -> None:
        self._parent, self._request = parent, request
        self._counts = Counter[str]()
        self.queue = PacketQueue(parent, request, self._counts)
        self._handed_at = -inf
        self._conform = DeinterlaceToneMap()
        self._quantisers: QuantiserReader | None = None
        self._decoder: DamageFilter | None = None
        self._properties: tuple[Any, ...] = ()
        self._color, self._display = Color(), Display()

    def _heartbeat(self) -> Heartbeat:
        queue = self.queue
        return Heartbeat(
            queue.quiet,
            Counter(self._counts),
            queue.buffer.seconds + (queue.held_s if self._request.whole else 0.0),
            queue.backlog.seconds,
            tuple(self._conform.notes),
        )

    def follow(self) -> None:
        """Sends heartbeats and applies the parent's requests until the parent is gone."""
        while not self._parent.gone:
            self._parent.send(self._heartbeat())
            if (request := self._parent.receive(_HEARTBEAT_S)) is not None:
                self.queue.resting = request.resting
                if not request.held:
                    self.queue.playing.set()

    def run(self, opened: OpenedInput) -> None:
        """Reads until the source ends or fails, or the parent is gone.

        Raises:
            av.FFmpegError: reading failed.
        """
        video, queue, whole = opened.video, self.queue, self._request.whole
        track = AacConverter(opened.sound, self._request.sound_format) if opened.sound is not None else None
        packets = queue.probe(opened)
        form, notes = track and track.form, tuple(opened.notes)
        self._parent.send(SourceOpened(opened.described, opened.rate, notes, form, opened.played, opened.label))
        if video is not None:
            self._quantisers = QuantiserReader(video.codec_context)
            self._decoder = DamageFilter(video, self._counts)
            if opened.by_arrival:
                video.codec_context.flags |= Flags.low_delay
        queue.start(packets, opened, track)
        max_overdue = max(_BEHIND_PACKETS, round(_BEHIND_S * opened.rate))
        while (queued := queue.next()) is not None:
            if isinstance(queued, QueuedSound):
                queue.send_sound(queued.sound)
                continue
            fresh = queued.fresh
            skipped = queue.resting and fresh and not opened.alone and time.monotonic() - self._handed_at < REST_S
            may_drop = fresh and not whole and (not opened.played or queue.playing.is_set())
            if may_drop and not queue.is_decoded(queued):
                self._counts["dropped:source"] += 1
                continue
            for image, quantisers in self._decode(queued.packet):
                if skipped:
                    continue
                if (opened.played or whole) and not queue.playing.is_set():  # shows a film's first frame, then waits
                    self._hand_over(image, quantisers, queued.due, opened)
                    queue.hold(queued.due)
                # The decoder waits for other frames to reorder them. This is not a delay of this run, so a frame's age
                # counts from the packet that made the decoder output the frame.
                if fresh and (whole or queue.overdue() <= max_overdue):
                    self._hand_over(image, quantisers, queued.due + queue.held_s, opened)
                elif fresh:
                    self._counts["dropped:source"] += 1
        if opened.played or self._request.kind == "file":
            self._parent.send(replace(self._heartbeat(), over=True))

    def _decode(self, packet: av.Packet[Any]) -> list[tuple[av.VideoFrame, Quantisers | None]]:
        """Decodes a packet to progressive SDR frames. Returns each with its quantisers."""
        assert self._quantisers is not None and self._decoder is not None
        self._quantisers.note(packet)
        try:
            # Quantisers stay valid after deinterlacing, but not after tone mapping, which changes code values.
            return [
                (frame, self._quantisers.of(frame) if frame.color_trc == image.color_trc else None)
                for image in self._decoder.decode(without_profile(packet))
                for frame in self._conform(image)
            ]
        except av.FFmpegError:
            self._counts["packets_undecoded"] += 1
            return []

    def _hand_over(self, image: av.VideoFrame, quantisers: Quantisers | None, due: float, opened: OpenedInput) -> None:
        assert self._parent.frames is not None
        stamp = image.time
        captured = due
        if opened.monotonic:
            if 0 <= due - stamp < _PLAUSIBLE_AGE_S:
                captured = stamp
            stamp = None
        self._handed_at = time.monotonic()
        self._update_colors(image, opened)
        while (slot := self._parent.frames.put(image)) is None and self._request.whole and not self._parent.gone:
            time.sleep(0.005)
        if slot is None:
            self._counts["dropped:source"] += 1
            return
        self._parent.send(
            VideoFrameReady(slot, FrameLayout.of(image), stamp, captured, self._color, self._display, quantisers)
        )

    def _update_colors(self, image: av.VideoFrame, opened: OpenedInput) -> None:
        """Updates colour and display when the properties of the frames change."""
        properties = (
            image.width,
            image.height,
            image.format.name,
            image.interlaced_frame,
            int(image.colorspace),
            int(image.color_range),
            int(image.color_trc),
            int(image.color_primaries),
        )
        if properties == self._properties or opened.video is None:
            return
        self._properties = properties
        siting, fields = details_of(image)
        matrix = display_matrix(image)
        turns, mirror = orientation(matrix) if matrix is not None else (0, False)
        self._color = color_of(image, siting=siting, codec=opened.video.codec_context.codec.canonical_name)
        if self._request.kind == "camera" and int(image.colorspace) not in _SPECIFIED and self._color.matrix == "bt709":
            # `color_of` chooses by size, as for films. For a camera, the default of V4L2 and UVC applies instead.
            self._color = replace(self._color, matrix="bt601")
        self._display = display_of(
            turns, mirror, opened.video.sample_aspect_ratio, fields if image.interlaced_frame else "progressive"
        )


class DamageFilter:
    """Decodes packets. Drops damaged frames of an intra-only source. Shows damaged frames of other sources, because
    later frames reference them.

    Args:
        video: stream whose decoder has not been used yet.
        counts: receives "frames_corrupt" (shown or not) and "frames_missing" (lost, or skipped by the decoder).
    """

    def __init__(self, video: VideoStream, counts: Counter[str]) -> None:
        self._concealment = Concealment(video.codec_context)
        self._intra_only = video.codec_context.codec.intra_only
        self._recent: deque[bool] = deque(maxlen=_RECENT_FRAMES)
        self._counts = counts

    def decode(self, packet: av.Packet[Any]) -> list[av.VideoFrame]:
        """Returns the frames to show. Raises av.FFmpegError for an undecodable packet."""
        self._concealment.note(packet)
        try:
            images: list[av.VideoFrame] = packet.decode()
        except av.FFmpegError:
            if not (images := self._concealment.again(packet)):
                raise
        return [image for image in images if self._is_shown(image)]

    def _is_shown(self, image: av.VideoFrame) -> bool:
        count = self._concealment.damaged(image)
        self._counts["frames_corrupt"] += count
        self._counts["frames_missing"] += self._concealment.missing(image)
        self._recent.append(count > 0)
        return not (count and self._intra_only) or sum(self._recent) > _MAX_DROPPED_FRAMES
