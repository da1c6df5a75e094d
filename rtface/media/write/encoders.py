"""Configures and opens encoders with their quality, speed and HDR options."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

import av
import cv2
from av.codec.hwaccel import HWAccel

from rtface.concurrency.scheduling import scheduling_kept
from rtface.errors import UsageError
from rtface.media.cuda.driver import error_text
from rtface.media.formats.coding import Class
from rtface.media.formats.color import ColorTags

# FFmpeg's AVCodecContext flags and AVFieldOrder.
_INTERLACED = (1 << 18) | (1 << 29)  # AV_CODEC_FLAG_INTERLACED_DCT | _ME
_FRAME_DURATION = 1 << 8
_QSCALE = 1 << 1
_NTSC = Fraction(1001, 1000)
_FIELD_ORDER = {"progressive": 1, "tff": 2, "bff": 3}


@dataclass(frozen=True, slots=True)
class CodecFamily:
    """The quality and speed options of an encoder.

    Attributes:
        crf: name of its constant-quality option; None if it has none.
        preset: name of its speed option; None if it has none.
        quality, speed: default values of these two options.
        options: options that are always set.
        lossless: options that replace the quality option for ``--crf 0``; None if the encoder cannot be lossless.
        names: values of its speed option, by accepted name (x264's presets and its own).
        formats: pixel formats that the encoder stores without losing bits; None for all that FFmpeg lists.
    """

    crf: str | None = None
    preset: str | None = None
    quality: str = ""
    speed: str = ""
    options: dict[str, str] = field(default_factory=dict[str, str])
    lossless: dict[str, str] | None = None
    names: dict[str, str] = field(default_factory=dict[str, str])
    formats: tuple[str, ...] | None = None


_X264 = CodecFamily("crf", "preset", "17", "faster", lossless={"qp": "0"})
# NVENC's constant quality: a target on the scale of x264's crf, without a bit rate limit.
_CQ = {"rc": "vbr", "b": "0"}
SPEEDS = {
    "ultrafast": "p1",
    "superfast": "p1",
    "veryfast": "p2",
    "faster": "p3",
    "fast": "p4",
    "medium": "p5",
    "slow": "p6",
    "slower": "p7",
    "veryslow": "p7",
    "placebo": "p7",
    **{f"p{n}": f"p{n}" for n in range(1, 8)},
}
# NVENC accepts RGB and 16 bits too, but converts them to 4:2:0 and 10 bits.
_EXACT = ("yuv420p", "nv12", "p010le", "yuv444p", "nv16", "p210le")
_NVENC = CodecFamily("cq", "preset", "20", "p5", _CQ, lossless={"tune": "lossless"}, names=SPEEDS, formats=_EXACT)
FAMILIES = {
    "libx264": _X264,
    "libx264rgb": _X264,
    "libx265": CodecFamily(
        "crf", "preset", "20", "fast", options={"a53cc": "1"}, lossless={"x265-params": "lossless=1"}
    ),
    "libsvtav1": CodecFamily("crf", "preset", "25", "8"),
    "libvpx-vp9": CodecFamily(
        "crf", "cpu-used", "24", "4", {"b": "0", "row-mt": "1", "deadline": "good"}, lossless={"lossless": "1"}
    ),
    "h264_nvenc": _NVENC,
    "hevc_nvenc": _NVENC,
    "av1_nvenc": CodecFamily("cq", "preset", "25", "p5", _CQ, names=SPEEDS, formats=("yuv420p", "nv12", "p010le")),
    # For archives (RFC 9043; FFmpeg's and RAWcooked's advice): version 3, only intra frames, a checksum in each slice.
    "ffv1": CodecFamily(options={"level": "3", "g": "1", "slicecrc": "1"}, lossless={}),
    "prores_ks": CodecFamily(options={"vendor": "apl0"}),
    "dnxhd": CodecFamily(),
    **dict.fromkeys(
        ("utvideo", "ffvhuff", "huffyuv", "magicyuv", "png", "qtrle", "rawvideo", "v210", "v308", "v410", "r210"),
        CodecFamily(lossless={}),
    ),
}
MEZZANINE = {"prores_ks", "prores_aw", "prores", "dnxhd", "cfhd"}  # made for editing
_MPEG2_RATES = [Fraction(rate) for rate in (24, 25, 30, 50, 60)] + [rate / _NTSC for rate in (24, 30, 60)]
_AVX512 = 13  # CV_CPU_AVX_512F, a constant that cv2 lacks
# Encoders whose constant quantiser is set through AV_CODEC_FLAG_QSCALE.
_BY_QSCALE = {"mpeg4", "mpeg2video", "mjpeg"}


class EncoderRefused(Exception):
    """Signals that the GPU encoder cannot be used. The message contains the reason; callers fall back to software."""


@dataclass(slots=True)
class VideoPlan:
    """The encoding of an output's frames.

    Attributes:
        encoder: FFmpeg's name.
        pix_fmt: pixel format of the frames passed to the encoder.
        width, height: size of these frames; larger than the source's if the encoder rejects odd sizes.
        convert: whether sample values change (RGB to YCbCr, lower bit depth); `warnings` then lists this loss.
        lossless: whether decoding returns the encoded samples.
        options: encoder options.
        time_base: unit of the encoder's timestamps.
        tag: codec tag (FourCC) in MP4 and MOV; "" for FFmpeg's default.
        fields: "progressive", or the order of interlaced frames.
        device: number of the CUDA device, for NVENC.
        on_gpu: whether the encoder accepts frames in GPU memory, whose samples have the format `pix_fmt`.
        strict: whether any loss ends the run.
        warnings: losses caused by this encoding, one line each.
        lost: losses already in `warnings` ("captions", "transparency"), which no frame needs to be checked for.
    """

    encoder: str
    pix_fmt: str
    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    tags: ColorTags
    aspect: Fraction | None
    convert: bool = False
    lossless: bool = False
    options: dict[str, str] = field(default_factory=dict[str, str])
    tag: str = ""
    fields: str = "progressive"
    device: int = 0
    on_gpu: bool = False
    threads: int = 0
    strict: bool = False
    warnings: list[str] = field(default_factory=list[str])
    lost: set[str] = field(default_factory=set[str])

    def to_dict(self) -> dict[str, Any]:
        """Returns the plan as JSON values, without machine-specific ones."""
        return {
            key: value if isinstance(value, int | bool | str | dict) else str(value)
            for key, value in asdict(self).items()
            if key not in ("threads", "strict", "warnings", "lost", "device")
        }

    @property
    def coding(self) -> Class:
        """Class of the coding: "lossless", "mezzanine" (for editing) or "lossy"."""
        return "lossless" if self.lossless else "mezzanine" if self.encoder in MEZZANINE else "lossy"

    @property
    def described(self) -> str:
        """The encoder, with its GPU if any."""
        return f"{self.encoder} on cuda:{self.device}" if self.encoder.endswith("_nvenc") else self.encoder


def writes_captions(encoder: str) -> bool:
    """Tells whether an encoder writes closed captions into its stream."""
    return encoder.startswith(("libx26", "h264_", "hevc_", "mpeg2video"))


def accel(plan: VideoPlan) -> HWAccel | None:
    """Returns hardware acceleration for encoders of GPU frames. Returns None for other encoders."""
    return HWAccel("cuda", plan.device, options={"primary_ctx": "1"}) if plan.on_gpu else None


def counted_rate(plan: VideoPlan) -> Fraction | None:
    """Returns the frame rate of an encoder whose timestamps are frame numbers. Returns None for other encoders.

    DV has the film's rate; MPEG-2 has the nearest rate that it can code (ISO/IEC 13818-2, frame_rate_code and its
    extension).
    """
    if plan.encoder != "mpeg2video":
        return plan.rate if plan.encoder == "dvvideo" else None
    factors = {Fraction(numerator, denominator) for numerator in range(1, 5) for denominator in range(1, 33)}
    return min((rate * factor for rate in _MPEG2_RATES for factor in factors), key=lambda rate: abs(rate - plan.rate))


def configure(target: av.VideoStream | av.VideoCodecContext, plan: VideoPlan) -> None:
    """Configures an encoder as planned; `target` must not be open yet."""
    context = target.codec_context if isinstance(target, av.VideoStream) else target
    context.width, context.height, context.pix_fmt = plan.width, plan.height, plan.pix_fmt
    rate = counted_rate(plan)
    context.time_base, context.framerate = (1 / rate, rate) if rate else (plan.time_base, plan.rate)
    context.thread_count = plan.threads
    context.thread_type = "AUTO"
    if plan.aspect:
        context.sample_aspect_ratio = plan.aspect
    context.color_range, context.colorspace = plan.tags.range, plan.tags.matrix
    context.color_primaries, context.color_trc = plan.tags.primaries, plan.tags.transfer
    context.flags |= _FRAME_DURATION
    context.field_order = _FIELD_ORDER[plan.fields]  # pyright: ignore[reportAttributeAccessIssue]
    if plan.fields != "progressive":
        context.flags |= _INTERLACED
    if plan.tag:
        context.codec_tag = plan.tag
    options = dict(plan.options)
    if plan.encoder.endswith("_nvenc") and not plan.on_gpu:
        options["gpu"] = str(plan.device)
    if extra := _extra_parameters(plan):
        name = f"{plan.encoder.removeprefix('lib').removesuffix('rgb')}-params"
        options[name] = ":".join([p for p in (options.get(name), *extra) if p])
    if plan.encoder in _BY_QSCALE:
        context.flags |= _QSCALE
        context.global_quality = 2 * 118  # FF_QP2LAMBDA
    context.options = options


def _extra_parameters(plan: VideoPlan) -> list[str]:
    """Returns encoder parameters that the user does not choose."""
    if plan.encoder == "libx265":
        return ["log-level=error", *([f"pools={plan.threads}"] if plan.threads else [])]
    if plan.encoder == "libsvtav1" and plan.threads:
        return [f"lp={min(plan.threads, 6)}"]
    # With AVX-512, x264's look-ahead (core 165) reads uninitialised memory if a row's macroblocks are not a multiple
    # of 8, so two runs of the same film may differ. AVX2 is as fast and has no such fault.
    return ["asm=AVX2"] if plan.encoder.startswith("libx264") and cv2.checkHardwareSupport(_AVX512) else []


def new_context(plan: VideoPlan) -> av.VideoCodecContext:
    """Makes a configured encoder without a container, not yet opened."""
    context = av.VideoCodecContext.create(plan.encoder, "w", accel(plan))
    assert isinstance(context, av.VideoCodecContext)
    configure(context, plan)
    return context


def open_encoder(context: av.VideoCodecContext) -> None:
    """Opens a configured encoder. Restores the scheduling of threads, which SVT-AV1 changes if run as root."""
    with scheduling_kept():
        context.open()


def check(plan: VideoPlan) -> None:
    """Opens the planned encoder as a test, and closes it.

    Raises:
        UsageError: the encoder does not open with these settings.
        EncoderRefused: the GPU encoder cannot be opened.
    """
    try:
        open_encoder(new_context(plan))
    except (av.FFmpegError, ValueError, NotImplementedError) as error:
        if plan.encoder.endswith("_nvenc"):
            raise EncoderRefused(error_text(error)) from error
        chosen = ", ".join(f"{k}={v}" for k, v in plan.options.items())
        raise UsageError(
            "{encoder} cannot be opened for {width}×{height} {pix_fmt} with {settings}; check {--codec}, {--crf} and "
            "{--preset}, and for large frames use fewer {--threads}",
            code="encoder_unopened",
            encoder=plan.encoder,
            width=plan.width,
            height=plan.height,
            pix_fmt=plan.pix_fmt,
            settings=chosen,
        ) from error
