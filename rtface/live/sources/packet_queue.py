"""Queues packets of a source in the jitter buffer until due."""

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

from rtface.concurrency.child_main import ParentProcess
from rtface.concurrency.threads import call_in_thread
from rtface.live.messages import SoundPacketReady, SourceRequest
from rtface.live.protocols import REST_S
from rtface.live.sources.open_stream import OpenedInput
from rtface.live.sources.playback_pace import CUSHION_S, BurstDetector, PlaybackPace, as_sent, longest_wait, repeated
from rtface.live.sources.sound_to_aac import AacConverter
from rtface.live.sources.source_times import Backlog, JitterBuffer
from rtface.media.read.arrivals import Arrival, is_sent_at_once, look_at, rate_of_arrivals, stamp_of
from rtface.media.read.container import is_unsized_end

# Seconds that a packet may be overdue before frames are dropped to catch up.
_MAX_LATE_S = 0.4
# Number of packets that may be overdue, because some sources deliver as fast as they are read.
_MAX_OVERDUE_PACKETS = 60
# Maximum number of queued video packets if none may be dropped. If the queue is full, the sender has to wait.
_MAX_QUEUED = 3000
# Seconds that a film is read ahead, because frames and sound of the same time may be far apart in the file.
_READ_AHEAD_S = 1.5
# Packets that a server had buffered arrive faster than real time, like those of a film. The probe continues until they
# slow down. Its limits: seconds by timestamps, number of packets, and real seconds. The last value is the probe's step.
_STAMPS_S, _PROBE_PACKETS, _PROBE_S, _PROBE_STEP_S = 20.0, 600, 3.0, 0.1


@dataclass(frozen=True, slots=True)
class QueuedPacket:
    """A video packet that waits until it is due.

    Attributes:
        due: time of decoding, on the clock of `PacketQueue.now`.
        fresh: whether the frame is shown; packets read during opening are only decoded.
    """

    packet: av.Packet[Any]
    due: float
    fresh: bool


@dataclass(frozen=True, slots=True)
class QueuedSound:
    """Sound that waits until it is due."""

    sound: SoundPacketReady
    due: float


class PacketQueue:
    """Reads packets on a thread, and returns each when it is due.

    Args:
        parent: parent process, which gets sound at once if the sound need not wait.
        request: request that identifies the source.
        counts: counters of `rtface.live.messages.Heartbeat`.

    Attributes:
        resting: whether no output has a viewer.
        playing: event that is set while playback is not paused by `hold`.
        held_s: seconds by which a film plays later because it was paused.
        buffer: jitter buffer of the source.
        backlog: backlog of the source.
    """

    def __init__(self, parent: ParentProcess, request: SourceRequest, counts: Counter[str]) -> None:
        self._parent, self._request, self._counts = parent, request, counts
        self._video, self._sounds = deque[QueuedPacket](), deque[QueuedSound]()  # in coding order
        self._changed = threading.Condition()
        self._demuxing: Future[None] = Future()
        self._received_at = time.monotonic()
        self._need_i_frame = False
        self._shown_from = -inf  # earlier packets are only decoded
        self.resting, self.playing = request.resting, threading.Event()
        if not request.held:
            self.playing.set()
        self.held_s, self._held_at = 0.0, inf
        self.buffer, self.backlog = JitterBuffer(request.buffer), Backlog()

    @property
    def quiet(self) -> float:
        """Seconds since the source last delivered data."""
        return max(0.0, time.monotonic() - self._received_at - self.buffer.seconds - self.held_s)

    def now(self) -> float:
        """Returns the playback time, which stops while a film is paused."""
        return min(time.monotonic() - self.held_s, self._held_at)

    def hold(self, due: float) -> None:
        """Pauses a film at a frame until `playing` is set. Delays later frames by the pause."""
        self._held_at = due
        while not self.playing.wait(0.2) and not self._parent.gone:
            self._received_at = time.monotonic()
        self.held_s, self._held_at = time.monotonic() - due, inf

    def next(self) -> QueuedPacket | QueuedSound | None:
        """Waits for the next due packet. Returns None after the source or the parent has ended.

        Raises:
            av.FFmpegError: reading failed.
        """
        with self._changed:
            while not self._parent.gone:
                queues = [one for one in (self._video, self._sounds) if one]
                next_queue = min(queues, key=lambda one: one[0].due, default=None)
                if next_queue is None and self._demuxing.done():
                    self._demuxing.result()
                    return None
                remaining = next_queue[0].due - self.now() if next_queue else 0.2
                if next_queue and remaining <= 0:
                    return next_queue.popleft()
                self._changed.wait(min(remaining, 0.2))
        return None

    def overdue(self) -> int:
        """Counts the queued video packets that are already due."""
        now = self.now()
        with self._changed:
            return sum(one.due <= now for one in self._video)

    def is_decoded(self, queued: QueuedPacket) -> bool:
        """Decides whether to decode a packet. If the packet is too long overdue, drops all packets up to the newest due
        I-frame, or up to the next I-frame if none is due."""
        packet = queued.packet
        if self._need_i_frame and not packet.is_keyframe:
            return False
        self._need_i_frame, now = False, self.now()
        late_s = now - queued.due
        if late_s < _MAX_LATE_S and self.overdue() < _MAX_OVERDUE_PACKETS:
            return True
        with self._changed:
            i_frames = [one for one in self._video if one.due <= now and one.packet.is_keyframe]
            while i_frames and self._video[0] is not i_frames[-1]:
                self._video.popleft()
                self._counts["dropped:source"] += 1
        if i_frames:
            return False
        self._need_i_frame = late_s > 5 * _MAX_LATE_S and not packet.is_keyframe
        return not (self._need_i_frame or packet.is_disposable)

    def probe(self, opened: OpenedInput) -> Iterator[Arrival]:
        """Returns the packets. If `opened` requests it, first decides by their arrival whether the source is live."""
        self._received_at = time.monotonic()
        packets, stream = self._arrivals(opened), opened.video or opened.sound
        if not opened.probed or stream is None:
            return packets
        look_at(packets, stream, first := deque[Arrival]())
        count, until = 0, time.monotonic() + _PROBE_S
        while True:
            leading = [(packet, arrived) for packet, arrived in first if packet.stream is stream]
            stamps, arrivals = [stamp_of(packet) for packet, _ in leading], [arrived for _, arrived in leading]
            at_once = bool(leading) and not self._request.live and is_sent_at_once(stamps, arrivals, timed=opened.timed)
            times = [stamp for stamp in stamps if stamp is not None] or [0.0]
            enough = max(times) - min(times) > _STAMPS_S or len(leading) > _PROBE_PACKETS or time.monotonic() > until
            if not at_once or self._request.whole or enough or len(first) == count:
                break
            count = len(first)
            look_at(packets, stream, first, _PROBE_STEP_S)
        opened.by_arrival = bool(leading) and not at_once
        if opened.by_arrival:
            self._shown_from = -inf if self._request.whole else arrivals[-1]
            self.buffer = JitterBuffer(self._request.buffer, longest_wait(stamps, arrivals))
            opened.rate = (not opened.timed and rate_of_arrivals(arrivals)) or opened.rate
        return chain(first, packets)

    def start(self, packets: Iterator[Arrival], opened: OpenedInput, track: AacConverter | None) -> None:
        """Starts to read packets and to convert sound to AAC."""
        self._demuxing = call_in_thread("demux", self._demux, packets, opened, track)

    def send_sound(self, sound: SoundPacketReady) -> None:
        """Sends sound to the run."""
        self._parent.send(replace(sound, captured=sound.captured + self.held_s))

    def _arrivals(self, opened: OpenedInput) -> Iterator[Arrival]:
        """Yields packets with their arrival times on `time.monotonic()`."""
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

    def _demux(self, packets: Iterator[Arrival], opened: OpenedInput, track: AacConverter | None) -> None:
        """Queues packets as they arrive, and sends sound to the run."""
        pace = None if opened.by_arrival else PlaybackPace(CUSHION_S if opened.pieces and not opened.film else 0.0)
        burst = BurstDetector() if opened.by_arrival and opened.timed and not opened.monotonic else None
        leading = opened.video or opened.sound
        if burst is not None and leading is not None and self._request.whole and not self._request.live:
            packets, burst = as_sent(packets, leading), None
        intra_only, queued_at = opened.alone, -inf
        for packet, arrived in packets:
            if pace is not None:
                arrived = pace.due(packet, self.now())
                self._wait_for(arrived - _READ_AHEAD_S)
            elif not opened.timed:
                packet.pts, packet.dts = None, round(arrived / packet.time_base)
            if self._parent.gone:
                return
            if burst is not None and packet.stream is leading and burst.over(packet, arrived):
                burst = None
            if opened.video is not None and packet.stream_index == opened.video.index:
                if self.resting and intra_only and arrived - queued_at < REST_S:
                    continue
                queued_at = arrived
                if opened.by_arrival and opened.timed and self._request.kind in ("stream", "file"):
                    self.backlog.note(stamp_of(packet), arrived)
                fresh = burst is None and arrived >= self._shown_from
                due = arrived if pace or opened.monotonic else self.buffer.due(stamp_of(packet), arrived)
                with self._changed:
                    self._video.append(QueuedPacket(packet, due if fresh else arrived, fresh))
                    self._changed.notify()
                while self._request.whole and len(self._video) > _MAX_QUEUED and not self._parent.gone:
                    time.sleep(0.05)
            elif track is not None:
                for sound in track.push(packet, arrived):
                    if burst is None:
                        self._queue_sound(sound, arrived)
                self._counts["sounds_undecoded"] = track.errors

    def _queue_sound(self, sound: SoundPacketReady, arrived: float) -> None:
        """Delays sound as much as video, so that they stay in sync."""
        due = self.buffer.sound_due(sound.stamp, arrived)
        waits = self._request.whole and not self.playing.is_set()  # waits for the paused frame of the same time
        if waits or due > self.now() or self._sounds:
            with self._changed:
                self._sounds.append(QueuedSound(sound, due))
                self._changed.notify()
        else:
            self.send_sound(sound)

    def _wait_for(self, due: float) -> None:
        while (remaining := due - self.now()) > 0 and not self._parent.gone:
            time.sleep(min(remaining, 0.2))
            self._received_at = time.monotonic()
