"""Splits a film's coded frames into pieces that can be copied.

A mini-GOP is the shortest run of frames that is contiguous in both decoding and presentation order. Its frames may
refer to all earlier frames of their GOP, which starts with an IDR frame. No earlier frame refers to them, so a GOP can
be copied up to the end of any mini-GOP. The copied frames must be followed by an IDR frame, or in HEVC by a CRA
frame without its leading frames (RASL), which precede it in presentation order.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, TypeAlias, cast

import av

from rtface.media.formats.coded_headers.units import UNITS, Units
from rtface.media.read.container import choose_video, open_container, time_base_of
from rtface.media.read.edited_times import EditedTimes
from rtface.media.read.file_reader import file_reader

CodedFrame: TypeAlias = "av.Packet[Any]"

# Maximum number of frames of a mini-GOP; maximum number and bytes of a GOP's coded frames to read ahead.
MOST_HELD = 32
_MAX_AHEAD, _MAX_AHEAD_BYTES = 1000, 32 << 20
_SEEK_EARLIER_S = 1
_HEAD_BYTES = 1 << 10  # bytes of a NAL unit that contain its header


@dataclass(frozen=True, slots=True)
class MiniGop:
    """Coded frames that can be copied together.

    Attributes:
        packets: the coded frames in decoding order.
        shown: sorted presentation times of the frames, in the stream's time base.
        begins: whether the frames start with an IDR frame and need no earlier frames.
        opens: whether the first frame starts an open GOP: it is shown last, and needs no earlier frames.
        sound: whether the frames can be copied at all.
        depth: number of frames by which decoding must precede presentation.
        slices: type ("I", "P", "B") and QP of each frame's first slice, if readable, keyed by presentation time.
        ahead: mean QP by slice type, from this mini-GOP to the end of the GOP.
    """

    packets: list[CodedFrame]
    shown: list[int]
    begins: bool
    opens: bool
    sound: bool
    depth: int
    slices: dict[int, tuple[str, int]]
    ahead: dict[str, float]


def mini_gops(path: Path, start: Fraction | None = None) -> Generator[MiniGop]:
    """Yields the mini-GOPs of a film while reading it. The first one starts before `start`, in seconds of the film's
    clock. For codecs other than H.264 and HEVC, each mini-GOP is one frame."""
    reader = file_reader(path)
    with closing(open_container(path, reader)) as container:
        video, _ = choose_video(container, str(path))
        # Some containers seek by decoding time, and a keyframe shown at `start` is decoded earlier.
        at = 0 if start is None else int((start - _SEEK_EARLIER_S) / time_base_of(video))
        if at > (video.start_time or 0):
            container.seek(at, stream=video)
        units = UNITS.get(video.codec_context.codec.canonical_name)
        describe = _HeaderReader(units, bytes(video.codec_context.extradata or b"")).read if units else _describe
        group: list[tuple[CodedFrame, _FrameInfo]] = []
        begins, size, last_shown = True, 0, None
        edited, packets = EditedTimes(container), cast(Iterator[CodedFrame], container.demux(video))
        with suppress(av.FFmpegError):  # after damage, remaining frames are encoded, and decoding reports it
            for demuxed in packets:
                if not demuxed.size or (packet := edited.timed(demuxed)) is None:
                    continue
                info = describe(packet)
                if info.idr and group:
                    yield from (gops := list(_split(group, begins=begins and _follows(group, last_shown))))
                    begins, group, size, last_shown = True, [], 0, gops[-1].shown[-1:]
                elif len(group) >= _MAX_AHEAD or size > _MAX_AHEAD_BYTES:
                    *complete, last = _split(group, begins=begins and _follows(group, last_shown))
                    yield from complete
                    begins, last_shown = begins and not complete, complete[-1].shown[-1:] if complete else last_shown
                    group, size = group[-len(last.packets) :], sum(packet.size for packet in last.packets)
                group.append((packet, info))
                size += packet.size
        if group:
            yield from _split(group, begins=begins and _follows(group, last_shown))


@dataclass(frozen=True, slots=True)
class _FrameInfo:
    idr: bool
    usable: bool
    role: Literal["", "open", "leading"]
    slice: tuple[str, int] | None


def _describe(packet: CodedFrame, *, usable: bool = True) -> _FrameInfo:
    """Describes a frame that depends only on frames since the last keyframe."""
    usable = usable and packet.pts is not None and not packet.is_corrupt and not packet.has_sidedata("new_extradata")
    usable = usable and not packet.is_discard  # a frame hidden by an edit list has the times of others
    return _FrameInfo(packet.is_keyframe, usable, "", None)


class _HeaderReader:
    """Reads the headers of coded frames."""

    def __init__(self, units: Units, extradata: bytes) -> None:
        self._units, self._slices, self._size = units, units.primed(extradata), units.length_size(extradata)
        self._usable, self._sets = True, set(units.sets_of(extradata))

    def read(self, packet: CodedFrame) -> _FrameInfo:
        units, first_kind, first_slice, fields = self._units, -1, None, set[int | None]()
        try:
            for unit in units.split(bytes(packet), self._size):
                kind = units.kind(unit)
                if kind in units.unknown or (kind in units.sets and unit.rstrip(b"\0") not in self._sets):
                    self._usable = False  # the output's header would lack this unit
                elif kind in units.slices and fields in (set(), {0}, {1}):
                    qp = self._slices.read(unit[:_HEAD_BYTES])
                    fields.add(self._slices.parity)
                    if first_slice is None and qp is not None:
                        first_kind, first_slice = kind, (self._slices.kind, qp)
        except (IndexError, KeyError, ValueError):
            first_slice = None
        is_frame = fields in ({None}, {0, 1})  # not a single field, as in MPEG-TS with fields coded separately
        usable = self._usable and first_slice is not None and is_frame
        role = "open" if first_kind in units.open else "leading" if first_kind in units.leading else ""
        return replace(_describe(packet, usable=usable), idr=first_kind in units.idr, role=role, slice=first_slice)


def _follows(group: Iterable[tuple[CodedFrame, _FrameInfo]], last_shown: list[int] | None) -> bool:
    """Returns whether a whole group is shown after the previous group."""
    return not last_shown or all(packet.pts is None or packet.pts > last_shown[0] for packet, _ in group)


def _split(group: list[tuple[CodedFrame, _FrameInfo]], *, begins: bool) -> Iterator[MiniGop]:
    stamps = [packet.pts or 0 for packet, _ in group]
    latest = list(accumulate(stamps, max))
    earliest = list(accumulate(reversed(stamps), min))[::-1]
    first = 0
    for end in range(1, len(group) + 1):
        if end < len(group) and latest[end - 1] >= earliest[end]:
            continue
        part, shown = group[first:end], sorted(stamps[first:end])
        ranks = {stamp: k for k, stamp in enumerate(shown)}
        ahead: dict[str, list[int]] = {}
        for _, info in group[first:]:
            if info.slice is not None:
                ahead.setdefault(info.slice[0], []).append(info.slice[1])
        yield MiniGop(
            [packet for packet, _ in part],
            shown,
            begins and first == 0 and part[0][1].idr,
            [info.role for _, info in part] == ["open", *["leading"] * (len(part) - 1)] and stamps[first] == shown[-1],
            all(info.usable for _, info in part) and len(ranks) == len(part) <= MOST_HELD,
            max(k - ranks[stamp] for k, stamp in enumerate(stamps[first:end])),
            {stamp: info.slice for stamp, (_, info) in zip(stamps[first:end], part, strict=True) if info.slice},
            {kind: fmean(qps) for kind, qps in ahead.items()},
        )
        first = end
