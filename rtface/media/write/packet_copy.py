"""Checks whether coded input frames can be mixed with encoded ones.

Also configures the encoder. In H.264 and HEVC, encoded frames use parameter sets with a number that is free in the
input (H.264: x264's `sps-id`; HEVC: x265's NAL units are changed). The output's header (avcC, hvcC, CodecPrivate), or
the stream if the input has start codes, contains these sets and the input's. In HEVC they also precede each keyframe.
Therefore no input slice is changed, and decoders can start at any keyframe. `intra_copy` handles intra codecs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import av

from rtface.errors import Message
from rtface.media.formats.coded_headers.bits import annex_b, unescaped
from rtface.media.formats.coded_headers.h264 import H264Slices
from rtface.media.formats.coded_headers.hevc import PICTURE, renumbered
from rtface.media.formats.coded_headers.units import BLA, UNITS, Units
from rtface.media.formats.pixel_format import pixel_format_info
from rtface.media.read.media_info import MediaInfo
from rtface.media.read.mini_gops import CodedFrame, mini_gops
from rtface.media.write.codec import ALIASES
from rtface.media.write.encoders import VideoPlan
from rtface.media.write.intra_copy import IntraCopy, find_intra

_INPUT_FORMATS, _OUTPUT_FORMATS = ("mov,", "matroska,", "mpegts"), ("mp4", "mov", "matroska", "mpegts")
_PROFILES = {66: "baseline", 77: "main", 100: "high", 110: "high10", 122: "high422"}
_INTRA_FLAG = 0x10  # constraint_set3_flag, for High 10 and High 4:2:2
# HEVC profiles by bits and chroma, as in libx265.
_HEVC_PROFILES = {(8, (2, 2)): 1, (10, (2, 2)): 2, (10, (2, 1)): 4}
_HEVC_SPS, _DELIMITER = 33, 35
# Upper limit (exclusive) of the numbers of sequence parameter sets.
_NUMBERS = {"avc": 32, "hvc": 16}
# Maximum numbers of groups and frames to examine before the run.
_MAX_GROUPS, _MAX_FRAMES = 4, 1000


@dataclass(frozen=True, slots=True)
class GroupCopy:
    """The settings for copying groups of pictures in H.264 or HEVC.

    Attributes:
        path: path of the input.
        units: NAL unit types of its codec.
        header: extradata of the input.
        number: number of the encoded frames' parameter sets.
        depth: number of frames by which decoding precedes presentation in the input.
        codec: name of the matching encoder, as for ``--codec``.
        delay: maximum number of frames by which decoding precedes presentation in the output.
        prefix: bytes of each NAL unit's length prefix; 0 with start codes.
        apart: whether only the header contains the parameter sets.
        partly: reason why only the frames before the first changed one are copied; None if later ones are, too.
    """

    path: Path
    units: Units
    header: bytes
    number: int
    depth: int
    codec: str
    delay: int
    prefix: int
    apart: bool
    partly: Message | None = None

    def shared_header(self, encoder_header: bytes) -> bytes:
        """Returns the input's header with an encoder's parameter sets (Annex B)."""
        sets = [unit for unit in self._renumber(encoder_header) if self.units.kind(unit) in self.units.sets]
        return self.units.extended(self.header, sets) if self.prefix else self.header + _with_start_codes(sets)

    def kept(self, packet: CodedFrame, *, enters: bool = False) -> CodedFrame:
        """Returns an input frame, with parameter sets in HEVC keyframes. They are repeated because Firefox uses only
        the first sets of a header, and later the sets that arrived last.

        Args:
            packet: packet of the input.
            enters: whether to change the frame's type from one of `Units.open` to BLA_N_LP (no leading frames). At such
                a frame, decoders output all earlier frames and restart the picture order count.
        """
        if not packet.is_keyframe or self.units.record == "avc" or not (self.prefix or enters):
            return packet
        units = list(self.units.split(bytes(packet), self.prefix))
        if self.prefix and not any(self.units.kind(unit) in self.units.sets for unit in units):
            at = int(self.units.kind(units[0]) == _DELIMITER)
            units[at:at] = sorted(self.units.sets_of(self.header), key=self.units.kind)
        if enters:
            units = [
                bytes((unit[0] & 129 | BLA << 1,)) + unit[1:] if self.units.kind(unit) in self.units.open else unit
                for unit in units
            ]
        result: CodedFrame = av.Packet(self._join(units))
        result.pts, result.is_keyframe = packet.pts, True
        return result

    def framed(self, data: bytes, source: bytes) -> bytes:
        """Converts an encoder's frame (Annex B) to the input's packet format. `source` is unused."""
        if not self.prefix:
            return data if self.units.record == "avc" else _with_start_codes(self._renumber(data))
        omitted = self.units.sets if self.apart else ()
        return self._join(unit for unit in self._renumber(data) if self.units.kind(unit) not in omitted)

    def _join(self, units: Iterable[bytes]) -> bytes:
        size = self.prefix
        return b"".join(len(unit).to_bytes(size, "big") + unit for unit in units) if size else _with_start_codes(units)

    def _renumber(self, data: bytes) -> Iterator[bytes]:
        for unit in annex_b(data):
            unit = unit.rstrip(b"\0")
            yield renumbered(unit, self.number) if self.units.record == "hvc" else unit


def _with_start_codes(units: Iterable[bytes]) -> bytes:
    return b"".join(b"\0\0\0\1" + unit for unit in units)


PacketCopy: TypeAlias = GroupCopy | IntraCopy
"""Settings for copying coded frames of the input."""


def find_copy(info: MediaInfo, path: object, format: str) -> PacketCopy | Message:
    """Returns settings for copying packets, or why none can be copied. Without settings, every frame is encoded."""
    stream = next(stream.template for stream in info.streams if stream.enhanced)
    if not isinstance(path, Path) or not path.is_file():
        return Message("the input is not a file and cannot be read twice", code="copy_no_file")
    assert isinstance(stream, av.VideoStream)
    units, header = UNITS.get(info.codec), bytes(stream.codec_context.extradata or b"")
    if units is None and (intra := find_intra(info, path, format, header)) is not None:
        return intra
    if units is None or not info.format.startswith(_INPUT_FORMATS) or format not in _OUTPUT_FORMATS:
        return Message(
            "H.264, H.265, ProRes, DNxHD, FFV1, MJPEG and DV can be copied between containers that support them, but "
            "not {codec} from {container} to {format}",
            code="copy_codec",
            codec=info.codec,
            container=info.format.split(",")[0],
            format=format,
        )
    number = next((n for n in range(_NUMBERS[units.record]) if n not in _numbers(units, header)), None)
    if number is None:
        return Message("the header cannot be read, or has no free number for another parameter set", code="copy_header")
    depth, copyable, open_groups = _examine_groups(path, info.start)
    if not copyable:
        return Message(
            "none of its first groups of pictures can be copied (they are open, code fields separately, contain frames "
            "without a time, or use parameter sets that the header lacks)",
            code="copy_groups",
        )
    # Some headers lack the depth. If a film has hidden frames, FFmpeg derives a wrong depth from changed times.
    if not any(entry.is_discard for entry in stream.index_entries):
        depth = max(stream.codec_context.reorder_depth, depth)
    partly = Message(
        "its groups of pictures are open, so all from the first changed one on are encoded", code="copy_open"
    )
    return GroupCopy(
        path,
        units,
        header,
        number,
        depth,
        codec="h264" if units.record == "avc" else "h265",
        delay=max(depth, 2) if depth else 0,
        prefix=units.length_size(header),
        apart=units.record == "avc" and units.length_size(header) > 0,
        partly=partly if copyable == 1 and open_groups else None,
    )


def fit_copy(copy: PacketCopy, info: MediaInfo, video: VideoPlan) -> Message | None:
    """Adapts an encoder's plan to copied frames. Returns the reason if that is impossible."""
    if video.encoder != ALIASES.get(copy.codec, copy.codec):
        return Message("the output's encoder, {encoder}, has another codec", code="copy_encoder", encoder=video.encoder)
    intra = isinstance(copy, IntraCopy)
    pix_fmt = copy.pix_fmt if intra else info.pix_fmt
    same_format = (video.width, video.height, video.pix_fmt) == (info.width, info.height, pix_fmt)
    if (video.lossless and not intra) or not same_format:
        return Message("the output differs from the input in size, pixel format or coding class", code="copy_form")
    if intra:
        video.options |= copy.options
        return None
    slices, sets = copy.units.reader(), list(copy.units.sets_of(copy.header))
    for unit in sets:
        slices.read(unit)
    is_h264 = isinstance(slices, H264Slices)
    parameters = _h264_options(slices, copy, video) if is_h264 else _hevc_options(sets, video, copy.depth)
    if parameters is None:
        return Message("rtface cannot encode the profile in the header", code="copy_profile")
    key = f"{video.encoder.removeprefix('lib')}-params"
    video.options[key] = ":".join([p for p in (video.options.get(key), parameters) if p])
    return None


def _h264_options(slices: H264Slices, copy: GroupCopy, video: VideoPlan) -> str | None:
    kinds = {(one.profile, one.constraints & _INTRA_FLAG, one.level) for one in slices.sequences.values()}
    profile, intra, level = next(iter(kinds), (0, 0, 0))
    if len(kinds) != 1 or profile not in _PROFILES or (profile > 100 and intra):
        return None
    references = max(1, *(one.references for one in slices.sequences.values()))
    video.options |= {"profile": _PROFILES[profile]}
    if copy.depth < 2:
        video.options |= {"b-pyramid": "none"} if copy.depth else {"bf": "0"}
    return f"stitchable=1:open-gop=0:sps-id={copy.number}:level={level}:ref={references}"


def _hevc_options(sets: Iterable[bytes], video: VideoPlan, depth: int) -> str | None:
    profiles = {unescaped(unit)[3] & 31 for unit in sets if UNITS["hevc"].kind(unit) == _HEVC_SPS}
    shape = pixel_format_info(video.pix_fmt)
    if video.fields != "progressive" or profiles != {_HEVC_PROFILES.get((shape.bits, shape.sampling))}:
        return None
    reordering = ":b-pyramid=0" if depth == 1 else "" if depth else ":bframes=0"
    return f"open-gop=0:info=0:opt-qp-pps=0:opt-ref-list-length-pps=0{reordering}"


def _numbers(units: Units, header: bytes) -> set[int]:
    """Returns the parameter set numbers in use in a header. Returns all numbers if it is unreadable."""
    slices, video = units.reader(), list[int]()
    try:
        for unit in units.sets_of(header):
            slices.read(unit)
        if header[:1] == b"\1":
            units.extended(header, [])
        video = [unit[2] >> 4 for unit in units.sets_of(header) if units.kind(unit) == units.sets[0]]
    except (IndexError, KeyError, ValueError):
        slices.sequences.clear()
    if not slices.sequences:
        return set(range(max(_NUMBERS.values())))
    if units.record == "avc":
        return {*slices.sequences, *slices.pictures}
    return {*video, *slices.sequences, *(number - PICTURE for number in slices.pictures)}


def _examine_groups(path: Path, start: Fraction | None) -> tuple[int, int, int]:
    """Examines the first groups. Returns their decoding lead, and the numbers of copyable and of open groups."""
    depth = copyable = open_groups = frames = 0
    with closing(mini_gops(path, start)) as gops:
        for gop in gops:
            frames += len(gop.packets)
            depth = max(depth, gop.depth * gop.sound)
            copyable += (gop.begins or gop.opens) and gop.sound
            open_groups += not (gop.begins or gop.opens) and gop.packets[0].is_keyframe
            if copyable > _MAX_GROUPS or frames > _MAX_FRAMES:
                break
    return depth, copyable, open_groups
