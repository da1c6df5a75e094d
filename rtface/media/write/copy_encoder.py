"""Copies unchanged coded frames, and encodes changed ones."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import floor
from statistics import fmean

import av
import numpy as np
from av.codec.context import Flags

from rtface.frame import Frame
from rtface.media.formats.pixel_format import pixel_format_info
from rtface.media.read.mini_gops import MiniGop, mini_gops
from rtface.media.write.decoding_times import DecodingTimes
from rtface.media.write.encoders import VideoPlan, new_context, open_encoder
from rtface.media.write.frame_encoder import FrameEncoder, OutputTimes
from rtface.media.write.intra_copy import IntraCopy, JpegEncoder, opened_intra
from rtface.media.write.muxer import AnyPacket
from rtface.media.write.packet_copy import GroupCopy, PacketCopy
from rtface.stats import Stats

# The encoder's QP is 1 below the input's mean QP, and at least 1, because 0 needs another profile.
_FINER_QP, _LOWEST_QP = 1.0, 1.0
# Number of frames in a group to measure before the first is encoded: only decoded frames show their mean QP.
_MEASURED = 10


def header_of(copy: PacketCopy, video: VideoPlan) -> bytes:
    """Returns the codec header of a film with copied and encoded frames."""
    if isinstance(copy, IntraCopy):
        return bytes(opened_intra(video).extradata or b"")
    return copy.shared_header(bytes(_open_fixed_qp(video, float(video.options["crf"]), header=True).extradata or b""))


class CopyEncoder:
    """Copies coded frames of the input if possible, and encodes the others.

    The interface is that of `FrameEncoder`. A group is copied up to the mini-GOP that contains its first changed frame.
    A new encoder encodes the later frames, starting with an IDR frame, up to the end of the group (HEVC: up to its next
    CRA frame). Only a few frames are buffered. The result of a group does not depend on other groups, so a film can be
    encoded in parts that start at group boundaries.

    Args:
        copy: settings for copying packets.
        video: plan for encoding the other frames.
        start: time of the first frame in seconds, on the input's clock; None for the start of the input.
        origin: time on the input's clock that becomes 0 in the output, in seconds.
        stats: receives counters.

    Attributes:
        base: time base of the packets, in seconds.
        header: header of the output.
        last: pts of the last frame.
        frames: number of frames accepted so far.
        copied: number of the first and of the last frame in each series of copied frames.
    """

    def __init__(
        self, copy: PacketCopy, video: VideoPlan, start: Fraction | None, origin: Fraction, stats: Stats
    ) -> None:
        self._copy, self._video, self._origin, self._stats = copy, video, origin, stats
        self.base, self.header = video.time_base, header_of(copy, video)
        self.last, self.frames, self.copied = 0, 0, list[tuple[int, int]]()
        self._reader, self._read_ahead = mini_gops(copy.path, start), list[MiniGop]()
        self._gop: MiniGop | None = None
        self._copying = False  # whether the whole group has been copied so far
        self._buffered: list[tuple[Frame, tuple[int, int]]] = []
        self._pending: list[tuple[Frame, tuple[int, int], MiniGop | None]] = []  # frames of one group
        self._stamps = OutputTimes(self.base, origin, stats)
        self._times = DecodingTimes(copy.delay)
        self._encoder: FrameEncoder | None = None
        self._quality = _SourceQuality()
        self._output: list[AnyPacket] = []
        # The last copied CRA frame with leading frames. FFmpeg 8 cannot start decoding at it if an IDR frame follows
        # ("Duplicate POC"); in that case, it is not marked as a keyframe.
        self._cra_packet: AnyPacket | None = None

    def encode(self, frame: Frame) -> list[AnyPacket]:
        """Copies or encodes the next frame. Returns the packets that are ready."""
        stamp = self._stamps.of(frame)
        self.last, self.frames = stamp[0], self.frames + 1
        self._times.begin([self.last], self._first_decoding_times(frame.time_base) if self.frames == 1 else ())
        if not self._buffered:
            self._advance(frame.pts)
        self._buffered.append((frame, stamp))
        if self._gop is not None:
            self._quality.note(frame, self._gop)
        gop, count = self._gop, len(self._buffered)
        resumes = gop is not None and gop.opens and gop.sound and not (self._copying or frame.touched)
        if isinstance(self._copy, GroupCopy) and gop is not None and resumes and frame.pts == gop.shown[-1]:
            self._end_encoder()  # finishes the frames shown before this one
            self._copying, self._quality = True, _SourceQuality()
            self._copy_buffered([self._copy.kept(gop.packets[0], enters=True)])
        elif gop is None or not self._copying or frame.touched or frame.pts != gop.shown[count - 1]:
            self._encode_buffered()
        elif count == len(gop.shown):
            packets = [*map(self._copy.kept, gop.packets)] if isinstance(self._copy, GroupCopy) else gop.packets
            self._copy_buffered(packets)
            self._cra_packet = packets[0] if gop.opens else None
        return self._pop_output()

    def flush(self) -> list[AnyPacket]:
        """Returns the remaining packets. No frame may follow."""
        self._encode_buffered()
        self._end_encoder()
        self.close()
        self._cra_packet = None
        return self._pop_output()

    def close(self) -> None:
        """Closes the input."""
        self._reader.close()

    def _pop_output(self) -> list[AnyPacket]:
        end = len(self._output) if self._cra_packet is None else self._output.index(self._cra_packet)
        packets, self._output = self._output[:end], self._output[end:]
        return packets

    def _first_decoding_times(self, unit: Fraction) -> list[int]:
        """Returns the decoding times before the first frame's time. They are spaced like the input's first frames.
        Returns an empty list if the input is too short."""
        times: list[int] = []
        while len(times) <= self._copy.delay and (gop := next(self._reader, None)) is not None:
            self._read_ahead.append(gop)
            times += gop.shown
        if len(times) <= self._copy.delay:
            return []
        scale = unit / self.base
        return [self.last + round((time - times[self._copy.delay]) * scale) for time in times[: self._copy.delay]]

    def _advance(self, pts: int) -> None:
        """Advances to the mini-GOP that contains the frame with a pts."""
        advanced = 0
        while self._gop is None or self._gop.shown[-1] < pts:
            self._gop = self._read_ahead.pop(0) if self._read_ahead else next(self._reader, None)
            self._copying = self._copying and not advanced
            if self._gop is None:
                self._copying = False
                return
            if self._gop.begins:
                self._end_encoder()
                self._copying, self._quality = True, _SourceQuality()
            self._copying = self._copying and self._gop.sound and self._gop.depth <= self._copy.delay
            advanced += 1

    def _copy_buffered(self, packets: list[AnyPacket]) -> None:
        stamps = {frame.pts: stamp for frame, stamp in self._buffered}
        self._buffered.clear()
        for packet in packets:
            assert packet.pts is not None
            packet.pts, packet.duration = stamps[packet.pts]
            self._put(packet)
        first = self.frames - len(stamps)
        if self.copied and self.copied[-1][1] == first - 1:
            first = self.copied.pop()[0]
        self.copied.append((first, self.frames - 1))
        self._stats.count("packets_copied", len(stamps))

    def _encode_buffered(self) -> None:
        self._copying = False
        self._pending += [(frame, stamp, self._gop) for frame, stamp in self._buffered]
        self._buffered.clear()
        if self._encoder is not None or isinstance(self._copy, IntraCopy) or len(self._pending) >= _MEASURED:
            self._encode_pending()

    def _encode_pending(self) -> None:
        for frame, stamp, gop in self._pending:
            if self._encoder is None:
                self._encoder = FrameEncoder(self._open(gop), self._video, self._origin, self._stats)
            self._put_encoded(self._encoder.encode(frame, stamp))
        self._pending.clear()

    def _end_encoder(self) -> None:
        self._encode_pending()
        if self._encoder is not None:
            self._put_encoded(self._encoder.flush())
            self._encoder = None

    def _put_encoded(self, packets: list[AnyPacket]) -> None:
        if packets and self._cra_packet is not None:
            self._cra_packet.is_keyframe, self._cra_packet = False, None
        for packet in packets:
            framed: AnyPacket = av.Packet(self._copy.framed(bytes(packet), self._source()))
            framed.pts, framed.duration, framed.is_keyframe = packet.pts, packet.duration, packet.is_keyframe
            self._put(framed)

    def _put(self, packet: AnyPacket) -> None:
        assert packet.pts is not None
        packet.time_base, packet.dts = self.base, self._times.next(packet.pts)
        self._output.append(packet)

    def _source(self) -> bytes:
        """Returns the first coded frame of the current mini-GOP."""
        return bytes(self._gop.packets[0]) if self._gop is not None else b""

    def _open(self, gop: MiniGop | None) -> av.VideoCodecContext | JpegEncoder:
        """Opens an encoder that starts at a mini-GOP. Without a mini-GOP, the requested quality applies."""
        if isinstance(self._copy, IntraCopy):
            return self._copy.opened(self._video, self._source())
        crf = float(self._video.options["crf"])
        qp, ratios = self._quality.options(gop, crf) if gop is not None and gop.ahead else (crf, "")
        return _open_fixed_qp(self._video, qp, ratios, header=self._copy.apart)


def _open_fixed_qp(video: VideoPlan, qp: float, ratios: str = "", *, header: bool) -> av.VideoCodecContext:
    """Opens a constant-QP encoder, with its header separate or in the stream."""
    options, x264 = {name: value for name, value in video.options.items() if name != "crf"}, video.encoder == "libx264"
    options["qp"] = str(floor(qp + 6 * (pixel_format_info(video.pix_fmt).bits - 8) * x264))
    options[f"{video.encoder.removeprefix('lib')}-params"] += ratios
    if x264 and not header:
        options["aud"] = "1"
    context = new_context(replace(video, options=options))
    if header:
        context.flags |= Flags.global_header
    open_encoder(context)
    return context


class _SourceQuality:
    """Measures the input's quantisers, so that the encoder is not coarser.

    A slice header contains only the QP of its first block. Decoded frames show by how much the mean over all blocks
    differs; the difference is averaged for each slice type.
    """

    def __init__(self) -> None:
        self._qp_offsets: dict[str, float] = {}

    def note(self, frame: Frame, gop: MiniGop) -> None:
        """Measures a decoded frame."""
        if frame.quantisers is None or frame.pts not in gop.slices:
            return
        kind, qp = gop.slices[frame.pts]
        qp_offset = 4 + 6 * float(np.log2(frame.quantisers.steps).mean()) - qp
        self._qp_offsets[kind] = qp_offset + 0.9 * (self._qp_offsets.get(kind, qp_offset) - qp_offset)

    def options(self, gop: MiniGop, crf: float) -> tuple[float, str]:
        """Returns an encoder's QP, and its I and B ratios as parameters."""
        mean_offset = fmean(self._qp_offsets.values()) if self._qp_offsets else 0.0
        mean = {kind: qp + self._qp_offsets.get(kind, mean_offset) for kind, qp in gop.ahead.items()}
        base = min((mean[kind] for kind in ("P", "B") if kind in mean), default=mean.get("I", 0.0))
        steps = max(0.0, base - mean.get("I", base)), max(0.0, mean.get("B", base) - base)
        i_ratio, b_ratio = (2 ** (step / 6) for step in steps)
        return max(_LOWEST_QP, min(base - _FINER_QP, crf)), f":ipratio={i_ratio:.2f}:pbratio={b_ratio:.2f}"
