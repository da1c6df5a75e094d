"""How the frames of a film are coded: without loss, for editing, or lossy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from av.video.codeccontext import VideoCodecContext

from rtface.media.pixel_format import pixel_format_info

Class = Literal["lossless", "mezzanine", "lossy"]

CLASSES: dict[Class, str] = {"lossless": "lossless", "mezzanine": "made for editing", "lossy": "lossy"}

_NAMES = {"ffv1": "FFV1", "huffyuv": "HuffYUV", "ffvhuff": "FFVHUFF", "utvideo": "Ut Video", "magicyuv": "MagicYUV",
          "rawvideo": "raw video", "png": "PNG", "qtrle": "QuickTime Animation", "h264": "H.264",
          "hevc": "H.265", "prores": "ProRes", "dnxhd": "DNxHD", "jpeg2000": "JPEG 2000"}
# prores_ks's and dnxhd's profiles by FFmpeg's names of those that were decoded.
_PRORES = {"Proxy": "proxy", "LT": "lt", "Standard": "standard", "HQ": "hq", "4444": "4444", "XQ": "4444xq"}
_DNX = {"DNXHR LB": "dnxhr_lb", "DNXHR SQ": "dnxhr_sq", "DNXHR HQ": "dnxhr_hq", "DNXHR HQX": "dnxhr_hqx",
        "DNXHR 444": "dnxhr_444"}
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
            bypassed = _h264_bypass if codec == "h264" else _hevc_bypass
            if bypassed(bytes(context.extradata or b"")):
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


class _Bits:
    """Reads a parameter set bit by bit; IndexError past its end."""

    def __init__(self, unit: bytes) -> None:
        data = unit.replace(b"\0\0\3", b"\0\0")  # without emulation prevention
        self._bits = "".join(f"{byte:08b}" for byte in data)
        self._at = 0

    def take(self, count: int) -> int:
        if self._at + count > len(self._bits):
            raise IndexError
        self._at += count
        return int(self._bits[self._at - count : self._at], 2) if count else 0

    def golomb(self) -> int:
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def skip_golomb(self, count: int) -> None:
        for _ in range(count):
            self.golomb()


def _h264_bypass(extradata: bytes) -> bool:
    """Whether a sequence parameter set has qpprime_y_zero_transform_bypass_flag."""
    for unit in _units(extradata, "avc"):
        if unit[0] & 31 != 7 or unit[1] not in _H264_HIGH:
            continue
        bits = _Bits(unit[4:])
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
    for unit in _units(extradata, "hvc"):
        if unit[0] >> 1 & 63 != 34:
            continue
        bits = _Bits(unit[2:])
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


def _units(extradata: bytes, kind: Literal["avc", "hvc"]) -> Iterator[bytes]:
    """The parameter sets of a stream's extradata: Annex B with start codes, or a record (ISO 14496-15)."""
    if extradata[:1] != b"\1":
        for part in extradata.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1"):
            if len(part) > 4:
                yield part
        return
    at = 5 if kind == "avc" else 22
    arrays = 1 if kind == "avc" else extradata[at]
    at += kind == "hvc"
    for _ in range(arrays):
        if kind == "avc":
            count, at = extradata[at] & 31, at + 1
        else:
            count, at = extradata[at + 1] << 8 | extradata[at + 2], at + 3
        for _ in range(count):
            size = extradata[at] << 8 | extradata[at + 1]
            yield extradata[at + 2 : at + 2 + size]
            at += 2 + size
