"""Adds an output's video stream, and encodes frames with output times."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np
from av.container import OutputContainer

from rtface.errors import Message, OutputError
from rtface.frame import Frame
from rtface.media.cuda.driver import error_text
from rtface.media.formats.color import has_captions, is_transparent
from rtface.media.formats.pixel_format import pixel_format_info
from rtface.media.write.encoders import VideoPlan, accel, configure, counted_rate, open_encoder, writes_captions
from rtface.media.write.intra_copy import JpegEncoder
from rtface.media.write.muxer import AnyPacket
from rtface.stats import Stats
from rtface.util.av_arrays import plane_rows, sample_bytes
from rtface.util.av_gpu import FULL_RANGE, on_gpu, repacked, software

# With fewer frames, libx265 leaves their decoding times uninitialised; these frames are in presentation order.
_FRAMES_WITH_DTS = 3


def add_video(container: OutputContainer, video: VideoPlan, path: str) -> av.VideoStream:
    """Adds the video stream to an output, and configures its encoder.

    Args:
        container: the output; its format decides whether the encoder's headers go to the container or into the stream.
        video: plan of the encoding.
        path: path of the output, for messages.

    Raises:
        OutputError: the encoder does not open.
    """
    try:
        stream: av.VideoStream = container.add_stream(  # pyright: ignore
            video.encoder, rate=video.rate, hwaccel=accel(video)
        )
        configure(stream, video)
        # If the first frame opened the encoder, NVENC would use that frame's padded size, and SVT-AV1 would change
        # the thread's scheduling.
        if video.on_gpu or video.encoder == "libsvtav1":
            open_encoder(stream.codec_context)
    except av.FFmpegError as error:
        raise OutputError(
            "{path}: {encoder} cannot be opened ({why}); {--encode:software} encodes without a GPU",
            code="gpu_encoder",
            path=path,
            encoder=video.described,
            why=error_text(error),
        ) from error
    stream.time_base = video.time_base
    return stream


def lose(video: VideoPlan, stats: Stats, key: str, what: Message) -> None:
    """Warns of a loss during a run; raises OutputError in strict runs."""
    if video.strict:
        raise OutputError("{what} ({--strict=True})", code="strict_later", what=what)
    stats.warn(key, what)


def fit(image: av.VideoFrame, plan: VideoPlan) -> av.VideoFrame:
    """Converts a frame to the encoder's format and size. Returns the same object if nothing needs conversion.

    Frames in GPU memory are not converted for an encoder on the GPU. PyAV uploads other frames.
    """
    if on_gpu(image) and plan.on_gpu:
        return image
    image = software(image)
    if image.format.name != plan.pix_fmt:
        image = _convert(image, plan) if plan.convert else repacked(image, plan.pix_fmt)
    if (image.width, image.height) != (plan.width, plan.height):
        image = _pad(image, plan.width, plan.height)
    return image


def _convert(image: av.VideoFrame, plan: VideoPlan) -> av.VideoFrame:
    if image.format.name.startswith("xyz"):
        image = image.reformat(format="gbrp16le", threads=1)
    source, target = pixel_format_info(image.format.name), pixel_format_info(plan.pix_fmt)
    if source.model == target.model:
        return repacked(image, plan.pix_fmt)
    if target.model == "rgb":
        return image.reformat(format=plan.pix_fmt, threads=1)  # one thread, as in `repacked`
    return image.reformat(
        format=plan.pix_fmt,
        dst_colorspace="ITU709" if plan.tags.matrix == 1 else "ITU601",
        src_color_range=FULL_RANGE,
        dst_color_range=1,
        interpolation="BICUBIC",
        threads=1,
    )


def _pad(image: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
    """Returns an enlarged copy. The last column and row of each plane are repeated."""
    out = av.VideoFrame(width, height, image.format.name)
    for source, target in zip(image.planes, out.planes, strict=True):
        rows, unit = source.height, sample_bytes(image, source)
        old = plane_rows(source)[:rows, : source.width * unit].reshape(rows, -1, unit)
        new = np.pad(old, ((0, target.height - rows), (0, target.width - source.width), (0, 0)), "edge")
        plane_rows(target)[: target.height, : target.width * unit] = new.reshape(target.height, -1)
    out.color_range, out.colorspace = image.color_range, image.colorspace
    out.color_primaries, out.color_trc = image.color_primaries, image.color_trc
    return out


class OutputTimes:
    """Assigns rising times to the frames of an output.

    Args:
        base: time base of the output, in seconds.
        origin: time on the input's clock that becomes 0 in the output, in seconds.
        stats: receives counters.

    Attributes:
        last: time of the last frame; None before the first.
    """

    def __init__(self, base: Fraction, origin: Fraction, stats: Stats) -> None:
        self._base, self._origin, self._stats = base, origin, stats
        self.last: int | None = None

    def of(self, frame: Frame) -> tuple[int, int]:
        """Returns pts and duration of the next frame."""
        pts, duration = frame.pts - round(self._origin / frame.time_base), frame.duration
        if frame.time_base != self._base:
            scale = frame.time_base / self._base
            pts, duration = round(pts * scale), max(1, round(duration * scale))
        if self.last is not None and pts <= self.last:  # the input's clock is finer than the output's
            pts = self.last + 1
        self.last = pts
        return pts, duration


class FrameEncoder:
    """Encodes frames in pts order.

    Returned packets have the output's times and are in decoding order.

    Args:
        stream: stream from `add_video`, or an open context.
        video: plan of the encoding.
        origin: time on the input's clock that becomes 0 in the output, in seconds.
        stats: receives counters.

    Attributes:
        last: pts of the last frame, in the encoder's unit; None before the first.
        frames: number of frames encoded so far.
    """

    def __init__(
        self,
        stream: av.VideoStream | av.VideoCodecContext | JpegEncoder,
        video: VideoPlan,
        origin: Fraction,
        stats: Stats,
    ) -> None:
        self._stream, self._video, self._stats = stream, video, stats
        self._times = OutputTimes(video.time_base, origin, stats)
        self.last: int | None = None
        self.frames = 0
        self._rate = counted_rate(video)
        # Captions and transparency may first appear after the frames that the plan has examined.
        self._loss_checks = dict[str, Callable[[av.VideoFrame], bool]]()
        if not writes_captions(video.encoder) and "captions" not in video.lost:
            self._loss_checks["captions"] = has_captions
        if not pixel_format_info(video.pix_fmt).alpha and "transparency" not in video.lost:
            self._loss_checks["transparency"] = is_transparent
        self._stamps: dict[int, tuple[int, int]] = {}  # pts and duration by frame number, for encoders with `_rate`

    def encode(self, frame: Frame, stamp: tuple[int, int] | None = None) -> list[AnyPacket]:
        """Encodes the next frame. Returns the packets that are ready. `stamp` is the frame's pts and duration in the
        output, if already assigned."""
        for what in [what for what, has in self._loss_checks.items() if has(frame.image)]:
            del self._loss_checks[what]
            line = "{encoder} cannot carry the {what} of later frames; another {--codec} can"
            message = Message(line, code="lost_later", encoder=self._video.encoder, what=what)
            lose(self._video, self._stats, what, message)
        image = fit(frame.image, self._video)
        base, (pts, duration) = self._video.time_base, stamp or self._times.of(frame)
        self.last = pts
        if self._rate is not None:
            self._stamps[self.frames] = pts, duration
            pts, base, duration = self.frames, 1 / self._rate, 1
        image.pts, image.time_base, image.duration = pts, base, duration
        image.pict_type = 0  # the encoder chooses its own I-frames
        packets = self._stream.encode(image)
        self.frames += 1
        return [self._set_times(packet) for packet in packets]

    def flush(self) -> list[AnyPacket]:
        """Returns the encoder's remaining packets. No frame may follow."""
        packets = [self._set_times(packet) for packet in self._stream.encode(None)] if self.frames else []
        if self._video.encoder == "libx265" and self.frames < _FRAMES_WITH_DTS:
            for packet in packets:
                packet.dts = packet.pts
        return packets

    def _set_times(self, packet: AnyPacket) -> AnyPacket:
        """Replaces frame numbers in a packet by times, for encoders with `_rate`."""
        if self._rate is None:
            return packet
        assert packet.pts is not None
        number = packet.pts if packet.dts is None else packet.dts
        (pts, duration), first = self._stamps[packet.pts], min(self._stamps)
        dts = (
            self._stamps[number][0]
            if number in self._stamps
            else (self._stamps[first][0] - (first - number) * self._stamps[first][1])
        )
        packet.time_base = self._video.time_base
        packet.pts, packet.dts, packet.duration = pts, dts, duration
        self._stamps = {n: stamp for n, stamp in self._stamps.items() if n >= number}
        return packet
