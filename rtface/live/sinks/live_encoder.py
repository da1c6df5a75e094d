"""Encodes H.264 streams with constant bit rate, regular I-frames and no delay."""

from __future__ import annotations

import os
import sys
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.codec import Codec
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from rtface.config.options import EncodeOptions
from rtface.errors import UsageError
from rtface.frame import Color
from rtface.live.protocols import VideoFormat
from rtface.media.cuda import driver
from rtface.media.formats.color import ColorTags

TICKS = Fraction(1, 90_000)
"""Time base of written packets."""
I_FRAMES_S = 2.0
"""Seconds between I-frames, as platforms require."""

# Samples a second, and the bits a second that platforms recommend: 360p30, 480p30, 720p30, 720p60, 1080p30, 1080p60,
# 1440p60, 2160p60 of H.264.
_SAMPLES = (0, 6.9e6, 12.3e6, 27.6e6, 55.3e6, 62.2e6, 124.4e6, 221.2e6, 497.7e6)
_BITS = (400e3, 1000e3, 1500e3, 3000e3, 4500e3, 4500e3, 6000e3, 12000e3, 30000e3)
# Hardware encoders by platform, best first.
_HARDWARE = {
    "darwin": ("h264_videotoolbox",),
    "win32": ("h264_nvenc", "h264_qsv", "h264_amf"),
    "linux": ("h264_nvenc", "h264_qsv"),
}
_MATRIX = {"bt709": 1, "fcc": 4, "bt601": 6, "smpte240m": 7, "bt2020": 9}
_TRANSFER = {"pq": 16, "hlg": 18, "linear": 8}
_NO_GOP = 1_000_000  # frames; `LiveEncoder` requests I-frames by time instead


def usual_bitrate(form: VideoFormat) -> int:
    """Returns the bits a second that streaming platforms recommend for a format."""
    return int(round(np.interp(form.width * form.height * float(form.rate), _SAMPLES, _BITS), -4))


def tags_for(color: Color) -> ColorTags:
    """Returns the colour tags of an output: limited range, and never "unspecified"."""
    matrix = _MATRIX.get(color.matrix, 1)
    by_matrix = matrix if matrix in (1, 6, 9) else 1
    primaries = color.primaries if color.primaries != 2 else by_matrix
    transfer = _TRANSFER.get(color.transfer, {6: 6, 9: 14}.get(matrix, 1))
    return ColorTags(1, primaries, transfer, matrix)


class EncoderScaler:
    """Converts frames to an encoder's size and format, in limited range."""

    def __init__(self, form: VideoFormat, pix_fmt: str) -> None:
        self.width, self.height, self.pix_fmt = form.width & ~1, form.height & ~1, pix_fmt
        self.tags = tags_for(form.color)
        self._full = form.color.full_range
        self._reformatter = VideoReformatter()

    def __call__(self, image: av.VideoFrame) -> av.VideoFrame:
        full = self._full or int(image.color_range) == 2 or image.format.is_rgb
        if full or image.format.name != self.pix_fmt or (image.width, image.height) != (self.width, self.height):
            matrix = {1: 1, 9: 9}.get(self.tags.matrix, 5)  # swscale's constants
            image = self._reformatter.reformat(
                image,
                self.width,
                self.height,
                self.pix_fmt,
                src_colorspace=matrix,
                dst_colorspace=matrix,
                src_color_range=2 if full else 1,
                dst_color_range=1,
                threads=1,
            )
        image.color_range, image.colorspace = self.tags.range, self.tags.matrix
        image.color_primaries, image.color_trc = self.tags.primaries, self.tags.transfer
        return image


class LiveEncoder:
    """Encodes frames one by one, so that packets leave at once.

    Attributes:
        name: FFmpeg's name of the encoder.
        bitrate: bits a second.
        notes: differences from the request.

    Raises:
        UsageError: no encoder can be opened with these options.
    """

    def __init__(self, form: VideoFormat, options: EncodeOptions) -> None:
        self.bitrate = options.bitrate or usual_bitrate(form)
        self.notes: list[str] = []
        self._slack = 0.5 / float(form.rate)
        self._last: int | None = None
        self._last_i_frame: float | None = None
        self.name, self._context = self._open(form, options)
        self._scaler = EncoderScaler(form, str(self._context.pix_fmt))
        if (self._scaler.width, self._scaler.height) != (form.width, form.height):
            self.notes.append(
                f"H.264 needs even sizes: {form.width}×{form.height} becomes {self._scaler.width}×{self._scaler.height}"
            )
        self.width, self.height, self.rate = self._scaler.width, self._scaler.height, form.rate

    def encode(self, image: av.VideoFrame, seconds: float, *, key: bool) -> list[av.Packet[Any]]:
        """Returns the packets of a frame: usually one, but hardware may delay it.

        Args:
            image: a frame of any size and format.
            seconds: presentation time; if it does not rise, the previous time plus one tick is used.
            key: whether to make the frame an I-frame, in addition to those every `I_FRAMES_S`.
        """
        pts = round(seconds / TICKS)
        if self._last is not None and pts <= self._last:
            pts = self._last + 1
        self._last = pts
        image = self._scaler(image)
        image.pts, image.time_base = pts, TICKS
        if key or self._last_i_frame is None or seconds - self._last_i_frame >= I_FRAMES_S - self._slack:
            image.pict_type, self._last_i_frame = PictureType.I, seconds
        else:
            image.pict_type = PictureType.NONE
        return self._context.encode(image)

    def _open(self, form: VideoFormat, options: EncodeOptions) -> tuple[str, VideoCodecContext]:
        names = (
            ()
            if options.encode == "software"
            else ("h264_nvenc",)
            if options.encode == "cuda"
            else _HARDWARE.get(sys.platform, ())
        )
        for name in names:
            why = driver.absent() if name == "h264_nvenc" else None
            if why is None:
                try:
                    return name, self._open_encoder(name, form, options)
                except (av.FFmpegError, ValueError, NotImplementedError) as error:
                    why = driver.error_text(error)
            if options.encode == "cuda":
                self.notes.append(f"{name} cannot be used ({why}); libx264 is used instead")
        try:
            return "libx264", self._open_encoder("libx264", form, options)
        except (av.FFmpegError, ValueError) as error:
            raise UsageError(
                "libx264 cannot be opened for {width}×{height} at {bitrate} bits a second{preset}; check {--bitrate} "
                "and {--preset}",
                code="live_encoder",
                width=form.width,
                height=form.height,
                bitrate=self.bitrate,
                preset=f" with preset {options.preset}" if options.preset else "",
            ) from error

    def _open_encoder(self, name: str, form: VideoFormat, options: EncodeOptions) -> VideoCodecContext:
        context = VideoCodecContext.create(name, "w")
        assert isinstance(context, VideoCodecContext)
        pix_fmts = {f.name for f in Codec(name, "w").video_formats or []}
        context.width, context.height = form.width & ~1, form.height & ~1
        context.pix_fmt = "yuv420p" if "yuv420p" in pix_fmts or not pix_fmts else "nv12"
        context.time_base, context.framerate = TICKS, form.rate
        context.sample_aspect_ratio = form.aspect
        tags = tags_for(form.color)
        context.color_range, context.colorspace = tags.range, tags.matrix
        context.color_primaries, context.color_trc = tags.primaries, tags.transfer
        context.bit_rate, context.gop_size, context.max_b_frames = self.bitrate, _NO_GOP, 0
        params = {"maxrate": str(self.bitrate), "bufsize": str(self.bitrate), "profile": "high", "forced-idr": "1"}
        if name == "libx264":
            context.thread_count, context.thread_type = min(4, os.cpu_count() or 1), "SLICE"
            params |= {
                "preset": options.preset or "veryfast",
                "tune": "zerolatency",
                "nal-hrd": "cbr",
                "sc_threshold": "0",
            }
        elif name == "h264_nvenc":
            params |= {"preset": "p4", "tune": "ll", "rc": "cbr", "zerolatency": "1", "delay": "0", "no-scenecut": "1"}
        elif name == "h264_videotoolbox":
            params |= {"realtime": "1", "constant_bit_rate": "1", "prio_speed": "1"}
            del params["forced-idr"]
        elif name == "h264_qsv":
            params = {k.replace("forced-idr", "forced_idr"): v for k, v in params.items()}
            params |= {"preset": "veryfast", "async_depth": "1", "look_ahead": "0"}
        elif name == "h264_amf":
            params |= {"usage": "lowlatency", "rc": "cbr", "forced_idr": "1"}
            del params["forced-idr"]
        context.options = params
        context.open()
        return context
