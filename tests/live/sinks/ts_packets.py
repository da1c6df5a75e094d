"""MPEG-TS looked at packet by packet: when tables and clocks come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class TsPacket:
    """One packet of 188 bytes.

    Attributes:
        at: its number.
        pid: what it belongs to.
        start: whether a section or PES packet begins in it.
        random_access: whether a decoder can begin there.
        pcr: the programme's clock in seconds, None without.
        stream_id: of the PES packet that begins in it, 0 for none.
        counter: continuity counter.
        payload: whether it has any.
    """

    at: int
    pid: int
    start: bool
    random_access: bool
    pcr: float | None
    stream_id: int
    counter: int
    payload: bool


def ts_packets(data: bytes) -> Iterator[TsPacket]:
    """The packets of a whole number of them."""
    for number, at in enumerate(range(0, len(data) - 187, 188)):
        one = data[at : at + 188]
        assert one[0] == 0x47, number
        field = bool(one[3] & 0x20)
        size = one[4] if field else -1
        flags = one[5] if field and size else 0
        pcr = None
        if flags & 0x10:
            base = int.from_bytes(one[6:10], "big") << 1 | one[10] >> 7
            pcr = base / 90_000 + ((one[10] & 1) << 8 | one[11]) / 27_000_000
        body = one[5 + size :]
        start = bool(one[1] & 0x40)
        yield TsPacket(
            number,
            (one[1] & 0x1F) << 8 | one[2],
            start,
            bool(flags & 0x40),
            pcr,
            body[3] if start and body[:3] == b"\0\0\1" else 0,
            one[3] & 15,
            bool(one[3] & 0x10),
        )


def gaps(data: bytes) -> dict[str, float]:
    """The longest times between two tables ("PAT", "PMT") and two clocks ("PCR"), by the programme's clock."""
    seen: dict[str, list[float]] = {"PAT": [], "PMT": [], "PCR": []}
    clock = None
    waiting: list[str] = []
    for packet in ts_packets(data):
        name = {0: "PAT", 0x1000: "PMT"}.get(packet.pid)
        if name is not None:
            waiting.append(name)
        if packet.pcr is not None:
            clock = packet.pcr
            seen["PCR"].append(clock)
            for name in waiting:  # tables lie in front of the frame whose clock they are of
                seen[name].append(clock)
            waiting.clear()
    return {name: max((b - a for a, b in pairwise(times)), default=float("inf")) for name, times in seen.items()}
