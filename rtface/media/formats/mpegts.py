"""MPEG-TS (ISO 13818-1, EN 300 468): the programmes of a film, which PyAV does not give."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import BinaryIO

from rtface.errors import Message
from rtface.media.formats.mp4 import Header

_SIZES, _SYNC, _PACKET, _SEARCHED, _FIRST = (188, 192, 204), b"\x47", 188, 1 << 22, 8
_PROGRAMMES, _STREAMS, _SERVICES, _SERVICE = 0, 2, 0x42, 0x48  # tables, and a descriptor
_SERVICES_PID = 17
_LATIN = {number: f"iso8859-{number}" for number in range(1, 16) if number != 12}
_CHARSETS = {
    b"\x11": "utf-16-be",
    b"\x15": "utf-8",
    **{bytes([number - 4]): name for number, name in _LATIN.items() if number > 4},
    **{bytes([16, 0, number]): name for number, name in _LATIN.items()},
}
# What FFmpeg's and GStreamer's muxers say by themselves.
_USUAL = {"service_name": ("", "Service01", "some-service"), "service_provider": ("", "FFmpeg", "some-provider")}
_SERVICE_TABLE = re.compile(  # of one service, that is running, not scrambled, and television
    rb"B..(?:...\0\0...)(?P<programme>..).[\0-\x0f\x80-\x8f].H.[\x01\x11\x16\x19\x1f].*", re.DOTALL
)


def read_header(file: BinaryIO, pid: int, pids: Collection[int]) -> Header:
    """What the tables say of a stream's programme; `pids` are those of all streams."""
    data = file.read(_SEARCHED)
    places, names, programmes = set[int](), dict[int, tuple[str, str]](), dict[int, set[int]]()
    for section in sections(data, {_PROGRAMMES, _SERVICES_PID}):
        if section[0] == _PROGRAMMES:
            places |= {word(section, at + 2) & 0x1FFF for at in range(8, len(section) - 7, 4) if word(section, at)}
        elif section[0] == _SERVICES:
            names |= _services(section)
    for section in sections(data, places):
        if section[0] == _STREAMS:
            programmes[word(section, 3)] = {pid for pid, *_ in streams(section)} & set(pids)
    provider, name = next((names[one] for one, own in programmes.items() if pid in own and one in names), ("", ""))
    count = sum(map(bool, programmes.values()))
    return Header(
        tags={
            key: text for (key, usual), text in zip(_USUAL.items(), (name, provider), strict=True) if text not in usual
        },
        losses=[Message("its {count} programmes become one", code="programmes_joined", count=count)]
        if count > 1
        else (),
    )


def sections(data: bytes, pids: Collection[int]) -> Iterator[bytes]:
    """The sections of tables with these packet numbers."""
    found = (
        (at, size) for size in _SIZES for at in range(size) if data[at : at + size * _FIRST : size] == _SYNC * _FIRST
    )
    start, size = next(found, (len(data), _PACKET))
    begun = dict[int, bytes]()
    for at in range(start, len(data) - _PACKET + 1, size):
        head, pid = data[at : at + 4], word(data, at + 1) & 0x1FFF
        if pid not in pids:
            continue
        part = data[at + 4 + (1 + data[at + 4] if head[3] & 0x20 else 0) : at + _PACKET]
        first = 1 + part[0] if head[1] & 0x40 and part else 0  # where a section begins, unless 0
        for piece in (part[1:first], b"", part[first:]) if first else (part,):
            begun[pid] = begun.get(pid, b"") + piece if piece or not first else b""
            while len(whole := begun[pid]) > 3 and whole[0] != 0xFF and len(whole) >= (end := 3 + _length(whole, 1)):
                yield whole[:end]
                begun[pid] = whole[end:]


def is_plain(section: bytes, programme: int) -> bool:
    """Whether a table of services (PID 17) holds that of a film's only programme, and nothing but names."""
    found = _SERVICE_TABLE.fullmatch(section)
    return (
        found is not None
        and word(found["programme"], 0) == programme
        and _length(section, 14) + 20 == len(section) == section[17] + 22
        and section[5] & 1 > 0
    )


def _services(section: bytes) -> dict[int, tuple[str, str]]:
    """Provider and name of each service."""
    names, at = dict[int, tuple[str, str]](), 11
    while at + 5 < len(section) - 4:
        service, end = word(section, at), min(len(section) - 4, at + 5 + _length(section, at + 3))
        at += 5
        while at + 3 < end:
            kind, size = section[at], section[at + 1]
            if kind == _SERVICE:
                middle = at + 4 + section[at + 3]
                names[service] = _text(section[at + 4 : middle]), _text(section[middle + 1 : at + 2 + size])
            at += 2 + size
        at = end
    return names


def streams(section: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Packet number, type and descriptors of each stream of a programme (PMT)."""
    at = 12 + _length(section, 10)
    while at + 5 <= len(section) - 4:
        stop = at + 5 + _length(section, at + 3)
        yield word(section, at + 1) & 0x1FFF, section[at], section[at + 5 : min(stop, len(section) - 4)]
        at = stop


def _text(data: bytes) -> str:
    """A text of EN 300 468, annex A; U+FFFD for what is not in ASCII where it is in the alphabet of ISO 6937."""
    prefix = next((one for one in _CHARSETS if data.startswith(one)), b"")
    text = data[len(prefix) :].decode(_CHARSETS.get(prefix, "ascii"), "replace")
    return "".join(each for each in text if each.isprintable())


def word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def _length(data: bytes, at: int) -> int:
    return word(data, at) & 0xFFF
