"""Which encoder, which pixel format and which options: the picture stream of an output, decided before any work."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

import av
from av.codec import Codec
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from rtface.errors import UsageError
from rtface.media.color import Hdr, Tags
from rtface.media.probe import MediaInfo

ALIASES = {"h264": "libx264", "x264": "libx264", "avc": "libx264", "h265": "libx265", "x265": "libx265",
           "hevc": "libx265", "av1": "libsvtav1", "svtav1": "libsvtav1", "vp9": "libvpx-vp9", "prores": "prores_ks"}

# FFmpeg's AVCodecContext flags and AVFieldOrder.
_INTERLACED = (1 << 18) | (1 << 29)  # AV_CODEC_FLAG_INTERLACED_DCT | _ME
_FRAME_DURATION = 1 << 8
_QSCALE = 1 << 1
_FIELD_ORDER = {"progressive": 1, "tff": 2, "bff": 3}


@dataclass(frozen=True, slots=True)
class Family:
    """How an encoder takes quality and speed.

    Attributes:
        crf: name of its constant-quality option, None when it has none.
        preset: name of its speed option, None when it has none.
        quality, speed: defaults of the two.
        options: set always.
        lossless: set instead of the quality for ``--crf 0``; None when it cannot be lossless.
        depth: largest bit depth, where FFmpeg's list of formats does not say it.
    """

    crf: str | None = None
    preset: str | None = None
    quality: str = ""
    speed: str = ""
    options: dict[str, str] = field(default_factory=dict[str, str])
    lossless: dict[str, str] | None = None


_X264 = Family("crf", "preset", "18", "fast", lossless={"qp": "0"})
_NVENC = Family("cq", "preset", "20", "p5", {"rc": "vbr", "b": "0"}, lossless={"tune": "lossless"})
FAMILIES = {
    "libx264": _X264, "libx264rgb": _X264,
    "libx265": Family("crf", "preset", "20", "fast", options={"a53cc": "1"}, lossless={"x265-params": "lossless=1"}),
    "libsvtav1": Family("crf", "preset", "25", "8"),
    "libvpx-vp9": Family("crf", "cpu-used", "24", "4", {"b": "0", "row-mt": "1", "deadline": "good"},
                         lossless={"lossless": "1"}),
    "h264_nvenc": _NVENC, "hevc_nvenc": _NVENC, "av1_nvenc": Family("cq", "preset", "25", "p5", _NVENC.options),
    "ffv1": Family(options={"level": "3", "slicecrc": "1"}, lossless={}),
    "prores_ks": Family(options={"vendor": "apl0"}),
    "utvideo": Family(lossless={}), "ffvhuff": Family(lossless={}), "huffyuv": Family(lossless={}),
    "png": Family(lossless={}), "qtrle": Family(lossless={}), "rawvideo": Family(lossless={}),
}
# Encoders that write captions, or the pixels' aspect, into their own stream. PyAV cannot note the aspect in Matroska.
_WRITES_CAPTIONS = ("libx26", "h264_", "hevc_", "mpeg2video")
_WRITES_ASPECT = ("libx26", "h264_", "hevc_", "mpeg", "ffv1")
# Encoders of the kind that takes a quantiser through FFmpeg's own flag.
_BY_QSCALE = {"mpeg4", "mpeg2video", "mjpeg"}


@dataclass(slots=True)
class VideoPlan:
    """How the pictures are encoded.

    Attributes:
        encoder: FFmpeg's name.
        pix_fmt: format handed to it.
        width, height: size handed to it; larger than the source's by one where it refuses odd sizes.
        repack: whether pictures change their layout, but no sample its value, on the way.
        convert: whether sample values change (RGB to YCbCr, less depth); `warnings` says so.
        lossless: whether decoding gives back what was encoded.
        options: encoder options.
        time_base: unit of the encoder's timestamps.
        tag: code in MP4 and MOV, "" for the usual one.
        fields: "progressive", or the order of interlaced pictures.
        warnings: what is lost by this choice, one line each.
    """

    encoder: str
    pix_fmt: str
    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    tags: Tags
    aspect: Fraction | None
    repack: bool = False
    convert: bool = False
    lossless: bool = False
    options: dict[str, str] = field(default_factory=dict[str, str])
    tag: str = ""
    fields: str = "progressive"
    threads: int = 0
    warnings: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class Shape:
    """What a pixel format can hold."""

    model: str
    bits: int
    sampling: tuple[int, int]
    alpha: bool


@lru_cache(maxsize=256)
def shape_of(name: str) -> Shape:
    """Model ("rgb", "yuv" or "gray"), depth, chroma subsampling and alpha of a pixel format by FFmpeg's name."""
    kind = av.VideoFormat(name, 64, 64)
    parts = kind.components
    alpha = kind.has_palette or any(c.is_alpha for c in parts)
    bits = 8 if kind.has_palette else max(c.bits for c in parts)
    if kind.is_rgb or kind.has_palette:
        return Shape("rgb", bits, (1, 1), alpha)
    if len(parts) <= 2:
        return Shape("gray", bits, (1, 1), alpha)
    return Shape("yuv", bits, (64 // kind.chroma_width(64), 64 // kind.chroma_height(64)), alpha)


def nearest(name: str, candidates: list[str], *, alpha: bool) -> tuple[str, list[str]]:
    """The candidate that holds a pixel format best, and what it cannot hold.

    Args:
        name: pixel format of the pictures.
        candidates: what the encoder takes; empty for one that takes everything.
        alpha: whether transparency matters.
    """
    if not candidates or name in candidates:
        return name, []
    want = shape_of(name)

    def cost(candidate: str) -> tuple[int, ...]:
        have = shape_of(candidate)
        sampling = [h // w if h > w else -(w // h) if w > h else 0
                    for w, h in zip(want.sampling, have.sampling, strict=True)]
        model = 0 if have.model == want.model else 1 if want.model == "gray" else 2 if have.model != "gray" else 3
        return (model, int(alpha and want.alpha and not have.alpha), max(0, want.bits - have.bits),
                sum(s for s in sampling if s > 0), have.bits - want.bits, sum(-s for s in sampling if s < 0),
                int(have.alpha), int(candidate.startswith("yuvj") != name.startswith("yuvj")),
                int(candidate.endswith("be")), candidates.index(candidate))

    best = min(candidates, key=cost)
    have = shape_of(best)
    lost: list[str] = []
    if have.model != want.model and want.model != "gray":
        lost.append(f"{want.model.upper()} becomes {have.model.upper()} ({best})")
    if alpha and want.alpha and not have.alpha:
        lost.append("transparency is left out")
    if have.bits < want.bits:
        lost.append(f"{want.bits} bits a sample become {have.bits}")
    if want.model == "yuv" and have.model == "yuv" and any(
            h > w for w, h in zip(want.sampling, have.sampling, strict=True)):
        lost.append(f"colour is stored with less resolution ({best})")
    return best, lost


def default_encoder(info: MediaInfo, format: str, supported: set[str]) -> str:
    """The encoder that keeps depth and chroma, and that most players know."""
    shape = shape_of(info.pix_fmt)
    alpha = shape.alpha and info.transparent
    if format == "webm":  # FFmpeg's usual builds of libvpx know 8 bits only
        return "libvpx-vp9" if shape.bits <= 8 or "libsvtav1" not in supported else "libsvtav1"
    if alpha and format == "matroska":
        return "ffv1"
    if alpha and format == "mov":
        return "qtrle" if shape.model == "rgb" and shape.bits == 8 else "prores_ks"
    if shape.bits > 12 and format == "matroska":
        return "ffv1"
    if (shape.bits > 10 or info.hdr is not None or info.color.transfer in ("pq", "hlg")) and "libx265" in supported:
        return "libx265"
    if shape.model == "rgb":
        return "libx264rgb" if shape.bits == 8 else "libx265"
    return "libx264"


def plan_video(info: MediaInfo, format: str, supported: set[str], *, codec: str | None, crf: float | None,
               preset: str | None) -> VideoPlan:
    """Chooses and configures the encoder.

    Args:
        info: the input.
        format: FFmpeg's name of the output container.
        supported: encoders that the container can hold.
        codec: name or alias that was asked for, None for the default.
        crf, preset: quality and speed that were asked for; crf 0 is lossless wherever the encoder can.

    Raises:
        UsageError: no such encoder, or it does not fit the container or the options.
    """
    name = ALIASES.get(codec.lower(), codec) if codec else default_encoder(info, format, supported)
    if name == "libx264" and shape_of(info.pix_fmt).model == "rgb" and codec is None:
        name = "libx264rgb"
    encoder = _encoder(name)
    if name not in supported:
        raise UsageError(f"{format} cannot hold {codec or name}; choose another --codec, or a .mkv output")
    alpha = info.transparent and shape_of(info.pix_fmt).alpha
    candidates = [f.name for f in encoder.video_formats or []]
    if name in ("libx265", "libvpx-vp9"):  # their alpha is a second layer that hardly any decoder shows
        candidates = [c for c in candidates if not shape_of(c).alpha]
    pix_fmt, lost = nearest(info.pix_fmt, candidates, alpha=alpha)
    convert = shape_of(pix_fmt).model != shape_of(info.pix_fmt).model and shape_of(info.pix_fmt).model != "gray"
    convert = convert or shape_of(pix_fmt).bits < shape_of(info.pix_fmt).bits or any("resolution" in s for s in lost)
    plan = VideoPlan(name, pix_fmt, info.width, info.height, info.rate, info.time_base, info.tags, info.aspect,
                     repack=pix_fmt != info.pix_fmt and not convert, convert=convert)
    plan.warnings += [f"{name}: {line}" for line in lost]
    _odd_size(plan)
    _quality(plan, crf, preset)
    _interlaced(plan, info)
    if info.hdr is not None:
        _hdr(plan, info.hdr)
    if info.captions and not name.startswith(_WRITES_CAPTIONS):
        plan.warnings.append(f"{name} cannot carry the closed captions; --codec libx264 or libx265 can")
    if format in ("matroska", "webm") and info.aspect not in (None, 0, 1) and not name.startswith(_WRITES_ASPECT):
        raise UsageError(f"{name} in {format} cannot note that pixels are not square ({info.aspect}); choose --codec "
                         "libx264 and a .mkv output, or a .mp4 output")
    if info.tags.siting and shape_of(pix_fmt).sampling != (1, 1):
        plan.options["chroma_sample_location"] = info.tags.siting
    # A unit of about a frame would be read as the frame rate.
    while plan.time_base > Fraction(1, 1000):
        plan.time_base /= 2
    if format in ("mp4", "mov") and name in ("libx265", "hevc_nvenc"):
        plan.tag = "hvc1"  # Apple's players refuse hev1
    if name == "mpeg4":
        plan.time_base = Fraction(1, 60_000)  # MPEG-4 has 16 bits for it
    return plan


def _encoder(name: str) -> Codec:
    try:
        encoder = Codec(name, "w")
    except (av.FFmpegError, ValueError) as error:
        known = ", ".join(sorted({*ALIASES, *FAMILIES}))
        raise UsageError(f"--codec {name}: there is no such encoder here; known ones: {known}") from error
    if encoder.type != "video":
        raise UsageError(f"--codec {name} is not for pictures; sound is copied, or transcoded where it has to be")
    return encoder


def _odd_size(plan: VideoPlan) -> None:
    if not plan.encoder.startswith(("libx26", "libsvtav1", "h264_", "hevc_")):
        return
    across, down = shape_of(plan.pix_fmt).sampling
    width, height = -(-plan.width // across) * across, -(-plan.height // down) * down
    if (width, height) != (plan.width, plan.height):
        plan.warnings.append(f"{plan.encoder} refuses {plan.width}×{plan.height}: the last column or row is repeated, "
                             f"{width}×{height} (--codec ffv1 or vp9 keeps the size)")
        plan.width, plan.height = width, height


def _quality(plan: VideoPlan, crf: float | None, preset: str | None) -> None:
    family = FAMILIES.get(plan.encoder, Family())
    plan.options |= family.options
    if crf == 0 and family.lossless is not None:
        plan.options |= family.lossless
        for key in ("rc", "b"):
            if plan.encoder.startswith(("libvpx", "h264_nvenc", "hevc_nvenc")) and key == "rc":
                plan.options.pop(key, None)
        plan.lossless = True
    elif crf is not None and family.crf is None:
        raise UsageError(f"{plan.encoder} has no --crf; leave it away"
                         + (" (it is always lossless)" if family.lossless is not None else ""))
    elif family.crf is not None:
        plan.options[family.crf] = family.quality if crf is None else f"{crf:g}"
    else:
        plan.lossless = family.lossless is not None
    if preset is not None and family.preset is None:
        raise UsageError(f"{plan.encoder} has no --preset; leave it away")
    if family.preset is not None:
        plan.options[family.preset] = preset or family.speed


def _interlaced(plan: VideoPlan, info: MediaInfo) -> None:
    if not info.interlaced:
        return
    plan.fields = info.display.fields
    if plan.encoder in ("libx265", "libvpx-vp9", "libsvtav1"):
        plan.warnings.append(f"{plan.encoder} has no interlaced coding: the fields stay in their lines and the order "
                             "is noted, but some players will not deinterlace (--codec libx264 codes fields)")


def _hdr(plan: VideoPlan, hdr: Hdr) -> None:
    """Static HDR metadata as encoder parameters: FFmpeg takes them from no frame that PyAV hands over."""
    parts: list[str] = []
    display, light = _display_text(hdr, plan.encoder), hdr.light
    if plan.encoder == "libx265":
        parts += [f"master-display={display}"] if display else []
        parts += [f"max-cll={light[0]},{light[1]}"] if light else []
        parts += ["hdr10=1"]
        key = "x265-params"
    elif plan.encoder == "libx264":
        parts += [f"mastering-display={display}"] if display else []
        parts += [f"cll={light[0]},{light[1]}"] if light else []
        key = "x264-params"
    elif plan.encoder == "libsvtav1":
        parts += [f"mastering-display={display}"] if display else []
        parts += [f"content-light={light[0]},{light[1]}"] if light else []
        key = "svtav1-params"
    else:
        if display or light:
            plan.warnings.append(f"{plan.encoder} cannot carry the HDR mastering metadata; --codec libx265 can")
        key = ""
    if key and parts:
        plan.options[key] = ":".join([p for p in (plan.options.get(key), *parts) if p])
    plan.warnings += [f"{kind} metadata that changes from frame to frame is left out; HDR10 stays"
                      for kind in hdr.dynamic]


def _display_text(hdr: Hdr, encoder: str) -> str:
    if hdr.primaries is None or hdr.luminance is None:
        return ""
    exact = encoder == "libsvtav1"  # it takes decimal numbers, the others multiples of 0.00002 and 0.0001 cd/m²

    def number(value: Fraction, unit: int) -> str:
        return f"{float(value):.5f}" if exact else str(round(value * unit))

    rx, ry, gx, gy, bx, by, wx, wy = (number(v, 50_000) for v in hdr.primaries)
    dark, bright = (number(v, 10_000) for v in hdr.luminance)
    return f"G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({bright},{dark})"


def configure(target: VideoStream | VideoCodecContext, plan: VideoPlan) -> None:
    """Sets an encoder up as planned; `target` must not be open yet."""
    context = target.codec_context if isinstance(target, VideoStream) else target
    context.width, context.height, context.pix_fmt = plan.width, plan.height, plan.pix_fmt
    context.time_base, context.framerate = plan.time_base, plan.rate
    context.thread_count = plan.threads
    context.thread_type = "AUTO"
    if plan.aspect:
        context.sample_aspect_ratio = plan.aspect
    context.color_range, context.colorspace = plan.tags.range, plan.tags.matrix
    context.color_primaries, context.color_trc = plan.tags.primaries, plan.tags.transfer
    if plan.convert and shape_of(plan.pix_fmt).model == "yuv" and plan.tags.matrix in (0, 2):
        context.colorspace, context.color_range = 6, 1
    context.flags |= _FRAME_DURATION
    context.field_order = _FIELD_ORDER[plan.fields]  # pyright: ignore[reportAttributeAccessIssue]
    if plan.fields != "progressive":
        context.flags |= _INTERLACED
    if plan.tag:
        context.codec_tag = plan.tag
    options = dict(plan.options)
    if plan.encoder == "libx265":
        quiet = ["log-level=error"] + ([f"pools={plan.threads}"] if plan.threads else [])
        options["x265-params"] = ":".join([p for p in (options.get("x265-params"), *quiet) if p])
    if plan.encoder == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # the library writes to stderr by itself; 1 is errors only
        if plan.threads:
            text = options.get("svtav1-params")
            options["svtav1-params"] = ":".join([p for p in (text, f"lp={min(plan.threads, 6)}") if p])
    if plan.encoder in _BY_QSCALE:
        context.flags |= _QSCALE
        context.global_quality = 2 * 118  # FF_QP2LAMBDA
    context.options = options


def check(plan: VideoPlan) -> None:
    """Opens the encoder once, as it will be, and closes it.

    Raises:
        UsageError: it does not open like this.
    """
    context = VideoCodecContext.create(plan.encoder, "w")
    assert isinstance(context, VideoCodecContext)
    configure(context, plan)
    try:
        context.open()
    except (av.FFmpegError, ValueError) as error:
        chosen = ", ".join(f"{k}={v}" for k, v in plan.options.items())
        raise UsageError(f"{plan.encoder} does not open for {plan.width}×{plan.height} {plan.pix_fmt} with {chosen}; "
                         "check --codec, --crf and --preset") from error
    if context.options:
        raise UsageError(f"{plan.encoder} does not know the option {', '.join(context.options)}")
