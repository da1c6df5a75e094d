"""Reads quantiser indices of AV1 frames (AV1 bitstream specification, 5.3 to 5.9).

Streams with a decoder model, frame numbers, tiles of several sizes, or sizes taken from references are not supported:
film encoders do not write them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rtface.media.formats.coded_headers.bits import Bits

_KEY, _INTER, _INTRA_ONLY, _SWITCH = range(4)
_HEAD_BYTES = 512  # bytes of a unit that contain its header
_PER_FRAME = 2  # each frame has its own flag


@dataclass(slots=True)
class _Sequence:
    size_bits: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (0, 0)
    large_blocks: bool = False
    motion: bool = False
    screen: int = _PER_FRAME
    integer: int = _PER_FRAME
    order_bits: int = 0
    scaled: bool = False
    bits: int = 8


class Av1Frames:
    """Reads packets in stream order.

    Attributes:
        bits: bits of a sample.
    """

    def __init__(self) -> None:
        self._sequence: _Sequence | None = None
        self._kept: list[tuple[int, int] | None] = [None] * 8  # quantiser index and frame type of each reference

    @property
    def bits(self) -> int:
        return self._sequence.bits if self._sequence else 8

    def read(self, data: bytes) -> int | None:
        """Returns the quantiser index of a packet's last shown frame, or None.

        Raises:
            IndexError, ValueError: the packet is damaged, unsupported, or refers to a frame that did not arrive.
        """
        shown = None
        for kind, unit in _units(data):
            if kind == 1:
                self._sequence = None
                self._sequence = _sequence(Bits(unit))
            elif kind in (3, 6):
                index = self._frame(Bits(unit))
                shown = shown if index is None else index
        return shown

    def _frame(self, bits: Bits) -> int | None:
        """Returns the quantiser index of the frame if it is shown."""
        s = self._sequence
        if s is None:
            raise ValueError("no sequence header")
        if bits.take(1):
            again = self._kept[bits.take(3)]
            if again is None:
                return None
            if again[1] == _KEY:
                self._kept = [again] * 8
            return again[0]
        kind, shown = bits.take(2), bool(bits.take(1))
        bits.take(not shown)
        robust = kind == _SWITCH or (kind == _KEY and shown) or bool(bits.take(1))
        intra = kind in (_KEY, _INTRA_ONLY)
        fixed = bits.take(1)
        screen = bits.take(1) if s.screen == _PER_FRAME else s.screen
        integer = (bits.take(1) if s.integer == _PER_FRAME else s.integer) if screen else 0
        has_size = kind == _SWITCH or bool(bits.take(1))
        bits.take(s.order_bits)
        bits.take(0 if intra or robust else 3)
        refreshed = 255 if kind == _SWITCH or (kind == _KEY and shown) else bits.take(8)
        bits.take(8 * s.order_bits if (not intra or refreshed != 255) and robust else 0)
        if intra:
            size, width = _size(bits, s, has_size)
            bits.take(screen and width == size[0])
        else:
            size, width = _inter(bits, s, has_size=has_size, robust=robust, integer=bool(integer))
        bits.take(0 if fixed else 1)
        _tiles(bits, s, width, size[1])
        kept = bits.take(8), kind
        self._kept = [kept if refreshed >> n & 1 else old for n, old in enumerate(self._kept)]
        return kept[0] if shown else None


def _inter(bits: Bits, s: _Sequence, *, has_size: bool, robust: bool, integer: bool) -> tuple[tuple[int, int], int]:
    """Returns an inter frame's size before scaling and its coded width."""
    short = s.order_bits and bits.take(1)
    bits.take(6 if short else 3 * 7)
    if has_size and not robust and any(bits.take(1) for _ in range(7)):
        raise ValueError("frame size from a reference")
    size = _size(bits, s, has_size)
    bits.take(0 if integer else 1)
    bits.take(0 if bits.take(1) else 2)
    bits.take(1)
    bits.take(s.motion and not robust)
    return size


def _size(bits: Bits, s: _Sequence, has_size: bool) -> tuple[tuple[int, int], int]:
    """Returns the size before scaling and the coded width."""
    size = (bits.take(s.size_bits[0]) + 1, bits.take(s.size_bits[1]) + 1) if has_size else s.size
    divisor = 9 + bits.take(3) if s.scaled and bits.take(1) else 8
    bits.take(32 if bits.take(1) else 0)
    return size, (8 * size[0] + divisor // 2) // divisor


def _tiles(bits: Bits, s: _Sequence, width: int, height: int) -> None:
    shift = 7 if s.large_blocks else 6
    columns, rows = (-(-(2 * ((n + 7) >> 3)) // (1 << shift - 2)) for n in (width, height))
    widest, area = 4096 >> shift, 4096 * 2304 >> 2 * shift
    least = _log2(widest, columns)
    least_all = max(least, _log2(area, rows * columns))
    if not bits.take(1):
        raise ValueError("non-uniform tiles")
    across = bits.unary(least, _log2(1, min(columns, 64)))
    down = bits.unary(max(least_all - across, 0), _log2(1, min(rows, 64)))
    bits.take(across + down + 2 if across + down else 0)


def _log2(unit: int, target: int) -> int:
    """Counts how often `unit` has to be doubled to reach `target`."""
    return max(-(-target // unit) - 1, 0).bit_length()


def _sequence(bits: Bits) -> _Sequence:
    s = _Sequence()
    profile, _, reduced = bits.take(3), bits.take(1), bits.take(1)
    if reduced:
        raise ValueError("a still picture")
    _operation(bits)
    s.size_bits = across, down = bits.take(4) + 1, bits.take(4) + 1
    s.size = bits.take(across) + 1, bits.take(down) + 1
    if bits.take(1):
        raise ValueError("frame ID numbers")
    s.large_blocks = bool(bits.take(1))
    bits.take(2 + 4)
    ordered = bits.take(1)
    s.motion = bits.take(2 * ordered) % 2 == 1
    s.screen = _PER_FRAME if bits.take(1) else bits.take(1)
    if s.screen:
        s.integer = _PER_FRAME if bits.take(1) else bits.take(1)
    s.order_bits = bits.take(3) + 1 if ordered else 0
    s.scaled = bool(bits.take(1))
    bits.take(2)
    high = bits.take(1)
    s.bits = 8 + 2 * high + 2 * bits.take(high and profile == 2)
    return s


def _operation(bits: Bits) -> None:
    """Skips timing information and the operating points of the stream."""
    if bits.take(1):
        bits.take(64)
        bits.skip_golomb(bits.take(1))
        if bits.take(1):
            raise ValueError("decoder model info")
    initial = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        bits.take(bits.take(5) > 7)
        bits.take(4 if initial and bits.take(1) else 0)


def _units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the type and the beginning of each unit."""
    at = 0
    while at < len(data):
        head = data[at]
        at += 1 + (head >> 2 & 1)
        size = len(data) - at
        if head >> 1 & 1:
            size = 0
            for n in range(8):
                size |= (data[at] & 127) << 7 * n
                at += 1
                if not data[at - 1] & 128:
                    break
        yield head >> 3 & 15, data[at : at + min(size, _HEAD_BYTES)]
        at += size
