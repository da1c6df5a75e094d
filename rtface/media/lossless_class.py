"""Lossless in, lossless out: the encoder that keeps the class of the input's coding, and what is said otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field

from av.codec import Codec

from rtface.media.encoders import FAMILIES, MEZZANINE, CodecFamily, VideoPlan
from rtface.media.pixel_format import nearest, pixel_format_info
from rtface.media.probe import MediaInfo

_SUFFIX = {"mov": ".mov", "matroska": ".mkv"}
# Samples of raw video that MOV has a code for.
_RAW_IN_MOV = ("uyvy422", "yuyv422", "rgb24", "bgr24", "argb", "bgra")


@dataclass(frozen=True, slots=True)
class PreservingEncoder:
    """The encoder that keeps a class, its quality (`crf`) and further options."""

    encoder: str
    crf: float | None = None
    options: dict[str, str] = field(default_factory=dict[str, str])


def preserving_encoder(info: MediaInfo, format: str, supported: set[str]) -> PreservingEncoder | None:
    """The encoder that keeps the input's class in a container, None where there is none that players of it know.

    The same codec where the container holds it; in Matroska FFV1 for every other lossless codec.
    """
    coding, codec = info.coding, info.codec
    if coding.kind == "mezzanine":
        encoder = "prores_ks" if codec == "prores" else "dnxhd"
        held = encoder in supported and format in ("mov", "matroska")
        return PreservingEncoder(encoder, options={"profile": coding.profile}) if held else None
    if coding.kind != "lossless" or format == "webm":
        return None
    rgb = pixel_format_info(info.pix_fmt).model == "rgb"
    if codec == "h264" and "libx264" in supported:
        return PreservingEncoder("libx264rgb" if rgb else "libx264", crf=0)
    if codec == "hevc" and "libx265" in supported:
        return PreservingEncoder("libx265", crf=0)
    if format == "mov" and codec in supported and codec in FAMILIES and _holds(codec, info) and (
            codec != "rawvideo" or info.pix_fmt in _RAW_IN_MOV):
        return PreservingEncoder(codec)
    if format != "matroska":
        return None
    if info.hdr is not None and _holds("libx265", info):
        return PreservingEncoder("libx265", crf=0)  # it carries the mastering metadata, FFV1 does not
    return PreservingEncoder("ffv1") if _holds("ffv1", info) else None


def _holds(encoder: str, info: MediaInfo) -> bool:
    """Whether an encoder takes every sample of the input as it is."""
    formats = [f.name for f in Codec(encoder, "w").video_formats or []]
    return not nearest(info.pix_fmt, formats, alpha=info.transparent)[1]


def lossy_notes(plan: VideoPlan, info: MediaInfo, format: str, *, asked: bool) -> list[str]:
    """What becomes of an input that is lossless, or made for editing, and is coded as neither; and how to keep it.

    Args:
        plan, info, format: the encoder, the input and the container.
        asked: whether the user asked for the codec or its quality.
    """
    coding = info.coding
    if coding.kind == "lossy" or plan.lossless or (coding.kind == "mezzanine" and plan.encoder in MEZZANINE):
        return []
    family = FAMILIES.get(plan.encoder, CodecFamily())
    quality = f" with {family.crf} {plan.options[family.crf]}" if family.crf in plan.options else ""
    kept = {"prores": ("mov", "matroska"), "dnxhd": ("mov",)}.get(info.codec, ("matroska",))
    steps = [] if format in kept else ["name a " + " or ".join(_SUFFIX[name] for name in kept) + " output"]
    steps += ["leave --codec and --crf out"] if asked else []
    how = " and ".join(steps) + (" to keep every sample" if coding.kind == "lossless" else f" to keep {coding.name}")
    if coding.kind == "lossless" and family.lossless is not None:
        how += ", or give --crf 0 (few players show it)"
    return [f"the input is {coding.described} and becomes lossy ({plan.encoder}{quality}); {how}"]
