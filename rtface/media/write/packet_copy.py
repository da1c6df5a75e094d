"""Whether coded frames of the input can stand between encoded ones in the output, and what the encoder needs for that.

H.264: frames that are encoded get parameter sets with another number (x264's `sps-id`), which are in the header of the
output (avcC, CodecPrivate) with those of the input, or in the stream where the input has start codes. So no coded frame
is changed, and a decoder knows both whatever it begins with.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from av.video.stream import VideoStream

from rtface.errors import Message
from rtface.media.formats.coded_headers.bits import annex_b, length_size, parameter_sets
from rtface.media.formats.coded_headers.h264 import H264Slices
from rtface.media.read.mini_gops import mini_gops
from rtface.media.read.probe import MediaInfo
from rtface.media.write.encoders import VideoPlan

_FROM, _INTO = ("mov,", "matroska,", "mpegts"), ("mp4", "mov", "matroska", "mpegts")
_PROFILES = {66: "baseline", 77: "main", 100: "high", 110: "high10", 122: "high422"}
_INTRA = 0x10  # constraint_set3_flag, of High 10 and High 4:2:2
_NUMBERS = 32  # of sequence parameter sets
_SPS = 7
# Read before the work, at most: groups, and frames.
_GROUPS, _FRAMES = 4, 1000


@dataclass(frozen=True, slots=True)
class PacketCopy:
    """How coded frames of the input are copied.

    Attributes:
        path: of the input.
        header: its extradata.
        delay: frames by which decoding runs ahead of presentation, at most.
        partly: why only the frames before the first changed one are copied, where that is so.
    """

    path: Path
    header: bytes
    delay: int
    partly: Message | None = None

    @property
    def prefix(self) -> int:
        """Bytes of the length before each unit; 0 where start codes are between them."""
        return length_size(self.header)

    def shared_header(self, own: bytes) -> bytes:
        """The input's header with the parameter sets of an encoder (Annex B)."""
        if not self.prefix:
            return self.header + own
        units = [unit.rstrip(b"\0") for unit in annex_b(own)]
        sets = [[unit for unit in units if (unit[0] & 31 == _SPS) == first] for first in (True, False)]
        out, at = bytearray(self.header[:5]), 5
        for more in sets:
            count = self.header[at] & 31
            end = at + 1
            for _ in range(count):
                end += 2 + int.from_bytes(self.header[end : end + 2], "big")
            out.append(self.header[at] + len(more))
            out += self.header[at + 1 : end]
            for unit in more:
                out += len(unit).to_bytes(2, "big") + unit
            at = end
        return bytes(out + self.header[at:])


def plan_copy(info: MediaInfo, path: object, format: str, video: VideoPlan) -> PacketCopy | Message:
    """How packets are copied, and `video` with what makes its encoder fit; else why every frame has to be encoded."""
    stream = next(stream.template for stream in info.streams if stream.enhanced)
    if not isinstance(path, Path) or not path.is_file():
        return Message("the input is no file, and cannot be read twice", code="copy_no_file")
    if info.codec != "h264" or not info.format.startswith(_FROM) or format not in _INTO:
        return Message(
            "only H.264 of MP4, MOV, Matroska and MPEG-TS is copied into these, not {codec} of {container}",
            code="copy_codec",
            codec=info.codec,
            container=info.format.split(",")[0],
        )
    if video.encoder != "libx264":
        return Message("the output is encoded by {encoder}", code="copy_encoder", encoder=video.encoder)
    same = (video.width, video.height, video.pix_fmt) == (info.width, info.height, info.pix_fmt)
    if video.lossless or not same or info.crop is not None:
        return Message("the output has another size, format or class than the input", code="copy_form")
    assert isinstance(stream, VideoStream)
    header, slices = bytes(stream.codec_context.extradata or b""), H264Slices()
    try:
        for unit in parameter_sets(header, "avc"):
            slices.read(unit)
    except (IndexError, KeyError, ValueError):
        slices.sequences.clear()
    kinds = {(one.profile, one.constraints & _INTRA, one.level) for one in slices.sequences.values()}
    number = next((n for n in range(_NUMBERS) if n not in slices.sequences and n not in slices.pictures), None)
    profile, intra, level = next(iter(kinds), (0, 0, 0))
    if len(kinds) != 1 or number is None or profile not in _PROFILES or (profile > 100 and intra):
        return Message("its header names no profile that is encoded here", code="copy_profile")
    seen = _look(path, info.start)
    if not seen.copied:
        return Message(
            "none of its first groups of pictures begins with an IDR frame and can be copied (open groups, fields that "
            "are coded apart, frames without a time, or parameter sets that its header lacks)",
            code="copy_groups",
        )
    depth = max(stream.codec_context.reorder_depth, seen.depth)  # of which some headers say nothing
    references = max(1, *(one.references for one in slices.sequences.values()))
    video.options |= {"profile": _PROFILES[profile]}
    if depth < 2:
        video.options |= {"b-pyramid": "none"} if depth else {"bf": "0"}
    own = f"stitchable=1:open-gop=0:sps-id={number}:level={level}:ref={references}"
    video.options["x264-params"] = ":".join([p for p in (video.options.get("x264-params"), own) if p])
    partly = Message("its groups of pictures are open, and all from the first changed on is encoded", code="copy_open")
    return PacketCopy(path, header, max(depth, 2 if depth else 0), partly if seen.copied == 1 and seen.open else None)


@dataclass(slots=True)
class _Seen:
    """The first groups of a film: frames by which decoding runs ahead, groups that can be copied, and open ones."""

    depth: int = 0
    copied: int = 0
    open: int = 0


def _look(path: Path, start: Fraction | None) -> _Seen:
    seen, frames = _Seen(), 0
    with closing(mini_gops(path, start)) as gops:
        for gop in gops:
            frames += len(gop.packets)
            seen.depth = max(seen.depth, gop.depth)
            seen.copied += gop.begins and gop.sound
            seen.open += not gop.begins and gop.packets[0].is_keyframe
            if seen.copied > _GROUPS or frames > _FRAMES:
                break
    return seen
