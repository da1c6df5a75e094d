"""A film whose frames are copied as they are coded where nothing was changed, and encoded where something was."""

from __future__ import annotations

from dataclasses import replace
from math import floor
from statistics import fmean

import av
import numpy as np
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext

from rtface.frame import Frame
from rtface.media.formats.coded_headers.bits import annex_b
from rtface.media.formats.pixel_format import pixel_format_info
from rtface.media.read.mini_gops import MiniGop, mini_gops
from rtface.media.write.decoding_times import DecodingTimes
from rtface.media.write.encoders import configure, open_encoder
from rtface.media.write.file_sink import FrameFile
from rtface.media.write.frame_encoder import FrameEncoder, OutputTimes
from rtface.media.write.muxer import AnyPacket
from rtface.media.write.stream_plan import OutputPlan
from rtface.stats import Stats

# By how much QP lies below the mean of the input's, and the least that is asked for: 0 is another profile.
_FINER, _LEAST = 1.0, 1.0


class CopySink(FrameFile):
    """Writes the coded frames of the input where it can, and encodes the others.

    A group is copied up to the mini-GOP with its first changed frame; the rest of it is encoded, by an encoder that
    begins with an IDR frame and ends with the group. Only the frames of one mini-GOP are held.

    Args: as of `FrameFile`; the plan says how packets are copied.
    """

    def __init__(self, plan: OutputPlan, stats: Stats | None = None, threads: int | None = None) -> None:
        super().__init__(plan, stats, threads)
        assert plan.copy is not None
        self._copy, video = plan.copy, self.plan.video
        self._base = video.time_base
        self._reader, self._ahead = mini_gops(self._copy.path, plan.info.start), list[MiniGop]()
        self._lead = list[int]()
        self._gop: MiniGop | None = None
        self._copies = False  # whether all of the group was copied so far
        self._held: list[tuple[Frame, tuple[int, int]]] = []
        self._stamps = OutputTimes(self._base, plan.info.origin, self.stats)
        self._times = DecodingTimes(self._copy.delay)
        self._encoder: FrameEncoder | None = None
        self._quality = _SourceQuality()
        try:
            self._begin()
        except BaseException:
            self.abort(keep_partial=False)
            raise

    def flush(self) -> None:
        """Muxes what is held, and everything that waits."""
        self._encode_held()
        self._end_encoder()
        self._reader.close()
        super().flush()

    def _begin(self) -> None:
        own = self._open(None, header=True)
        target = self.streams.video.codec_context
        open_encoder(target)  # the muxer takes its parameters; what follows would be replaced when it is opened
        target.extradata = self._copy.shared_header(bytes(own.extradata or b""))
        shown: list[int] = []
        while len(shown) <= self._copy.delay and (gop := next(self._reader, None)) is not None:
            self._ahead.append(gop)
            shown += gop.shown
        # As an encoder makes them, whatever the distances of the first frames.
        scale = self.plan.info.time_base / self._base
        if len(shown) > self._copy.delay:
            self._lead = [round((time - shown[self._copy.delay]) * scale) for time in shown[: self._copy.delay]]

    def _write(self, frame: Frame) -> None:
        stamp = self._stamps.of(frame)
        self.note(stamp[0])
        self._times.begin([stamp[0]], [stamp[0] + lead for lead in self._lead] if self.frames == 1 else ())
        if not self._held:
            self._advance(frame.pts)
        self._held.append((frame, stamp))
        if self._gop is not None:
            self._quality.note(frame, self._gop)
        gop, count = self._gop, len(self._held)
        if gop is None or not self._copies or frame.touched or frame.pts != gop.shown[count - 1]:
            self._encode_held()
        elif count == len(gop.shown):
            self._copy_held(gop)

    def _advance(self, pts: int) -> None:
        """Comes to the mini-GOP in which a frame is shown."""
        passed = 0
        while self._gop is None or self._gop.shown[-1] < pts:
            self._gop = self._ahead.pop(0) if self._ahead else next(self._reader, None)
            self._copies = self._copies and not passed
            if self._gop is None:
                self._copies = False
                return
            if self._gop.begins:
                self._end_encoder()
                self._copies = True
            self._copies = self._copies and self._gop.sound and self._gop.depth <= self._copy.delay
            passed += 1

    def _copy_held(self, gop: MiniGop) -> None:
        stamps = {frame.pts: stamp for frame, stamp in self._held}
        self._held.clear()
        for packet in gop.packets:
            assert packet.pts is not None
            packet.pts, packet.duration = stamps[packet.pts]
            self._put(packet)
        first = self.frames - len(gop.packets)
        if self.copied and self.copied[-1][1] == first - 1:
            first = self.copied.pop()[0]
        self.copied.append((first, self.frames - 1))
        self.stats.count("packets_copied", len(gop.packets))

    def _encode_held(self) -> None:
        self._copies = False
        for frame, stamp in self._held:
            if self._encoder is None:
                context = self._open(self._gop, header=self._copy.prefix > 0)
                self._encoder = FrameEncoder(context, self.plan.video, self.plan.info.origin, self.stats)
            self._put_encoded(self._encoder.encode(frame, stamp))
        self._held.clear()

    def _end_encoder(self) -> None:
        if self._encoder is not None:
            self._put_encoded(self._encoder.flush())
            self._encoder = None

    def _put_encoded(self, packets: list[AnyPacket]) -> None:
        for packet in packets:
            data, size = bytes(packet), self._copy.prefix
            if size:
                units = [unit.rstrip(b"\0") for unit in annex_b(data)]
                data = b"".join(len(unit).to_bytes(size, "big") + unit for unit in units)
            own: AnyPacket = av.Packet(data)
            own.pts, own.duration, own.is_keyframe = packet.pts, packet.duration, packet.is_keyframe
            self._put(own)

    def _put(self, packet: AnyPacket) -> None:
        assert packet.pts is not None
        packet.stream, packet.time_base = self.streams.video, self._base
        packet.dts = self._times.next(packet.pts)
        self.streams.muxer.frame(packet)

    def _open(self, gop: MiniGop | None, *, header: bool) -> VideoCodecContext:
        """An encoder, with its header apart or in the stream.

        Args:
            gop: with which it begins; None leaves the quality to what was asked for.
            header: whether its header is apart.
        """
        video = self.plan.video
        options = dict(video.options)
        if gop is not None and gop.ahead:
            bits = pixel_format_info(video.pix_fmt).bits
            options["qp"], ratios = self._quality.options(gop, float(options.pop("crf")), bits)
            options["x264-params"] += f":{ratios}"
        if not header:
            options["aud"] = "1"
        context = VideoCodecContext.create(video.encoder, "w")
        assert isinstance(context, VideoCodecContext)
        configure(context, replace(video, options=options))
        if header:
            context.flags |= Flags.global_header
        open_encoder(context)
        return context


class _SourceQuality:
    """The quantisers of the input, for an encoder that may not be coarser.

    QP of a slice is that of its first block only; by how much the mean of the blocks differs, by the kind of slice, is
    seen on frames that were decoded.
    """

    def __init__(self) -> None:
        self._added: dict[str, float] = {}

    def note(self, frame: Frame, gop: MiniGop) -> None:
        """Notes a frame as it was decoded."""
        if frame.quantisers is None or frame.pts not in gop.slices:
            return
        kind, qp = gop.slices[frame.pts]
        added = 4 + 6 * float(np.log2(frame.quantisers.steps).mean()) - qp
        self._added[kind] = added + 0.9 * (self._added.get(kind, added) - added)

    def options(self, gop: MiniGop, crf: float, bits: int) -> tuple[str, str]:
        """The quantiser of libx264, and as its parameters the ratios of those for I, P and B."""
        usual = fmean(self._added.values()) if self._added else 0.0
        mean = {kind: qp + self._added.get(kind, usual) for kind, qp in gop.ahead.items()}
        base = min((mean[kind] for kind in ("P", "B") if kind in mean), default=mean.get("I", 0.0))
        steps = max(0.0, base - mean.get("I", base)), max(0.0, mean.get("B", base) - base)
        qp = floor(max(_LEAST, min(base - _FINER, crf) + 6 * (bits - 8)))
        intra, both = (2 ** (step / 6) for step in steps)
        return str(qp), f"ipratio={intra:.2f}:pbratio={both:.2f}"
