"""Classifies the coding of a film: lossless, made for editing (mezzanine), or lossy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import av

from rtface.media.formats.coded_headers.units import UNITS
from rtface.media.formats.pixel_format import pixel_format_info

Class = Literal["lossless", "mezzanine", "lossy"]

CLASSES: dict[Class, str] = {"lossless": "lossless", "mezzanine": "made for editing", "lossy": "lossy"}

_NAMES = {
    "ffv1": "FFV1",
    "huffyuv": "HuffYUV",
    "ffvhuff": "FFVHUFF",
    "utvideo": "Ut Video",
    "magicyuv": "MagicYUV",
    "rawvideo": "raw video",
    "png": "PNG",
    "qtrle": "QuickTime Animation",
    "h264": "H.264",
    "hevc": "H.265",
    "prores": "ProRes",
    "dnxhd": "DNxHD",
    "jpeg2000": "JPEG 2000",
}
# Encoder profiles of prores_ks and dnxhd, keyed by the profile names of FFmpeg's decoders.
_PRORES = {"Proxy": "proxy", "LT": "lt", "Standard": "standard", "HQ": "hq", "4444": "4444", "XQ": "4444xq"}
_DNX = {
    "DNXHR LB": "dnxhr_lb",
    "DNXHR SQ": "dnxhr_sq",
    "DNXHR HQ": "dnxhr_hq",
    "DNXHR HQX": "dnxhr_hqx",
    "DNXHR 444": "dnxhr_444",
}


@dataclass(frozen=True, slots=True)
class Coding:
    """How the frames of a film are coded.

    Attributes:
        kind: "lossless"; "mezzanine" for editing codecs with invisible loss (ProRes, DNxHD, DNxHR); "lossy" for all
            others.
        name: name of the codec, for messages.
        profile: profile of a mezzanine codec, as the encoder calls it.
    """

    kind: Class = "lossy"
    name: str = ""
    profile: str = ""

    @property
    def described(self) -> str:
        """Class and codec name, for messages."""
        return CLASSES[self.kind] + (f" ({self.name})" if self.name else "")


def coding_of(context: av.VideoCodecContext, head: bytes = b"") -> Coding:
    """Returns the coding of an opened stream. `head` is the beginning of its first packet.

    H.264 and H.265 are lossless if their parameter sets bypass the quantiser, and JPEG 2000 is lossless if its header
    specifies the reversible wavelet. Otherwise these codecs are lossy.
    """
    codec = context.codec.canonical_name
    profile = str(context.profile or "")
    if codec == "prores":
        return Coding("mezzanine", f"ProRes {profile}".strip(), _PRORES.get(profile, "hq"))
    if codec == "dnxhd":
        high_bit_depth = pixel_format_info(context.pix_fmt).bits > 8 if context.pix_fmt else False
        name = profile.replace("DNXHR", "DNxHR").replace("DNXHD", "DNxHD") or "DNxHD"
        return Coding("mezzanine", name, _DNX.get(profile, "dnxhr_hqx" if high_bit_depth else "dnxhr_hq"))
    if codec in UNITS:
        extradata = bytes(context.extradata or b"")
        # x265 also sets the bypass flag if only some blocks use it; its settings then contain no-lossless.
        if b" no-lossless" not in extradata and UNITS[codec].primed(extradata).lossless:
            return Coding("lossless", _NAMES[codec])
    elif codec == "jpeg2000":
        # COD marker: length, style, order, layers, colour transform, levels, block size, block style, wavelet (1: 5/3)
        at = head.find(b"\xff\x52")
        if at >= 0 and head[at + 13 : at + 14] == b"\1":
            return Coding("lossless", _NAMES[codec])
    elif context.codec.lossless and not context.codec.lossy and codec != "gif":
        return Coding("lossless", _NAMES.get(codec, codec))
    return Coding("lossy", codec)
