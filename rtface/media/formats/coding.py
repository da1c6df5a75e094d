"""How the frames of a film are coded: without loss, for editing, or lossy."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from av.video.codeccontext import VideoCodecContext

from rtface.media.formats.coded_headers.bits import Bits, parameter_sets, unescaped
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
# prores_ks's and dnxhd's profiles by FFmpeg's names of those that were decoded.
_PRORES = {"Proxy": "proxy", "LT": "lt", "Standard": "standard", "HQ": "hq", "4444": "4444", "XQ": "4444xq"}
_DNX = {
    "DNXHR LB": "dnxhr_lb",
    "DNXHR SQ": "dnxhr_sq",
    "DNXHR HQ": "dnxhr_hq",
    "DNXHR HQX": "dnxhr_hqx",
    "DNXHR 444": "dnxhr_444",
}
# Profiles of H.264 whose parameter sets say more about the samples (ITU-T H.264, 7.3.2.1.1).
_H264_HIGH = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}


@dataclass(frozen=True, slots=True)
class Coding:
    """What the frames of a film went through.

    Attributes:
        kind: "lossless"; "mezzanine" for codecs made for editing, whose loss is not seen (ProRes, DNxHD, DNxHR); or
            "lossy", which is also what is said where nothing can be known.
        name: of the codec, for messages.
        profile: of a mezzanine codec, by its encoder's name.
    """

    kind: Class = "lossy"
    name: str = ""
    profile: str = ""

    @property
    def described(self) -> str:
        """Class and codec in a few words."""
        return CLASSES[self.kind] + (f" ({self.name})" if self.name else "")


def coding_of(context: VideoCodecContext, head: bytes = b"") -> Coding:
    """What an opened stream says of its coding; `head` is the beginning of its first packet.

    H.264 and H.265 are lossless where their parameter sets say that the quantiser is bypassed, JPEG 2000 where its
    header names the reversible transform. Where nothing is said they are lossy.
    """
    codec = context.codec.canonical_name
    profile = str(context.profile or "")
    if codec == "prores":
        return Coding("mezzanine", f"ProRes {profile}".strip(), _PRORES.get(profile, "hq"))
    if codec == "dnxhd":
        deep = pixel_format_info(context.pix_fmt).bits > 8 if context.pix_fmt else False
        name = profile.replace("DNXHR", "DNxHR").replace("DNXHD", "DNxHD") or "DNxHD"
        return Coding("mezzanine", name, _DNX.get(profile, "dnxhr_hqx" if deep else "dnxhr_hq"))
    if codec in ("h264", "hevc"):
        with suppress(IndexError):  # a parameter set that is cut off says nothing
            if (_h264_bypass if codec == "h264" else _hevc_bypass)(bytes(context.extradata or b"")):
                return Coding("lossless", _NAMES[codec])
    elif codec == "jpeg2000":
        # COD: length, style, order, layers, component transform, levels, block size, block style, wavelet (1: 5/3)
        at = head.find(b"\xff\x52")
        if at >= 0 and head[at + 13 : at + 14] == b"\1":
            return Coding("lossless", _NAMES[codec])
    elif context.codec.lossless and not context.codec.lossy and codec != "gif":
        return Coding("lossless", _NAMES.get(codec, codec))
    return Coding("lossy", codec)


# -- parameter sets ---------------------------------------------------------------------------------------------


def _h264_bypass(extradata: bytes) -> bool:
    """Whether a sequence parameter set has qpprime_y_zero_transform_bypass_flag."""
    for unit in parameter_sets(extradata, "avc"):
        if unit[0] & 31 != 7 or unit[1] not in _H264_HIGH:
            continue
        bits = Bits(unescaped(unit)[4:])
        bits.golomb()  # its number
        if bits.golomb() == 3:
            bits.take(1)
        bits.skip_golomb(2)  # depth of luma and chroma
        if bits.take(1):
            return True
    return False


def _hevc_bypass(extradata: bytes) -> bool:
    """Whether a frame parameter set has transquant_bypass_enabled_flag. x265 sets it too where only some blocks are
    lossless, and says so in its own message."""
    if b" no-lossless" in extradata:
        return False
    for unit in parameter_sets(extradata, "hvc"):
        if unit[0] >> 1 & 63 != 34:
            continue
        bits = Bits(unescaped(unit)[2:])
        bits.skip_golomb(2)
        bits.take(7)  # dependent slices, output flag, extra bits, sign hiding, cabac
        bits.skip_golomb(3)  # references, first quantiser
        bits.take(2)
        if bits.take(1):
            bits.golomb()
        bits.skip_golomb(2)
        bits.take(3)  # chroma offsets in slices, weighted prediction twice
        if bits.take(1):
            return True
    return False
