"""Chooses encoder, pixel format and options of an output's video stream."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

import av

from rtface.errors import Message, UsageError
from rtface.media.formats.color import tags_from_rgb
from rtface.media.formats.immersive import sphere_of, stereo_mode
from rtface.media.formats.pixel_format import nearest, pixel_format_info
from rtface.media.read.media_info import MediaInfo
from rtface.media.write.encoder_options import limit_look_ahead, set_hdr, set_quality, set_slices
from rtface.media.write.encoders import FAMILIES, MEZZANINE, CodecFamily, VideoPlan, writes_captions

ALIASES = {
    "h264": "libx264",
    "x264": "libx264",
    "avc": "libx264",
    "h265": "libx265",
    "x265": "libx265",
    "hevc": "libx265",
    "av1": "libsvtav1",
    "svtav1": "libsvtav1",
    "vp9": "libvpx-vp9",
    "prores": "prores_ks",
}

# Encoders of films for players. From a folder of stills they encode 4:2:0, which players support.
_FOR_PLAYERS = ("libx264", "libx265", "libsvtav1", "libvpx", "h264_", "hevc_", "av1_", "mpeg")
# Containers whose header gets HDR metadata and projection (`matroska.note_picture`, `mp4.note_picture`).
_HEADER_METADATA = ("matroska", "webm", "mp4", "mov")
_FINEST_TIME_BASE = Fraction(1, 1_000_000)  # MP4 stores a sample's duration in 32 bits: 71 minutes
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
# Pixel formats of raw video that have a FourCC in MOV.
_RAW_IN_MOV = ("uyvy422", "yuyv422", "rgb24", "bgr24", "argb", "bgra")


def default_encoder(info: MediaInfo, format: str, supported: set[str]) -> str:
    """Returns a widely supported encoder that keeps bit depth and chroma sampling."""
    shape = pixel_format_info(info.pix_fmt)
    alpha = shape.alpha and info.transparent
    if format == "webm":  # FFmpeg's usual builds of libvpx support 8 bits only
        return "libvpx-vp9" if shape.bits <= 8 or "libsvtav1" not in supported else "libsvtav1"
    if format == "mxf":
        return "ffv1" if shape.bits > 12 else "libx264" if _full_range(info) else "prores_ks"
    if alpha and format == "matroska":
        return "ffv1"
    if alpha and format == "mov":
        return "qtrle" if shape.model == "rgb" and shape.bits == 8 else "prores_ks"
    if shape.bits > 12 and format == "matroska":
        return "ffv1"
    if info.is_sequence:  # above 8 bits, fewer players support H.264 than H.265
        return "libx265" if shape.bits > 8 and "libx265" in supported else "libx264"
    if (shape.bits > 10 or info.hdr is not None or info.color.transfer in ("pq", "hlg")) and "libx265" in supported:
        return "libx265"
    if shape.model == "rgb":
        return "libx264rgb" if shape.bits == 8 else "libx265"
    return "libx264"


def _full_range(info: MediaInfo) -> bool:
    """Tells whether the frames are full-range YCbCr, which ProRes cannot signal."""
    return info.tags.range == _FULL_RANGE and pixel_format_info(info.pix_fmt).model == "yuv"


def plan_video(
    info: MediaInfo,
    format: str,
    supported: set[str],
    *,
    codec: str | None,
    crf: float | None,
    preset: str | None,
    keep: bool = False,
    say: bool = False,
) -> VideoPlan:
    """Chooses and configures the encoder.

    Args:
        info: the input.
        format: FFmpeg's name of the output container.
        supported: encoders whose streams the container can store.
        codec: requested name or alias; None for the default.
        crf, preset: requested quality and speed; crf 0 is lossless if the encoder supports it.
        keep: whether a lossless input stays lossless and a mezzanine input keeps its codec, if the container can store
            it. Ignored if codec or crf is given.
        say: whether to warn if a lossless or mezzanine input becomes lossy.

    Raises:
        UsageError: there is no such encoder, or it does not fit the container or the options.
    """
    preserving = _preserving_encoder(info, format, supported) if keep and codec is None and crf is None else None
    name = ALIASES.get(codec.lower(), codec) if codec else default_encoder(info, format, supported)
    options = dict[str, str]()
    if preserving:
        name, crf, options = preserving
    source = pixel_format_info(info.pix_fmt)
    if name == "libx264" and source.model == "rgb" and codec is None and (crf == 0 or not info.is_sequence):
        name = "libx264rgb"
    encoder = encoder_of(name)
    if name not in supported:
        line = "{container} cannot hold {codec}; choose another {--codec}, or a .mkv output"
        raise UsageError(line, code="container_codec", container=format, codec=codec or name)
    alpha = info.transparent and source.alpha
    exact_formats = FAMILIES.get(name, CodecFamily()).formats
    candidates = [f.name for f in encoder.video_formats or [] if exact_formats is None or f.name in exact_formats]
    transparent = [c for c in candidates if pixel_format_info(c).alpha]
    if name in ("libx265", "libvpx-vp9"):  # few decoders show the second layer in which these store alpha
        candidates = [c for c in candidates if c not in transparent]
    elif preserving and source.alpha and info.pix_fmt != "pal8":  # later frames may be transparent
        candidates = transparent or candidates
    for_players = info.is_sequence and crf != 0 and name.startswith(_FOR_PLAYERS) and name != "libx264rgb"
    if for_players:
        playable_formats = ["yuv420p", "yuvj420p", "nv12"]
        playable_formats += ["yuv420p10le", "p010le"] if source.bits > 8 else []
        candidates = [c for c in candidates if c in playable_formats]
    pix_fmt, lost = nearest(info.pix_fmt, candidates, alpha=alpha)
    target = pixel_format_info(pix_fmt)
    convert = source.model not in (target.model, "gray")
    xyz = info.pix_fmt.startswith("xyz")  # FFmpeg does not distinguish XYZ from YCbCr
    convert = convert or xyz or target.bits < source.bits or any("resolution" in s for s in lost)
    plan = VideoPlan(
        name, pix_fmt, info.width, info.height, info.rate, info.time_base, info.tags, info.aspect, convert=convert
    )
    if convert and target.model == "yuv" and (source.model == "rgb" or xyz):
        plan.tags = tags_from_rgb(info.tags, info.width, info.height)
    elif pixel_format_info(pix_fmt).model != "rgb" and plan.tags.matrix == 0:  # gray stills are tagged as RGB
        plan.tags = replace(plan.tags, matrix=tags_from_rgb(info.tags, info.width, info.height).matrix)
    if for_players and lost:
        lost[0] += Message(
            ", which players support; {--crf:0}, {--codec:libx264rgb}, or {--codec:ffv1} in a .mkv output keep the "
            "colours",
            code="colours_kept_by",
        )
    plan.warnings += [Message("{name}: {what}", code="codec_loses", name=name, what=line) for line in lost]
    plan.warnings += [*(f"the input: {line}" for line in info.lost_parts), *_lost_views(info, format)]
    _round_size_up(plan)
    set_quality(plan, crf, preset)
    limit_look_ahead(plan)
    set_slices(plan)
    if name == "dnxhd":  # DNxHR, which supports every size
        plan.options["profile"] = (
            "dnxhr_444" if target.sampling == (1, 1) else ("dnxhr_hqx" if target.bits > 8 else "dnxhr_hq")
        )
    plan.options |= options
    if format == "mxf" and name == "libx264":
        plan.options["bf"] = "0"  # no B-frames: MXF does not store the display order
    if say:
        plan.warnings += lossy_notes(plan, info)
    _set_interlacing(plan, info)
    if name == "prores_ks" and plan.tags.range == _FULL_RANGE and _full_range(info):
        plan.warnings.append(
            "ProRes cannot signal full range: players clip black and white; --codec ffv1 in a .mkv output keeps it"
        )
    if info.hdr is not None:
        set_hdr(plan, info.hdr, in_container=format in _HEADER_METADATA and not name.endswith("_nvenc"))
    if alpha and not target.alpha:
        plan.lost.add("transparency")
    if info.captions and not writes_captions(name):
        plan.lost.add("captions")
        plan.warnings.append(f"{name} cannot carry the closed captions; --codec libx264 or libx265 can")
    if info.tags.siting and pixel_format_info(pix_fmt).sampling != (1, 1):
        plan.options["chroma_sample_location"] = info.tags.siting
    # Readers would mistake a time base of about one frame for the frame interval.
    plan.time_base = min(plan.time_base, Fraction(1, plan.time_base.denominator))  # halved often, it must fit 32 bits
    while plan.time_base > Fraction(1, 1000):
        plan.time_base /= 2
    plan.time_base = max(plan.time_base, _FINEST_TIME_BASE)
    if format in ("mp4", "mov") and name in ("libx265", "hevc_nvenc"):
        plan.tag = "hvc1"  # Apple's players reject hev1
    if name == "mpeg4":
        plan.time_base = Fraction(1, 60_000)  # MPEG-4 stores the denominator in 16 bits
    return plan


def encoder_of(name: str) -> av.Codec:
    """Returns the video encoder for a value of ``--codec``. Raises UsageError if there is none."""
    with suppress(av.FFmpegError, ValueError):
        if (encoder := av.Codec(ALIASES.get(name.lower(), name), "w")).type == "video":
            return encoder
    raise UsageError(
        "{--codec:{name}}: no such encoder for video is installed; available: {codecs}",
        code="codec_unknown",
        name=name,
        codecs=", ".join(sorted({*ALIASES, *FAMILIES})),
    )


_WHOLE_FRAME = (0, 8)  # active formats (AFD) that cover the whole frame


def _lost_views(info: MediaInfo, format: str) -> list[Message]:
    """Lists display metadata of the frames that an output cannot store."""
    lost = {
        "stereo tag": info.views.get("STEREO3D", "").strip("0")
        and not any(stereo_mode(info.views, stream.metadata, format) for stream in info.streams if stream.enhanced),
        "spherical tag": "SPHERICAL" in info.views and not (format in _HEADER_METADATA and sphere_of(info.views)),
    }
    lines = [
        Message("the {view} is left out: players will show flat pictures", code="view_lost", view=view)
        for view, is_lost in lost.items()
        if is_lost
    ]
    if (active := int(info.views.get("AFD", "8"), 16)) not in _WHOLE_FRAME:
        line = "the active format (AFD {active}) is left out: televisions may show bars that they would otherwise crop"
        lines.append(Message(line, code="active_format_lost", active=active))
    return lines


def _round_size_up(plan: VideoPlan) -> None:
    if not plan.encoder.startswith(("libx26", "libsvtav1", "h264_", "hevc_")):
        return
    across, down = pixel_format_info(plan.pix_fmt).sampling
    width, height = -(-plan.width // across) * across, -(-plan.height // down) * down
    if (width, height) != (plan.width, plan.height):
        plan.warnings.append(
            f"{plan.encoder} cannot encode {plan.width}×{plan.height}: the last column or row is repeated, which "
            f"gives {width}×{height} (--codec ffv1 in a .mkv output keeps the size)"
        )
        plan.width, plan.height = width, height


def _set_interlacing(plan: VideoPlan, info: MediaInfo) -> None:
    if not info.interlaced:
        return
    plan.fields = info.display.fields
    if plan.fields == "bff" and plan.encoder.startswith("libx264"):
        plan.options["x264-params"] = "bff=1"  # otherwise the SEI signals top field first
    if plan.encoder in ("libx265", "libvpx-vp9", "libsvtav1"):
        plan.warnings.append(
            f"{plan.encoder} has no interlaced coding: frames keep both fields and the field order is stored, but "
            "some players will not deinterlace (--codec libx264 encodes fields)"
        )


# -- lossless in, lossless out --------------------------------------------------------------------------------------


def _preserving_encoder(
    info: MediaInfo, format: str, supported: set[str]
) -> tuple[str, float | None, dict[str, str]] | None:
    """Returns an encoder that keeps the input's class, and its settings.

    Returns None if the container or its players support no such encoder. H.264, H.265 and, in MOV, other codecs are
    kept if possible; in Matroska and MXF, other lossless codecs become FFV1.
    """
    coding, codec = info.coding, info.codec
    if coding.kind == "mezzanine":
        encoder = "prores_ks" if codec == "prores" else "dnxhd"
        supports = encoder in supported and format in ("mov", "matroska", "mxf")
        return (encoder, None, {"profile": coding.profile}) if supports else None
    if coding.kind != "lossless" or format == "webm":
        return None
    rgb = pixel_format_info(info.pix_fmt).model == "rgb"
    if codec == "h264" and "libx264" in supported and format != "mxf":
        return "libx264rgb" if rgb else "libx264", 0, {}
    if codec == "hevc" and "libx265" in supported:
        return "libx265", 0, {}
    if (
        format == "mov"
        and codec in supported
        and codec in FAMILIES
        and _stores_exactly(codec, info)
        and (codec != "rawvideo" or info.pix_fmt in _RAW_IN_MOV)
    ):
        return codec, None, {}
    return ("ffv1", None, {}) if format in ("matroska", "mxf") and _stores_exactly("ffv1", info) else None


def _stores_exactly(encoder: str, info: MediaInfo) -> bool:
    """Tells whether an encoder stores every sample of the input unchanged."""
    formats = [f.name for f in av.Codec(encoder, "w").video_formats or []]
    return not nearest(info.pix_fmt, formats, alpha=info.transparent)[1]


def lossy_notes(plan: VideoPlan, info: MediaInfo) -> list[str]:
    """Returns a message if a lossless or mezzanine input becomes lossy."""
    coding = info.coding
    if coding.kind == "lossy" or plan.lossless or (coding.kind == "mezzanine" and plan.encoder in MEZZANINE):
        return []
    return [
        Message(
            "the input is {coding} and becomes lossy ({encoder}); a {suffix} output without {--codec} and {--crf} "
            "avoids this",
            code="becomes_lossy",
            coding=coding.described,
            encoder=plan.encoder,
            suffix={"prores": ".mov or .mkv", "dnxhd": ".mov"}.get(info.codec, ".mkv"),
        )
    ]
