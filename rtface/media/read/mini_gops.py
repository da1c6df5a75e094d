"""Splits a film's coded frames into pieces that can be copied.

A mini-GOP is the shortest run of frames that is contiguous in both decoding and presentation order. Its frames may
refer to all earlier frames of their group, which begins with an IDR frame. No earlier frame refers to them, so a group
can be copied up to the end of any mini-GOP. The copied frames must be followed by an IDR frame, or in HEVC by a CRA
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

# Maximum number of frames of a mini-GOP; maximum number and bytes of coded frames of a group to read ahead.
MOST_HELD = 32
_MOST_AHEAD, _AHEAD_BYTES = 1000, 32 << 20
_EARLIER_S = 1
_UNIT = 1 << 10


@dataclass(frozen=True, slots=True)
class MiniGop:
    """Coded frames that can be copied together.

    Attributes:
        packets: the coded frames in decoding order.
        shown: presentation times of the frames, sorted, in units of the stream.
        begins: whether the frames begin with an IDR frame and need no earlier frames.
        opens: whether the first frame, which is shown last, needs no earlier frames.
        sound: whether the frames can be copied at all.
        depth: number of frames by which decoding must precede presentation.
        slices: kind ("I", "P", "B") and QP of each frame's first slice, by time, if readable.
        ahead: mean QP by kind, from here to the end of the group.
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
    """Yields the mini-GOPs of a film while reading it. The first one begins before `start`, in seconds of the film's
    clock. For codecs other than H.264 and HEVC, each mini-GOP is one frame."""
    reader = file_reader(path)
    with closing(open_container(path, reader)) as container:
        video, _ = choose_video(container, str(path))
        # Some containers seek by decoding time, and a keyframe shown at `start` is decoded earlier.
        at = 0 if start is None else int((start - _EARLIER_S) / time_base_of(video))
        if at > (video.start_time or 0):
            container.seek(at, stream=video)
        units = UNITS.get(video.codec_context.codec.canonical_name)
        mark_of = _Marks(units, bytes(video.codec_context.extradata or b"")).of if units else _whole
        group: list[tuple[CodedFrame, _Mark]] = []
        begins, size, ended = True, 0, None
        edited, packets = EditedTimes(container), cast(Iterator[CodedFrame], container.demux(video))
        with suppress(av.FFmpegError):  # damaged container: the rest is encoded, and its decoder reports the damage
            for came in packets:
                if not came.size or (packet := edited.timed(came)) is None:
                    continue
                mark = mark_of(packet)
                if mark.idr and group:
                    yield from (one := list(_split(group, begins=begins and _follows(group, ended))))
                    begins, group, size, ended = True, [], 0, one[-1].shown[-1:]
                elif len(group) >= _MOST_AHEAD or size > _AHEAD_BYTES:
                    *whole, last = _split(group, begins=begins and _follows(group, ended))
                    yield from whole
                    begins, ended = begins and not whole, whole[-1].shown[-1:] if whole else ended
                    group, size = group[-len(last.packets) :], sum(one.size for one in last.packets)
                group.append((packet, mark))
                size += packet.size
        if group:
            yield from _split(group, begins=begins and _follows(group, ended))


@dataclass(frozen=True, slots=True)
class _Mark:
    idr: bool
    sound: bool
    role: Literal["", "open", "leading"]
    slice: tuple[str, int] | None


def _whole(packet: CodedFrame, *, sound: bool = True) -> _Mark:
    """Describes a frame that depends only on frames since the last keyframe."""
    sound = sound and packet.pts is not None and not packet.is_corrupt and not packet.has_sidedata("new_extradata")
    sound = sound and not packet.is_discard  # hidden by an edit list: with times of others
    return _Mark(packet.is_keyframe, sound, "", None)


class _Marks:
    """Reads the headers of coded frames."""

    def __init__(self, units: Units, extradata: bytes) -> None:
        self._units, self._slices, self._size = units, units.primed(extradata), units.length_size(extradata)
        self._sound, self._sets = True, set(units.sets_of(extradata))

    def of(self, packet: CodedFrame) -> _Mark:
        units, first, coded, fields = self._units, -1, None, set[int | None]()
        try:
            for unit in units.split(bytes(packet), self._size):
                kind = units.kind(unit)
                if kind in units.unknown or (kind in units.sets and unit.rstrip(b"\0") not in self._sets):
                    self._sound = False  # the output's header would lack this unit
                elif kind in units.slices and fields in (set(), {0}, {1}):
                    qp = self._slices.read(unit[:_UNIT])
                    fields.add(self._slices.parity)
                    if coded is None and qp is not None:
                        first, coded = kind, (self._slices.kind, qp)
        except (IndexError, KeyError, ValueError):
            coded = None
        whole = fields in ({None}, {0, 1})  # not a single field, as in MPEG-TS with fields coded separately
        sound = self._sound and coded is not None and whole
        role = "open" if first in units.open else "leading" if first in units.leading else ""
        return replace(_whole(packet, sound=sound), idr=first in units.idr, role=role, slice=coded)


def _follows(group: Iterable[tuple[CodedFrame, _Mark]], ended: list[int] | None) -> bool:
    """Returns whether a whole group is shown after the previous group."""
    return not ended or all(packet.pts is None or packet.pts > ended[0] for packet, _ in group)


def _split(group: list[tuple[CodedFrame, _Mark]], *, begins: bool) -> Iterator[MiniGop]:
    stamps = [packet.pts or 0 for packet, _ in group]
    latest = list(accumulate(stamps, max))
    earliest = list(accumulate(reversed(stamps), min))[::-1]
    first = 0
    for end in range(1, len(group) + 1):
        if end < len(group) and latest[end - 1] >= earliest[end]:
            continue
        part, shown = group[first:end], sorted(stamps[first:end])
        place = {stamp: k for k, stamp in enumerate(shown)}
        ahead: dict[str, list[int]] = {}
        for _, mark in group[first:]:
            if mark.slice is not None:
                ahead.setdefault(mark.slice[0], []).append(mark.slice[1])
        yield MiniGop(
            [packet for packet, _ in part],
            shown,
            begins and first == 0 and part[0][1].idr,
            [mark.role for _, mark in part] == ["open", *["leading"] * (len(part) - 1)] and stamps[first] == shown[-1],
            all(mark.sound for _, mark in part) and len(place) == len(part) <= MOST_HELD,
            max(k - place[stamp] for k, stamp in enumerate(stamps[first:end])),
            {stamp: mark.slice for stamp, (_, mark) in zip(stamps[first:end], part, strict=True) if mark.slice},
            {kind: fmean(qps) for kind, qps in ahead.items()},
        )
        first = end
