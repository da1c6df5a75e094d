"""Checks the index of an MP4 or MOV film and its fragments."""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np

from rtface.media.formats.mp4 import Span, boxes, find_box, find_bytes, inner_boxes
from rtface.media.formats.mp4_edits import read_table

# Boxes that contain others, and the children that each requires.
_REQUIRED: dict[bytes, set[bytes]] = {
    b"moov": set(),
    b"mvex": set(),
    b"trak": {b"tkhd", b"mdia"},
    b"edts": set(),
    b"mdia": {b"mdhd", b"hdlr", b"minf"},
    b"minf": {b"stbl"},
    b"stbl": {b"stsd", b"stts", b"stsc"},
    b"moof": {b"mfhd"},
    b"traf": {b"tfhd"},
}


_FRAGMENT = b"\0\0\0\x10mfhd"  # part of the header of each fragment
_PADDING_BYTES = 16  # maximum of unlisted bytes per fragment; some writers align data


def is_whole(file: BinaryIO) -> bool:
    """Tells whether the index is consistent and its samples exist. The index of a fragmented film lists all data."""
    try:
        _check(file)
    except (ValueError, struct.error):
        return False
    return True


def _check(file: BinaryIO) -> None:
    size, at, indexed, data_bytes, fragments = file.seek(0, 2), 0, 0, 0, 0
    index, sizes = b"", dict[int, int]()
    for kind, length in boxes(file):
        if at + length > size and kind != b"mdat":  # trailing data need not be a box
            break
        file.seek(at)
        if kind == b"mdat":
            data_bytes += length - (16 if file.read(4) == b"\0\0\0\1" else 8)
        elif kind == b"moof" or (kind == b"moov" and not index):
            data = bytearray(file.read(length))
            _check_filled(data, 8, length, kind)
            if kind == b"moov":
                index, defaults = kind, find_box(data, 8, length, b"mvex")
                for start, _ in inner_boxes(data, *defaults, b"trex") if defaults else ():
                    sizes[struct.unpack_from(">I", data, start + 4)[0]] = struct.unpack_from(">I", data, start + 16)[0]
                indexed += sum(_in_track(data, track, size) for track in inner_boxes(data, 8, length, b"trak"))
            else:
                fragments += 1
                indexed += sum(_in_fragment(data, track, sizes) for track in inner_boxes(data, 8, length, b"traf"))
        at += length
    if (sizes and (at > size or find_bytes(file, _FRAGMENT, at, size) < size)) or (
        fragments and (data_bytes - indexed > _PADDING_BYTES * fragments or indexed > size)
    ):
        raise ValueError("an index that contradicts itself or the file")


def _check_filled(data: bytearray, start: int, end: int, kind: bytes) -> None:
    """Raises ValueError if boxes leave gaps, exceed `end` or are missing."""
    if end > len(data):
        raise ValueError("an index that contradicts itself or the file")
    names = set[bytes]()
    while start + 8 <= end and any(data[start : start + 8]):
        size, name = struct.unpack_from(">I4s", data, start)
        damaged = kind == b"moov" and name not in (b"trak", b"free", b"skip") and data.startswith(b"tkhd", start + 12)
        if size < 8 or start + size > end or damaged:
            raise ValueError("an index that contradicts itself or the file")
        if name in _REQUIRED:
            _check_filled(data, start + 8, start + size, name)
        names.add(name)
        start += size
    if not names >= _REQUIRED[kind]:
        raise ValueError("an index that contradicts itself or the file")


def _in_track(data: bytearray, track: Span, size: int) -> int:
    """Counts the sample bytes in a track's tables. Returns 0 if sample sizes are compact (stz2)."""
    tables = find_box(data, *track, b"mdia", b"minf", b"stbl") or track
    sizes, wide = (find_box(data, *tables, name) for name in (b"stsz", b"co64"))
    offsets = wide or find_box(data, *tables, b"stco")
    if not sizes or not offsets:
        if find_box(data, *tables, b"stz2"):
            return 0
        raise ValueError("an index that contradicts itself or the file")
    if sync_samples := find_box(data, *tables, b"stss"):
        read_table(data, sync_samples, 1)
    fixed, count = struct.unpack_from(">2I", data, sizes[0] + 4)
    starts = read_table(data, offsets, 1, ">u8" if wide else ">u4")[:, 0]
    runs, times = (
        read_table(data, find_box(data, *tables, name) or sizes, n) for name, n in ((b"stsc", 3), (b"stts", 2))
    )
    firsts = np.append(runs[:, 0] - 1, len(starts)).clip(0, len(starts))
    if (np.diff(firsts) < 0).any():
        raise ValueError("an index that contradicts itself or the file")
    chunks, timed = np.repeat(runs[:, 1], np.diff(firsts)), int(times[:, 0].sum())
    fewer, more = sorted((count, int(chunks.sum())))
    if fewer < more == timed or timed == 0 < count:  # the third count lacks samples that the two others agree on
        raise ValueError("an index that contradicts itself or the file")
    if fixed:
        return fixed * count
    bounds = np.append(0, np.cumsum(read_table(data, (sizes[0] + 4, sizes[1]), 1)[:, 0]))
    ends = np.append(0, np.cumsum(chunks)).clip(0, count)
    if len(starts) == len(chunks) and (starts + np.diff(bounds[ends])).max(initial=0) > size:
        raise ValueError("an index that contradicts itself or the file")
    return int(bounds[-1])


def _in_fragment(data: bytearray, track: Span, sizes: dict[int, int]) -> int:
    """Counts the sample bytes that a fragment lists for a track."""
    header, _ = find_box(data, *track, b"tfhd") or track
    flags, number = struct.unpack_from(">2I", data, header)
    size, indexed = sizes.get(number, 0), 0
    if flags & 0x10:  # the size follows an offset, a description and a duration
        size = struct.unpack_from(">I", data, header + 8 + 8 * (flags & 1) + 2 * (flags & 2) + (flags & 8) // 2)[0]
    for start, end in inner_boxes(data, *track, b"trun"):
        flags, count = struct.unpack_from(">2I", data, start)
        width, entries_at = (flags & 0xF00).bit_count(), start + 8 + 4 * (flags & 1) + (flags & 4)
        if entries_at + 4 * width * count != end:
            raise ValueError("an index that contradicts itself or the file")
        entries = np.frombuffer(data, ">u4", width * count, entries_at).reshape(count, -1) if width else None
        indexed += size * count if entries is None or not flags & 0x200 else int(entries[:, (flags & 0x100) >> 8].sum())
    return indexed
