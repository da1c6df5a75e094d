"""Interleaves encoded frames and packets by time, in bounded memory."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import count
from typing import Any, TypeAlias

import av
from av.container import OutputContainer
from av.stream import Stream

from rtface.media.formats.mp4_texts import TextTrack
from rtface.media.formats.pixel_format import pixel_format_info
from rtface.media.write.stream_plan import OutputPlan
from rtface.stats import Stats

AnyPacket: TypeAlias = "av.Packet[Any]"

# Maximum bytes of other streams' packets that wait for frames of the same time.
WAITING_BYTES = 32 << 20
# Maximum bytes of encoded frames in the muxer while it waits for a stream that has no packets.
_MUXER_BYTES = 32 << 20
# A crash loses the frames inside the encoder (libx264: about 40), and half a second of the film, or this many bytes.
_CHUNK_BYTES = 1 << 20
# The header of MP4 is written when every stream has sent a packet, or after this time or this many bytes.
_SILENT_S, SILENT_BYTES = 5, 16 << 20


def muxer_options(plan: OutputPlan, *, silent: bool = False) -> dict[str, str]:
    """Returns options for a playable working file and bounded memory.

    Args:
        plan: plan of the output.
        silent: whether some stream has no packets in the first seconds.
    """
    shape = pixel_format_info(plan.video.pix_fmt)
    planes = 1.0 if shape.model == "gray" else 1 + 2 / (shape.sampling[0] * shape.sampling[1])
    samples = plan.video.width * plan.video.height * planes * float(plan.video.rate)  # per second
    seconds = min(1.0, max(0.05, _MUXER_BYTES / max(1.0, samples * (1 if shape.bits <= 8 else 2))))
    options = {"max_interleave_delta": str(round(1e6 * seconds))}
    texts = any(s.action == "text" or (s.action == "copy" and s.stream.codec == "mov_text") for s in plan.streams)
    if plan.format in ("mp4", "mov") and texts:
        # No fragments: FFmpeg 8.1 aborts if one ends before the frames reach its texts (assertion next_dts >= 0).
        options |= {"use_editlist": "1", "movflags": "use_metadata_tags"}
    elif plan.format in ("mp4", "mov"):
        # delay_moov writes the header when all streams have started, with their exact start times. For a silent stream,
        # it would wait with everything in memory; empty_moov does not wait, and writes the start times at the end.
        # AC-3 always needs delay_moov, because the data for its header comes from a packet.
        empty_moov = silent and not any(s.action == "copy" and s.stream.codec in ("ac3", "eac3") for s in plan.streams)
        options |= {
            "movflags": f"hybrid_fragmented+use_metadata_tags+{'empty_moov' if empty_moov else 'delay_moov'}",
            "use_editlist": "1",
            "frag_duration": "500000",
            "frag_size": str(_CHUNK_BYTES),
        }
    elif plan.format in ("matroska", "webm"):
        options |= {"cluster_time_limit": "500", "cluster_size_limit": str(_CHUNK_BYTES), "default_mode": "passthrough"}
    elif plan.format == "mpegts":
        # The clock precedes a frame's decoding time by this many microseconds, as in the ffmpeg program; the film
        # starts at twice this time. With less, data was late, and GStreamer could not seek if the sound starts first.
        options["max_delay"] = "700000"
    elif plan.format == "mxf":
        options["strict"] = "unofficial"  # allows frame rates that television does not use
    return options


class Muxer:
    """Orders packets by time and passes them to FFmpeg.

    Frames set the pace: a packet of another stream waits until the frames have reached its time. MP4 and MOV are
    written only after every stream in `awaited` has sent a packet, or after a limit of time and size.

    Args:
        container: container with all its streams added.
        plan: plan of the output.
        video: index of the video stream in the container.
        texts: text streams of MP4 and MOV.
        awaited: indexes of the streams that should have packets at the start.
        stats: receives counters.
    """

    def __init__(
        self,
        container: OutputContainer,
        plan: OutputPlan,
        video: int,
        *,
        texts: Iterable[Stream],
        awaited: Iterable[int],
        stats: Stats,
    ) -> None:
        self._container, self._plan, self._video, self._stats = container, plan, video, stats
        self._order = count()
        self._queue: list[tuple[float, int, AnyPacket]] = []
        self._early: list[AnyPacket] | None = []  # packets before the header
        self._early_bytes = 0
        self._awaited = set(awaited)
        self._texts = {stream.index: TextTrack(stream) for stream in texts}
        self._last_dts: dict[int, int] = {}
        self._video_times: dict[int, float] = {}
        self.waiting_bytes = 0
        self.reached = 0.0  # seconds of the output that the frames have reached

    def frame(self, packet: AnyPacket) -> None:
        """Muxes an encoded frame after all earlier packets."""
        stamp = packet.dts if packet.dts is not None else packet.pts
        base = packet.time_base
        time = (stamp or 0) * base.numerator / base.denominator
        self._release(time)
        self.reached = max(self.reached, time)
        self._mux(packet)

    def wait(self, target: Stream, packets: Iterable[AnyPacket]) -> None:
        """Queues packets of another stream until the frames reach their time."""
        if (texts := self._texts.get(target.index)) is not None:
            packets = [part for packet in packets for part in texts.split(packet, self.reached)]
        for packet in packets:
            packet.stream = target
            stamp = packet.dts if packet.dts is not None else packet.pts
            time = self.reached if stamp is None else float(stamp * packet.time_base)
            if target.type == "video":  # Matroska has no dts for the first frames, and their pts may fall
                time = self._video_times[target.index] = max(time, self._video_times.get(target.index, time))
            heapq.heappush(self._queue, (time, next(self._order), packet))
            self.waiting_bytes += packet.size
        while self.waiting_bytes > WAITING_BYTES:
            self._release(self._queue[0][0])

    def flush(self) -> None:
        """Muxes all waiting packets."""
        self._release(float("inf"))
        if self._early:
            self._write_header(silent=False)

    def _release(self, time: float) -> None:
        while self._queue and self._queue[0][0] <= time:
            packet = heapq.heappop(self._queue)[2]
            self.waiting_bytes -= packet.size
            self._mux(packet)

    def _mux(self, packet: AnyPacket) -> None:
        if self._early is None:
            self._put(packet)
            return
        self._early.append(packet)
        self._early_bytes += packet.size
        self._awaited.discard(packet.stream_index)
        waits_for_all = self._plan.format in ("mp4", "mov")  # their header waits for all streams
        ready = not waits_for_all or not self._awaited or self._early_bytes > SILENT_BYTES or self.reached > _SILENT_S
        if ready and packet.stream_index == self._video:
            self._write_header(silent=bool(self._awaited))
        elif self._early_bytes > SILENT_BYTES:  # the first frame is late
            self._write_header(silent=True)

    def _write_header(self, *, silent: bool) -> None:
        """Writes the header and the packets that waited for it."""
        packets, self._early = self._early or [], None
        self._container.container_options.clear()
        self._container.container_options.update(muxer_options(self._plan, silent=silent))
        for packet in packets:
            self._put(packet)

    def _put(self, packet: AnyPacket) -> None:
        index, dts = packet.stream_index, packet.dts
        if (texts := self._texts.get(index)) is not None:
            for part in texts.put(packet):
                self._container.mux_one(part)
            if texts.joined:
                self._stats.warn(
                    "texts_joined",
                    "some subtitles overlap in time: this container allows one at a time, so they are joined; a .mkv "
                    "output keeps them apart",
                )
                texts.joined = 0
            return
        if dts is not None and index != self._video:
            last = self._last_dts.get(index)
            # Several texts may start at the same time; other streams need rising times.
            if last is not None and (dts < last or (dts == last and packet.stream.type != "subtitle")):
                packet.dts = dts = last + 1
                packet.pts = dts if packet.pts is None else max(packet.pts, dts)
            self._last_dts[index] = dts
        self._container.mux_one(packet)
