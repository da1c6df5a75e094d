"""Encoded frames and the packets of other streams, put in the order of time and into the file, in bounded memory."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any, TypeAlias

import av
from av.container import OutputContainer
from av.stream import Stream

from rtface.media.formats import mxf
from rtface.media.formats.mp4_texts import TextTrack
from rtface.media.write.stream_plan import OutputPlan, raw_bytes_a_second
from rtface.stats import Stats

AnyPacket: TypeAlias = "av.Packet[Any]"

# Packets of other streams that wait for the frames of the same time.
WAITING_BYTES = 32 << 20
# Encoded frames that may lie in the muxer while a stream with nothing to say holds it up.
_MUXER_BYTES = 32 << 20
# What a crash can cost besides the frames that the encoder still holds (its look-ahead: some 40 with libx264): half a
# second, or this much.
_PIECE_BYTES = 1 << 20


def muxer_options(plan: OutputPlan) -> dict[str, str]:
    """Options that keep memory bounded, and the working file of Matroska readable at any time."""
    seconds = min(1.0, max(0.05, _MUXER_BYTES / max(1.0, raw_bytes_a_second(plan))))
    options = {"max_interleave_delta": str(round(1e6 * seconds))}
    if plan.format in ("mp4", "mov"):
        options["use_editlist"] = "1"
        if not any(s.action == "cover" for s in plan.streams):
            options["movflags"] = "use_metadata_tags"  # has a place for own names, the other form of tags for covers
    elif plan.format in ("matroska", "webm"):
        options |= {"cluster_time_limit": "500", "cluster_size_limit": str(_PIECE_BYTES), "default_mode": "passthrough"}
    elif plan.format == "mpegts":
        # The clock is ahead of a frame's time of decoding by as many microseconds as FFmpeg's own program sets, and the
        # film begins twice as late: else data came late, and GStreamer could not seek where sound begins first.
        options["max_delay"] = "700000"
    elif plan.format == "mxf":
        options |= mxf.muxer_options(plan.video.rate)
    return options


class Muxer:
    """Puts packets in the order of time and hands them to FFmpeg.

    Frames set the pace: a packet of another stream waits until the frames have come to its time.

    Args:
        container: with all its streams added.
        video: index of the video stream in it.
        covers: cover images, written first.
        texts: text streams of MP4 and MOV.
        pace: called with the seconds that the frames have come to.
        stats: receives counters.
    """

    def __init__(
        self,
        container: OutputContainer,
        video: int,
        *,
        covers: Sequence[AnyPacket],
        texts: Iterable[Stream],
        pace: Callable[[float], None] | None = None,
        stats: Stats,
    ) -> None:
        self._container, self._video, self._stats = container, video, stats
        self._pace = pace
        self._order = count()
        self._waiting: list[tuple[float, int, AnyPacket]] = []
        self._covers = list(covers)
        self._texts = {stream.index: TextTrack(stream) for stream in texts}
        self._last: dict[int, int] = {}
        self._queued: dict[int, float] = {}
        self.waiting_bytes = 0
        self.reached = 0.0  # seconds of the output that the frames have come to

    def frame(self, packet: AnyPacket) -> None:
        """Muxes an encoded frame behind everything that comes before it in time."""
        stamp = packet.dts if packet.dts is not None else packet.pts
        base = packet.time_base
        time = (stamp or 0) * base.numerator / base.denominator
        self._release(time)
        self.reached = max(self.reached, time)
        if self._pace is not None:
            self._pace(self.reached)
        self._mux(packet)

    def wait(self, target: Stream, packets: Iterable[AnyPacket]) -> None:
        """Takes packets of another stream, to be muxed with the frames of their time."""
        if (texts := self._texts.get(target.index)) is not None:
            packets = [part for packet in packets for part in texts.split(packet, self.reached)]
        for packet in packets:
            packet.stream = target
            stamp = packet.dts if packet.dts is not None else packet.pts
            time = self.reached if stamp is None else float(stamp * packet.time_base)
            if target.type == "video":  # Matroska tells no dts of the first frames, whose pts need not rise
                time = self._queued[target.index] = max(time, self._queued.get(target.index, time))
            heapq.heappush(self._waiting, (time, next(self._order), packet))
            self.waiting_bytes += packet.size
        while self.waiting_bytes > WAITING_BYTES:
            self._stats.count("interleave_overflow")
            self._release(self._waiting[0][0])

    def flush(self) -> None:
        """Muxes everything that still waits."""
        self._release(float("inf"))

    def _release(self, time: float) -> None:
        while self._waiting and self._waiting[0][0] <= time:
            packet = heapq.heappop(self._waiting)[2]
            self.waiting_bytes -= packet.size
            self._mux(packet)

    def _mux(self, packet: AnyPacket) -> None:
        while self._covers:
            self._container.mux_one(self._covers.pop(0))
        index, dts = packet.stream_index, packet.dts
        if (texts := self._texts.get(index)) is not None:
            for part in texts.put(packet):
                self._container.mux_one(part)
            if texts.joined:
                self._stats.count("texts_joined", texts.joined)
                self._stats.warn(
                    "texts_joined",
                    "subtitles that are shown at the same time: this container holds one "
                    "after the other, so they become one there; a .mkv output keeps them apart",
                )
                texts.joined = 0
            return
        if dts is not None and index != self._video:
            last = self._last.get(index)
            # Several texts may begin together; else a stream must rise.
            if last is not None and (dts < last or (dts == last and packet.stream.type != "subtitle")):
                packet.dts = dts = last + 1
                packet.pts = dts if packet.pts is None else max(packet.pts, dts)
                self._stats.count("packet_times_moved")
            self._last[index] = dts
        self._container.mux_one(packet)
