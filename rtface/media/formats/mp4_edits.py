"""Reads and repairs edit lists of MP4 and MOV files."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from rtface.media.formats.mp4 import Span, changed_index, clock_of, find_box, inner_boxes, kind_of_track, read_index

_MAX_SAMPLES = 1 << 24  # maximum number of samples of a track; a longer table is damaged
_PCM_SAMPLES = 1024  # FFmpeg cuts each chunk of uncompressed sound into packets of this size


@dataclass(frozen=True, slots=True)
class EditedTrack:
    """A track that an edit list shows in parts. All times are in the track's ticks.

    Attributes:
        parts: (start in the film, start in the track or -1 for an empty part, length) of each part.
        borders: starts of the packets, and the end of the last packet.
        shown: presentation times of the packets.
    """

    parts: list[tuple[int, int, int]]
    borders: np.ndarray
    shown: np.ndarray


def edited_tracks(file: BinaryIO) -> dict[int, EditedTrack]:
    """Reads the edit lists that FFmpeg misinterprets, by track number. Fragmented films have no such lists.

    FFmpeg handles a single edit of pictures or sound correctly, so such tracks (nearly all) are not read.
    """
    _, moov = read_index(file)
    film, tracks = find_box(moov, 8, len(moov), b"mvhd"), dict[int, EditedTrack]()
    for track in inner_boxes(moov, 8, len(moov), b"trak"):
        head, media = find_box(moov, *track, b"tkhd"), find_box(moov, *track, b"mdia", b"mdhd")
        tables, edits = find_box(moov, *track, b"mdia", b"minf", b"stbl"), _read_edits(moov, track)
        if not (film and head and media and tables and edits and (scale := clock_of(moov, film)[0])):
            continue
        if len(edits) == 1 and kind_of_track(moov, track) in (b"vide", b"soun"):
            continue
        borders, film_time, parts = _packet_borders(moov, tables), 0, list[tuple[int, int, int]]()
        for length, start, _ in edits:
            ticks = (2 * length * clock_of(moov, media)[0] + scale) // (2 * scale)
            parts.append((film_time, start, ticks))
            film_time += ticks
        if borders.size > 1:
            number = struct.unpack_from(">I", moov, head[0] + (20 if moov[head[0]] == 1 else 12))[0]
            tracks[number] = EditedTrack(parts, borders, _pts_of(moov, tables, borders))
    return tracks


def reach_last_frame(file: BinaryIO) -> None:
    """Extends edits of a finished film that end before its last frame.

    FFmpeg's fragment writer derives a film's end from the next packet in coding order when it closes a fragment. If
    a frame that is shown later was coded earlier (B-frames), the edit list ends one frame too soon, and players omit
    the film's last frame.
    """
    with changed_index(file) as moov:
        if (film := find_box(moov, 8, len(moov), b"mvhd")) is not None:
            scale, longest, duration = clock_of(moov, film)
            for track in inner_boxes(moov, 8, len(moov), b"trak"):
                if kind_of_track(moov, track) == b"vide":  # sound may end early on purpose
                    longest = max(longest, _lengthen(moov, track, scale))
            _put_uint(moov, *duration, longest)


def _lengthen(moov: bytearray, track: Span, scale: int) -> int:
    """Extends a track's last edit to the end of its last sample. Returns the track's duration, in the film's ticks."""
    head, edit_list = find_box(moov, *track, b"tkhd"), find_box(moov, *track, b"edts", b"elst")
    media, tables = (find_box(moov, *track, b"mdia", *names) for names in ((b"mdhd",), (b"minf", b"stbl")))
    if not (head and edit_list and media and tables and (entries := _read_edits(moov, track))):
        return 0
    (duration, start, _), total, rate = entries[-1], sum(entry[0] for entry in entries), clock_of(moov, media)[0]
    if (borders := _packet_borders(moov, tables)).size < 2 or start < 0 or not duration or not rate:
        return total
    end = int((_pts_of(moov, tables, borders) + np.diff(borders)).max())  # end of the sample that is shown last
    if (needed := -(-(end - start) * scale // rate)) > duration:
        total += needed - duration
        entry_bytes, code = (20, ">Q") if moov[edit_list[0]] == 1 else (12, ">I")
        _put_uint(moov, edit_list[0] + 8 + (len(entries) - 1) * entry_bytes, code, needed)
        _put_uint(moov, head[0] + (28 if moov[head[0]] == 1 else 20), ">Q" if moov[head[0]] == 1 else ">I", total)
    return total


def _put_uint(data: bytearray, at: int, code: str, value: int) -> None:
    if value < 1 << (8 * struct.calcsize(code)):
        struct.pack_into(code, data, at, value)


def _read_edits(moov: bytearray, track: Span) -> list[tuple[int, int, int]]:
    """Returns length (film ticks), start (media ticks) and rate of each edit."""
    elst = find_box(moov, *track, b"edts", b"elst")
    if elst is None or elst[1] - elst[0] < 8:
        return []
    step, codes = (20, ">QqI") if moov[elst[0]] == 1 else (12, ">IiI")
    return [struct.unpack_from(codes, moov, at) for at in range(elst[0] + 8, elst[1] - step + 1, step)]


def _pts_of(moov: bytearray, tables: Span, borders: np.ndarray) -> np.ndarray:
    """Returns the presentation times of a track's packets. `borders` has their decoding times."""
    times, composition = borders[:-1].copy(), find_box(moov, *tables, b"ctts")
    if composition is not None:
        offsets = _expand_runs(moov, composition, ">i4")[: times.size]
        times[: offsets.size] += offsets
    return times


def _packet_borders(moov: bytearray, tables: Span) -> np.ndarray:
    """Returns the starts of a track's packets, and the last packet's end. The array is empty if tables are missing."""
    times, runs = (find_box(moov, *tables, name) for name in (b"stts", b"stsc"))
    chunk_offsets = find_box(moov, *tables, b"stco") or find_box(moov, *tables, b"co64")
    if not (times and runs and chunk_offsets):
        return np.zeros(0, np.int64)
    count, _, length = struct.unpack_from(">3I", moov, times[0] + 4)
    if (count, length) != (1, 1):
        return np.append(0, np.cumsum(_expand_runs(moov, times, ">u4")))
    table = read_table(moov, runs, 3)
    chunks = np.append(table[:, 0] - 1, struct.unpack_from(">I", moov, chunk_offsets[0] + 4)[0])
    sizes = np.repeat(table[:, 1], np.diff(chunks).clip(0))
    begins = np.cumsum(sizes) - sizes
    packets = [np.arange(first, first + size, _PCM_SAMPLES) for first, size in zip(begins, sizes, strict=True)]
    return np.concatenate([*packets, [sizes.sum()]])


def read_table(data: bytearray, span: Span, width: int, form: str = ">u4") -> np.ndarray:
    """Reads the table that follows a box's count, as int64 [entries, width]. Raises ValueError if it is incomplete."""
    count = struct.unpack_from(">I", data, span[0] + 4)[0] * width
    if span[0] + 8 + count * np.dtype(form).itemsize > span[1]:
        raise ValueError("a table that does not fit into its box")
    return np.frombuffer(data, form, count, span[0] + 8).astype(np.int64).reshape(-1, width)


def _expand_runs(data: bytearray, span: Span, form: str) -> np.ndarray:
    """Expands a table of (count, value) runs to int64 values."""
    pairs = read_table(data, span, 2, form)
    if pairs[:, 0].sum() > _MAX_SAMPLES:
        raise ValueError("a table of more samples than a film has")
    return np.repeat(pairs[:, 1], pairs[:, 0])
