"""Quantiser index of a frame of AV1 (AV1 bitstream specification, 5.3 to 5.9)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from rtface.media.formats.coded_headers.bits import Bits

_KEY, _INTER, _INTRA_ONLY, _SWITCH = range(4)
_HEAD = 512  # bytes of a unit in which its header ends
_CHOSEN = 2  # by each frame


@dataclass(slots=True)
class _Sequence:
    reduced: bool = False
    removal: int = 0  # bits of the decoder model's times
    presentation: int = 0
    equal: bool = False
    points: list[tuple[int, bool]] = field(default_factory=list[tuple[int, bool]])
    size_bits: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (0, 0)
    id_bits: int = 0
    id_change_bits: int = 0
    large_blocks: bool = False
    motion: bool = False
    screen: int = _CHOSEN
    integer: int = _CHOSEN
    order_bits: int = 0
    scaled: bool = False
    bits: int = 8


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is remembered of a reference: index, type, width before scaling, height."""

    index: int
    kind: int
    size: tuple[int, int]


class Av1Frames:
    """Reads packets in their order.

    Attributes:
        bits: of a sample.
    """

    def __init__(self) -> None:
        self._sequence: _Sequence | None = None
        self._kept: list[_Kept | None] = [None] * 8

    @property
    def bits(self) -> int:
        return self._sequence.bits if self._sequence else 8

    def read(self, data: bytes) -> int | None:
        """Quantiser index of the last frame that a packet shows; None where it shows none.

        Raises:
            IndexError, ValueError: it is damaged, or refers to what did not come.
        """
        shown = None
        for kind, layer, unit in obus(data):
            if kind == 1:
                self._sequence = _sequence(Bits(unit))
            elif kind in (3, 6):
                index = self._frame(Bits(unit), layer)
                shown = shown if index is None else index
        return shown

    def _frame(self, bits: Bits, layer: tuple[int, int]) -> int | None:
        """Index of the frame where it is shown."""
        s = self._sequence
        if s is None:
            raise ValueError("no sequence header")
        kind, shown, robust = _KEY, True, True
        if not s.reduced:
            if bits.take(1):
                again = self._kept[bits.take(3)]
                if again is not None and again.kind == _KEY:
                    self._kept = [again] * 8
                return again.index if again is not None else None
            kind, shown = bits.take(2), bool(bits.take(1))
            bits.take(s.presentation if shown and not s.equal else 0)
            bits.take(not shown)
            robust = kind == _SWITCH or (kind == _KEY and shown) or bool(bits.take(1))
        intra = kind in (_KEY, _INTRA_ONLY)
        fixed = bits.take(1)
        screen = bits.take(1) if s.screen == _CHOSEN else s.screen
        integer = (bits.take(1) if s.integer == _CHOSEN else s.integer) if screen else 0
        bits.take(s.id_bits)
        own_size = kind == _SWITCH or (not s.reduced and bool(bits.take(1)))
        bits.take(s.order_bits)
        bits.take(0 if intra or robust else 3)
        if s.removal and bits.take(1):
            for point, timed in s.points:
                belongs = point == 0 or (point >> layer[0] & 1 and point >> (layer[1] + 8) & 1)
                bits.take(s.removal if timed and belongs else 0)
        refreshed = 255 if kind == _SWITCH or (kind == _KEY and shown) else bits.take(8)
        if (not intra or refreshed != 255) and robust and s.order_bits:
            for _ in range(8):
                bits.take(s.order_bits)
        if intra:
            size, width = _size(bits, s, own_size)
            bits.take(screen and width == size[0])
        else:
            size, width = self._inter(bits, s, own_size=own_size, robust=robust, integer=bool(integer))
        bits.take(0 if s.reduced or fixed else 1)
        _tiles(bits, s, width, size[1])
        kept = _Kept(bits.take(8), kind, size)
        self._kept = [kept if refreshed >> n & 1 else old for n, old in enumerate(self._kept)]
        return kept.index if shown else None

    def _inter(
        self, bits: Bits, s: _Sequence, *, own_size: bool, robust: bool, integer: bool
    ) -> tuple[tuple[int, int], int]:
        short = s.order_bits and bits.take(1)
        bits.take(6 if short else 0)
        references: list[int] = []
        for _ in range(7):
            references.append(0 if short else bits.take(3))
            bits.take(s.id_change_bits)
        found: tuple[tuple[int, int], int] | None = None
        if own_size and not robust:
            for reference in references:
                if bits.take(1):
                    kept = self._kept[reference]
                    if short or kept is None:
                        raise ValueError("the size of an unknown reference")
                    found = kept.size, _scaled(bits, s, kept.size[0])
                    break
        found = found or _size(bits, s, own_size)
        bits.take(0 if integer else 1)
        bits.take(0 if bits.take(1) else 2)
        bits.take(1)
        bits.take(s.motion and not robust)
        return found


def _size(bits: Bits, s: _Sequence, own: bool) -> tuple[tuple[int, int], int]:
    """Size before scaling, and the coded width."""
    size = (bits.take(s.size_bits[0]) + 1, bits.take(s.size_bits[1]) + 1) if own else s.size
    width = _scaled(bits, s, size[0])
    bits.take(32 if bits.take(1) else 0)
    return size, width


def _scaled(bits: Bits, s: _Sequence, width: int) -> int:
    if not s.scaled or not bits.take(1):
        return width
    divisor = 9 + bits.take(3)
    return (8 * width + divisor // 2) // divisor


def _tiles(bits: Bits, s: _Sequence, width: int, height: int) -> None:
    shift = 7 if s.large_blocks else 6
    columns, rows = (-(-(2 * ((n + 7) >> 3)) // (1 << shift - 2)) for n in (width, height))
    widest, area = 4096 >> shift, 4096 * 2304 >> 2 * shift
    least = _log2(widest, columns)
    least_all = max(least, _log2(area, rows * columns))
    if bits.take(1):
        across = _more(bits, least, _log2(1, min(columns, 64)))
        down = _more(bits, max(least_all - across, 0), _log2(1, min(rows, 64)))
    else:
        sizes = list(_sizes(bits, columns, widest))
        across = _log2(1, len(sizes))
        area = rows * columns >> (least_all + 1 if least_all else 0)
        down = _log2(1, len(list(_sizes(bits, rows, max(area // max(sizes), 1)))))
    bits.take(across + down + 2 if across + down else 0)


def _log2(unit: int, target: int) -> int:
    """How often `unit` has to be doubled to reach `target`."""
    return max(-(-target // unit) - 1, 0).bit_length()


def _more(bits: Bits, least: int, most: int) -> int:
    while least < most and bits.take(1):
        least += 1
    return least


def _sizes(bits: Bits, count: int, most: int) -> Iterator[int]:
    """Sizes of tiles in blocks, ns(n) each."""
    while count > 0:
        limit = min(count, most)
        length = limit.bit_length()
        value = bits.take(length - 1)
        if value >= (1 << length) - limit:
            value = (value << 1) - ((1 << length) - limit) + bits.take(1)
        yield value + 1
        count -= value + 1


def _sequence(bits: Bits) -> _Sequence:
    s = _Sequence()
    profile, _, s.reduced = bits.take(3), bits.take(1), bool(bits.take(1))
    if s.reduced:
        bits.take(5)
    else:
        _operation(bits, s)
    lengths = bits.take(4) + 1, bits.take(4) + 1
    s.size_bits = lengths
    s.size = bits.take(lengths[0]) + 1, bits.take(lengths[1]) + 1
    if not s.reduced and bits.take(1):
        s.id_change_bits = bits.take(4) + 2
        s.id_bits = s.id_change_bits + bits.take(3) + 1
    s.large_blocks = bool(bits.take(1))
    bits.take(2)
    if not s.reduced:
        bits.take(4)
        ordered = bits.take(1)
        if ordered:
            bits.take(1)
            s.motion = bool(bits.take(1))
        s.screen = _CHOSEN if bits.take(1) else bits.take(1)
        if s.screen:
            s.integer = _CHOSEN if bits.take(1) else bits.take(1)
        s.order_bits = bits.take(3) + 1 if ordered else 0
    s.scaled = bool(bits.take(1))
    bits.take(2)
    high = bits.take(1)
    twelve = bits.take(high and profile == 2)
    s.bits = 8 + 2 * high + 2 * twelve
    return s


def _operation(bits: Bits, s: _Sequence) -> None:
    """Times, and the points at which the stream can be operated."""
    delay = 0
    if bits.take(1):
        bits.take(64)
        s.equal = bool(bits.take(1))
        bits.skip_golomb(s.equal)
        if bits.take(1):
            delay = bits.take(5) + 1
            bits.take(32)
            s.removal, s.presentation = bits.take(5) + 1, bits.take(5) + 1
    initial = bits.take(1)
    for _ in range(bits.take(5) + 1):
        point = bits.take(12)
        bits.take(bits.take(5) > 7)
        timed = bool(delay and bits.take(1))
        bits.take(2 * delay + 1 if timed else 0)
        s.points.append((point, timed))
        bits.take(4 if initial and bits.take(1) else 0)


def obus(data: bytes) -> Iterator[tuple[int, tuple[int, int], bytes]]:
    """Type, temporal and spatial layer, and beginning of each unit."""
    at = 0
    while at < len(data):
        head, extended = data[at], data[at] >> 2 & 1
        layer = (data[at + 1] >> 5, data[at + 1] >> 3 & 3) if extended else (0, 0)
        at += 1 + extended
        size = len(data) - at
        if head >> 1 & 1:
            size = 0
            for n in range(8):
                size |= (data[at] & 127) << 7 * n
                at += 1
                if not data[at - 1] & 128:
                    break
        yield head >> 3 & 15, layer, data[at : at + min(size, _HEAD)]
        at += size
