"""MPEG-TS (ISO 13818-1, EN 300 468): the tables of a film, which PyAV does not give."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

_SIZES, _SYNC, _PACKET, _FIRST = (188, 192, 204), b"\x47", 188, 8
_SERVICE_TABLE = re.compile(  # of one service, that is running, not scrambled, and television
    rb"B..(?:...\0\0...)(?P<programme>..).[\0-\x0f\x80-\x8f].H.[\x01\x11\x16\x19\x1f].*", re.DOTALL
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


def streams(section: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Packet number, type and descriptors of each stream of a programme (PMT)."""
    at = 12 + _length(section, 10)
    while at + 5 <= len(section) - 4:
        stop = at + 5 + _length(section, at + 3)
        yield word(section, at + 1) & 0x1FFF, section[at], section[at + 5 : min(stop, len(section) - 4)]
        at = stop


def word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def _length(data: bytes, at: int) -> int:
    return word(data, at) & 0xFFF
