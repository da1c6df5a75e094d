"""Copies coded frames without changes, and encodes changed ones."""

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

# How far the encoder's QP is below the input's mean QP, and the lowest QP to request: 0 needs another profile.
_FINER_QP, _LOWEST_QP = 1.0, 1.0
# Number of a group's frames that are measured before they are encoded: only decoded frames show their mean QP.
_MEASURED = 10


def header_of(copy: PacketCopy, video: VideoPlan) -> bytes:
    """Returns the header of a film with copied and encoded frames."""
    if isinstance(copy, IntraCopy):
        return bytes(opened_intra(video).extradata or b"")
    return copy.shared_header(bytes(_opened(video, float(video.options["crf"]), header=True).extradata or b""))


class CopyEncoder:
    """Copies coded frames of the input if possible, and encodes the others.

    It is used like a `FrameEncoder`. A group is copied up to the mini-GOP with its first changed frame. A new encoder
    encodes the rest, from an IDR frame to the end of the group, or in HEVC up to its next CRA frame. Only the frames of
    one mini-GOP are held. A group's result depends on nothing outside it, so a film can be made in parts that begin
    with a group.

    Args:
        copy: how packets are copied.
        video: how the other frames are encoded.
        start: time at which the frames begin, in seconds of the input's clock; None for its beginning.
        origin: the time of the input's clock that becomes 0, in seconds.
        stats: receives counters.

    Attributes:
        base: seconds of one unit of the packets' times.
        header: header of the output.
        last: pts of the last frame.
        frames: number of frames taken so far.
        copied: numbers of the first and last frame of each run of copied frames.
    """

    def __init__(
        self, copy: PacketCopy, video: VideoPlan, start: Fraction | None, origin: Fraction, stats: Stats
    ) -> None:
        self._copy, self._video, self._origin, self._stats = copy, video, origin, stats
        self.base, self.header = video.time_base, header_of(copy, video)
        self.last, self.frames, self.copied = 0, 0, list[tuple[int, int]]()
        self._reader, self._ahead = mini_gops(copy.path, start), list[MiniGop]()
        self._gop: MiniGop | None = None
        self._copies = False  # whether the whole group has been copied so far
        self._held: list[tuple[Frame, tuple[int, int]]] = []
        self._waiting: list[tuple[Frame, tuple[int, int], MiniGop | None]] = []  # frames of one group
        self._stamps = OutputTimes(self.base, origin, stats)
        self._times = DecodingTimes(copy.delay)
        self._encoder: FrameEncoder | None = None
        self._quality = _SourceQuality()
        self._ready: list[AnyPacket] = []
        # The last copied CRA frame with leading frames. FFmpeg 8 cannot begin decoding there if an IDR frame is next
        # ("Duplicate POC"): in that case the container does not mark it as a keyframe.
        self._entry: AnyPacket | None = None

    def encode(self, frame: Frame) -> list[AnyPacket]:
        """Takes the next frame; returns the packets that are ready."""
        stamp = self._stamps.of(frame)
        self.last, self.frames = stamp[0], self.frames + 1
        self._times.begin([self.last], self._lead(frame.time_base) if self.frames == 1 else ())
        if not self._held:
            self._advance(frame.pts)
        self._held.append((frame, stamp))
        if self._gop is not None:
            self._quality.note(frame, self._gop)
        gop, count = self._gop, len(self._held)
        resumes = gop is not None and gop.opens and gop.sound and not (self._copies or frame.touched)
        if isinstance(self._copy, GroupCopy) and gop is not None and resumes and frame.pts == gop.shown[-1]:
            self._end_encoder()  # the frames shown before this one are encoded
            self._copies, self._quality = True, _SourceQuality()
            self._copy_held([self._copy.kept(gop.packets[0], enters=True)])
        elif gop is None or not self._copies or frame.touched or frame.pts != gop.shown[count - 1]:
            self._encode_held()
        elif count == len(gop.shown):
            kept = [*map(self._copy.kept, gop.packets)] if isinstance(self._copy, GroupCopy) else gop.packets
            self._copy_held(kept)
            self._entry = kept[0] if gop.opens else None
        return self._take_ready()

    def flush(self) -> list[AnyPacket]:
        """Returns the remaining packets; takes no frame after that."""
        self._encode_held()
        self._end_encoder()
        self.close()
        self._entry = None
        return self._take_ready()

    def close(self) -> None:
        """Closes the input."""
        self._reader.close()

    def _take_ready(self) -> list[AnyPacket]:
        end = len(self._ready) if self._entry is None else self._ready.index(self._entry)
        ready, self._ready = self._ready[:end], self._ready[end:]
        return ready

    def _lead(self, unit: Fraction) -> list[int]:
        """Returns decoding times of the first frames, as an encoder makes them. Their intervals are those of the
        input's frames."""
        shown: list[int] = []
        while len(shown) <= self._copy.delay and (gop := next(self._reader, None)) is not None:
            self._ahead.append(gop)
            shown += gop.shown
        if len(shown) <= self._copy.delay:
            return []
        scale = unit / self.base
        return [self.last + round((time - shown[self._copy.delay]) * scale) for time in shown[: self._copy.delay]]

    def _advance(self, pts: int) -> None:
        """Advances to the mini-GOP that shows a frame."""
        passed = 0
        while self._gop is None or self._gop.shown[-1] < pts:
            self._gop = self._ahead.pop(0) if self._ahead else next(self._reader, None)
            self._copies = self._copies and not passed
            if self._gop is None:
                self._copies = False
                return
            if self._gop.begins:
                self._end_encoder()
                self._copies, self._quality = True, _SourceQuality()
            self._copies = self._copies and self._gop.sound and self._gop.depth <= self._copy.delay
            passed += 1

    def _copy_held(self, packets: list[AnyPacket]) -> None:
        stamps = {frame.pts: stamp for frame, stamp in self._held}
        self._held.clear()
        for packet in packets:
            assert packet.pts is not None
            packet.pts, packet.duration = stamps[packet.pts]
            self._put(packet)
        first = self.frames - len(stamps)
        if self.copied and self.copied[-1][1] == first - 1:
            first = self.copied.pop()[0]
        self.copied.append((first, self.frames - 1))
        self._stats.count("packets_copied", len(stamps))

    def _encode_held(self) -> None:
        self._copies = False
        self._waiting += [(frame, stamp, self._gop) for frame, stamp in self._held]
        self._held.clear()
        if self._encoder is not None or isinstance(self._copy, IntraCopy) or len(self._waiting) >= _MEASURED:
            self._encode_waiting()

    def _encode_waiting(self) -> None:
        for frame, stamp, gop in self._waiting:
            if self._encoder is None:
                self._encoder = FrameEncoder(self._open(gop), self._video, self._origin, self._stats)
            self._put_encoded(self._encoder.encode(frame, stamp))
        self._waiting.clear()

    def _end_encoder(self) -> None:
        self._encode_waiting()
        if self._encoder is not None:
            self._put_encoded(self._encoder.flush())
            self._encoder = None

    def _put_encoded(self, packets: list[AnyPacket]) -> None:
        if packets and self._entry is not None:
            self._entry.is_keyframe, self._entry = False, None
        for packet in packets:
            framed: AnyPacket = av.Packet(self._copy.framed(bytes(packet), self._source()))
            framed.pts, framed.duration, framed.is_keyframe = packet.pts, packet.duration, packet.is_keyframe
            self._put(framed)

    def _put(self, packet: AnyPacket) -> None:
        assert packet.pts is not None
        packet.time_base, packet.dts = self.base, self._times.next(packet.pts)
        self._ready.append(packet)

    def _source(self) -> bytes:
        """Returns the first coded frame of the current mini-GOP."""
        return bytes(self._gop.packets[0]) if self._gop is not None else b""

    def _open(self, gop: MiniGop | None) -> av.VideoCodecContext | JpegEncoder:
        """Opens an encoder for the frames from a mini-GOP on. Without a mini-GOP, the requested quality applies."""
        if isinstance(self._copy, IntraCopy):
            return self._copy.opened(self._video, self._source())
        crf = float(self._video.options["crf"])
        qp, ratios = self._quality.options(gop, crf) if gop is not None and gop.ahead else (crf, "")
        return _opened(self._video, qp, ratios, header=self._copy.apart)


def _opened(video: VideoPlan, qp: float, ratios: str = "", *, header: bool) -> av.VideoCodecContext:
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
    """Measures the input's quantisers, for an encoder that must not be coarser.

    A slice's header gives only the QP of its first block. Decoded frames show how far the mean of all blocks is from
    it, for each type of slice.
    """

    def __init__(self) -> None:
        self._added: dict[str, float] = {}

    def note(self, frame: Frame, gop: MiniGop) -> None:
        """Measures a decoded frame."""
        if frame.quantisers is None or frame.pts not in gop.slices:
            return
        kind, qp = gop.slices[frame.pts]
        added = 4 + 6 * float(np.log2(frame.quantisers.steps).mean()) - qp
        self._added[kind] = added + 0.9 * (self._added.get(kind, added) - added)

    def options(self, gop: MiniGop, crf: float) -> tuple[float, str]:
        """Returns an encoder's quantiser, and its I, P, B ratios as parameters."""
        usual = fmean(self._added.values()) if self._added else 0.0
        mean = {kind: qp + self._added.get(kind, usual) for kind, qp in gop.ahead.items()}
        base = min((mean[kind] for kind in ("P", "B") if kind in mean), default=mean.get("I", 0.0))
        steps = max(0.0, base - mean.get("I", base)), max(0.0, mean.get("B", base) - base)
        intra, both = (2 ** (step / 6) for step in steps)
        return max(_LOWEST_QP, min(base - _FINER_QP, crf)), f":ipratio={intra:.2f}:pbratio={both:.2f}"
