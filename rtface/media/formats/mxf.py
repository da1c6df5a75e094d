"""What MXF (SMPTE ST 377-1, one file for frames and sound: OP1a) holds as FFmpeg writes it.

MXF has no times of frames: they are evenly spaced and begin at 0, and so does the sound, which is PCM of 48 kHz and as
long as the frames (`rtface.media.write.pcm_sound`). H.264 is written without B-frames, whose order of display
FFmpeg does not note in MXF.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import BinaryIO

from rtface.errors import OutputError

ENCODERS = frozenset({"prores_ks", "dnxhd", "ffv1", "libx264", "mpeg2video"})
"""FFmpeg's encoders whose frames MXF holds."""
ENCODER_OPTIONS = {"libx264": {"bf": "0"}}
_RATES = {Fraction(n, d) for n in (24, 25, 30, 48, 50, 60, 100, 120) for d in (1, Fraction(1001, 1000))}


def muxer_options(rate: Fraction) -> dict[str, str]:
    """Options of FFmpeg's muxer: other rates than those of television (silent films) have to be allowed."""
    return {} if rate in _RATES else {"strict": "unofficial"}


def sound_encoder(codec: str, sample_format: str) -> tuple[str, bool]:
    """The PCM that a sound becomes, and whether its samples stay what they are.

    Args:
        codec: FFmpeg's name of the sound's codec.
        sample_format: FFmpeg's name of its decoded samples.
    """
    short = sample_format.startswith(("s16", "u8"))
    exact = codec in (
        "flac",
        "alac",
        "pcm_s16le",
        "pcm_s16be",
        "pcm_s24le",
        "pcm_s24be",
        "pcm_u8",
        "pcm_bluray",
        "pcm_dvd",
    )
    return "pcm_s16le" if short else "pcm_s24le", exact


def check_spacing(shown: str, stem: str, number: int, late: Fraction) -> None:
    """Refuses a frame that is not at its place.

    Args:
        shown: the output as the user named it.
        stem: its name without extension.
        number: of the frame, from 0 on.
        late: frames by which it comes late (negative: early).

    Raises:
        OutputError: it is half a frame or more from its place.
    """
    if abs(late) >= Fraction(1, 2):
        raise OutputError(
            "{path}: MXF holds frames at even distances only, and frame {number} comes {late:.1f} frames "
            "{direction} (a variable frame rate, or missing frames); name the output {stem}.mkv or {stem}.mov, "
            "which keep the times",
            code="mxf_rate",
            path=shown,
            number=number,
            late=abs(float(late)),
            direction="late" if late > 0 else "early",
            stem=stem,
        )


def check_times(shown: str, stem: str, pts: Sequence[int], base: Fraction, rate: Fraction) -> None:
    """`check_spacing` for all frames of a film: their times in units of `base`, rising."""
    for number, time in enumerate(pts):
        check_spacing(shown, stem, number, (time - pts[0]) * base * rate - number)


# -- tags: comments of the material package -------------------------------------------------------------------------

_PREFIX = "comment_"
# Of an input that is MXF itself; these describe that file.
_OWN = ("_ul", "uid", "umid", "company_name", "product_", "application_platform", "toolkit_", "modification_date")
_PARTITION = bytes.fromhex("060e2b34020501010d0102010102")
_FILL = bytes.fromhex("060e2b34010101020301021001000000")
_PACKAGES = tuple(bytes.fromhex(f"060e2b34025301010d0101010101{kind}00") for kind in ("36", "37"))
_TAGGED_VALUE = bytes.fromhex("060e2b34025301010d01010101013f00")
_INSTANCE, _COMMENTS, _NAME, _TEXT = 0x3C0A, 0x4406, 0x5001, 0x5003
_SMALLEST_FILL = 20  # bytes of a fill item without a value
_TYPE_BYTES = 17  # byte order and type, in front of a text
_LARGEST_HEADER, _LONGEST_FILL = 16 << 20, 1 << 16


def user_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags under the names by which FFmpeg writes them as comments of the material package."""
    return {
        name if name.startswith(_PREFIX) else _PREFIX + name: text
        for name, text in tags.items()
        if not any(part in name.lower() for part in _OWN)
    }


def rewrite_comments(file: BinaryIO, texts: Mapping[str, str | None]) -> None:
    """Changes comments of a finished file without moving anything else.

    A new text, which may not be longer, is filled up with zeros. Where it is None the set becomes a fill item (SMPTE
    ST 377-1, 6.3.3, 9.6), and the packages no longer refer to it.
    """
    file.seek(0)
    before = file.read(_LARGEST_HEADER)
    data, removed = bytearray(before), set[bytes]()
    sets = list(_header_sets(data))
    for key, at, value, end in sets:
        if key == _TAGGED_VALUE:
            items = {tag: (start, stop) for tag, start, stop in _items(data, value, end)}
            name = bytes(data[slice(*items.get(_NAME, (0, 0)))]).decode("utf-16-be", "replace").rstrip("\0").lower()
            name = name.removeprefix(_PREFIX)
            if name not in texts:
                continue
            if (text := texts[name]) is None:
                removed.add(bytes(data[slice(*items.get(_INSTANCE, (0, 0)))]))
                data[at : at + 16] = _FILL
            elif _TEXT in items:
                start, stop = items[_TEXT][0] + _TYPE_BYTES, items[_TEXT][1]
                new = text.encode("utf-16-le" if data[items[_TEXT][0]] == ord("L") else "utf-16-be")
                if len(new) <= stop - start:
                    data[start:stop] = new.ljust(stop - start, b"\0")
    for key, at, value, end in sets:
        if key in _PACKAGES and not _without_references(data, at, value, end, removed):
            return
    if bytes(data) != before:
        file.seek(0)
        file.write(data)


# -- fields: the picture descriptor ---------------------------------------------------------------------------------

_PICTURES = tuple(bytes.fromhex(f"060e2b34025301010d0101010101{kind}00") for kind in ("28", "29", "51"))
_HEIGHTS = (0x3202, 0x3204, 0x3208)  # stored, sampled, shown
_LAYOUT, _LINE_MAP, _DOMINANCE = 0x320C, 0x320D, 0x3212
_OFFSETS = (0x3206, 0x3207, 0x320A, 0x320B)  # of the sampled and of the shown picture; 0 where they are not there
# First lines of the two fields by height of the frame (SMPTE ST 377-1).
_FIRST_LINES = {480: (20, 283), 576: (23, 336), 1080: (21, 584)}


def note_fields(file: BinaryIO, fields: str) -> None:
    """Notes in a finished file that its frames are two fields, and which comes first ("tff", "bff"); nothing for
    "progressive". FFmpeg calls ProRes progressive, every FFV1 bottom field first, and says nothing of H.264."""
    if fields == "progressive":
        return
    file.seek(0)
    data = bytearray(file.read(_LARGEST_HEADER))
    for key, at, value, end in list(_header_sets(data)):
        if key not in _PICTURES:
            continue
        items = {tag: bytes(data[start:stop]) for tag, start, stop in _items(data, value, end)}
        if items.get(_LAYOUT) == b"\0":
            height = int.from_bytes(items[_HEIGHTS[2]], "big")
            items |= {tag: (-(-int.from_bytes(items[tag], "big") // 2)).to_bytes(4, "big") for tag in _HEIGHTS}
            items[_LINE_MAP] = struct.pack(">4I", 2, 4, *_FIRST_LINES.get(height, (0, 0)))
        items |= {_LAYOUT: b"\1", _DOMINANCE: b"\1" if fields == "tff" else b"\2"}
        if not _put_set(data, at, value, end, items):
            _put_set(data, at, value, end, {tag: item for tag, item in items.items() if tag not in _OFFSETS})
    file.seek(0)
    file.write(data)


def _put_set(data: bytearray, at: int, value: int, end: int, items: Mapping[int, bytes]) -> bool:
    """Writes other items into a set, and a fill item up to its end; False where they do not fit."""
    body = b"".join(struct.pack(">HH", tag, len(item)) + item for tag, item in items.items())
    free, width = end - value - len(body), value - at - 17
    if free and free < _SMALLEST_FILL:
        return False
    data[value - width : end] = len(body).to_bytes(width, "big") + body + _fill(free)
    return True


def _fill(length: int) -> bytes:
    """A fill item of so many bytes, at least 20; nothing for 0."""
    return (
        _FILL + b"\x83" + (length - _SMALLEST_FILL).to_bytes(3, "big") + bytes(length - _SMALLEST_FILL)
        if (length)
        else b""
    )


# -- metadata sets --------------------------------------------------------------------------------------------------


def _header_sets(data: bytearray) -> Iterator[tuple[bytes, int, int, int]]:
    """The metadata sets of the header partition: key, where each begins, its value begins, and it ends."""
    if bytes(data[:14]) != _PARTITION:
        return
    at, last = 0, len(data)
    while at + 20 <= last:
        key, first = bytes(data[at : at + 16]), data[at + 16]
        width = first & 127 if first & 128 else 0
        size = int.from_bytes(data[at + 17 : at + 17 + width], "big") if width else first
        value = at + 17 + width
        if value + size > len(data):
            return
        if at == 0:  # the partition says how long its metadata are; they may begin behind a fill item
            last = min(last, value + size + int.from_bytes(data[value + 32 : value + 40], "big") + _LONGEST_FILL)
        elif key[:13] == _PARTITION[:13] and key[13] in (3, 4):
            return  # the body or the footer
        yield key, at, value, value + size
        at = value + size


def _items(data: bytearray, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Items of a local set: tag, where each value begins and ends."""
    while at + 4 <= end:
        tag, size = struct.unpack_from(">HH", data, at)
        yield tag, at + 4, at + 4 + size
        at += 4 + size


def _without_references(data: bytearray, at: int, value: int, end: int, removed: Collection[bytes]) -> bool:
    """Takes references out of a package; a fill item takes their place. False where there is no room for one."""
    parts: list[bytes] = []
    for tag, start, stop in _items(data, value, end):
        part = bytes(data[start - 4 : stop])
        if tag == _COMMENTS:
            uids = [bytes(data[k : k + 16]) for k in range(start + 8, stop, 16)]
            kept = [uid for uid in uids if uid not in removed]
            listed = struct.pack(">II", len(kept), 16) + b"".join(kept)
            if len(kept) < len(uids):
                part = struct.pack(">HH", tag, len(listed)) + listed if kept else b""
        parts.append(part)
    body = b"".join(parts)
    free = end - value - len(body)
    if not free:
        return True
    width = value - at - 17  # of the length
    if free < _SMALLEST_FILL or width < 1:
        return False
    data[value - width : end] = len(body).to_bytes(width, "big") + body + _fill(free)
    return True
