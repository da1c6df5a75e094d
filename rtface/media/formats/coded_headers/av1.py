"""Reads quantiser indices of AV1 frames (AV1 bitstream specification, 5.3 to 5.9).

Streams with a decoder model, frame ID numbers, non-uniform tiles, or frame sizes copied from references are not
supported, because film encoders do not write them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rtface.media.formats.coded_headers.bits import Bits

_KEY, _INTER, _INTRA_ONLY, _SWITCH = range(4)
_HEAD_BYTES = 512  # bytes at the start of an OBU that contain its header
_PER_FRAME = 2  # value of a sequence's flag if each frame has its own


@dataclass(slots=True)
class _Sequence:
    size_bits: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (0, 0)
    large_blocks: bool = False
    reference_motion: bool = False
    screen_content: int = _PER_FRAME
    integer_mv: int = _PER_FRAME
    order_bits: int = 0
    super_resolution: bool = False
    bits: int = 8


class Av1Frames:
    """Reads the packets of a stream in order.

    Attributes:
        bits: bits per sample.
    """

    def __init__(self) -> None:
        self._sequence: _Sequence | None = None
        self._references: list[tuple[int, int] | None] = [None] * 8  # quantiser index and frame type of each reference

    @property
    def bits(self) -> int:
        return self._sequence.bits if self._sequence else 8

    def read(self, data: bytes) -> int | None:
        """Returns the quantiser index of a packet's last shown frame, if any.

        Raises:
            IndexError, ValueError: the packet is damaged or unsupported, or its sequence header did not arrive.
        """
        shown_index = None
        for obu_type, obu in _obus(data):
            if obu_type == 1:  # sequence header
                self._sequence = None
                self._sequence = _read_sequence(Bits(obu))
            elif obu_type in (3, 6):  # frame header, frame
                index = self._frame(Bits(obu))
                shown_index = shown_index if index is None else index
        return shown_index

    def _frame(self, bits: Bits) -> int | None:
        """Returns the quantiser index of the frame if it is shown."""
        s = self._sequence
        if s is None:
            raise ValueError("no sequence header")
        if bits.take(1):
            reference = self._references[bits.take(3)]
            if reference is None:
                return None
            if reference[1] == _KEY:
                self._references = [reference] * 8
            return reference[0]
        frame_type, shown = bits.take(2), bool(bits.take(1))
        bits.take(not shown)
        resilient = frame_type == _SWITCH or (frame_type == _KEY and shown) or bool(bits.take(1))
        intra = frame_type in (_KEY, _INTRA_ONLY)
        fixed_cdfs = bits.take(1)
        screen_content = bits.take(1) if s.screen_content == _PER_FRAME else s.screen_content
        integer_mv = (bits.take(1) if s.integer_mv == _PER_FRAME else s.integer_mv) if screen_content else 0
        has_size = frame_type == _SWITCH or bool(bits.take(1))
        bits.take(s.order_bits)
        bits.take(0 if intra or resilient else 3)
        refresh_flags = 255 if frame_type == _SWITCH or (frame_type == _KEY and shown) else bits.take(8)
        bits.take(8 * s.order_bits if (not intra or refresh_flags != 255) and resilient else 0)
        if intra:
            size, width = _read_size(bits, s, has_size)
            bits.take(screen_content and width == size[0])
        else:
            size, width = _read_inter_size(bits, s, has_size=has_size, resilient=resilient, integer_mv=bool(integer_mv))
        bits.take(0 if fixed_cdfs else 1)
        _skip_tiles(bits, s, width, size[1])
        new_reference = bits.take(8), frame_type
        self._references = [new_reference if refresh_flags >> n & 1 else old for n, old in enumerate(self._references)]
        return new_reference[0] if shown else None


def _read_inter_size(
    bits: Bits, s: _Sequence, *, has_size: bool, resilient: bool, integer_mv: bool
) -> tuple[tuple[int, int], int]:
    """Returns an inter frame's size before super-resolution scaling, and its coded width."""
    short_signaling = s.order_bits and bits.take(1)
    bits.take(6 if short_signaling else 3 * 7)
    if has_size and not resilient and any(bits.take(1) for _ in range(7)):
        raise ValueError("frame size from a reference")
    size = _read_size(bits, s, has_size)
    bits.take(0 if integer_mv else 1)
    bits.take(0 if bits.take(1) else 2)
    bits.take(1)
    bits.take(s.reference_motion and not resilient)
    return size


def _read_size(bits: Bits, s: _Sequence, has_size: bool) -> tuple[tuple[int, int], int]:
    """Returns a frame's size before super-resolution scaling, and its coded width."""
    size = (bits.take(s.size_bits[0]) + 1, bits.take(s.size_bits[1]) + 1) if has_size else s.size
    divisor = 9 + bits.take(3) if s.super_resolution and bits.take(1) else 8
    bits.take(32 if bits.take(1) else 0)
    return size, (8 * size[0] + divisor // 2) // divisor


def _skip_tiles(bits: Bits, s: _Sequence, width: int, height: int) -> None:
    shift = 7 if s.large_blocks else 6
    columns, rows = (-(-(2 * ((n + 7) >> 3)) // (1 << shift - 2)) for n in (width, height))
    max_tile_width, max_tile_area = 4096 >> shift, 4096 * 2304 >> 2 * shift
    min_columns_log2 = _log2(max_tile_width, columns)
    min_tiles_log2 = max(min_columns_log2, _log2(max_tile_area, rows * columns))
    if not bits.take(1):
        raise ValueError("non-uniform tiles")
    columns_log2 = bits.unary(min_columns_log2, _log2(1, min(columns, 64)))
    rows_log2 = bits.unary(max(min_tiles_log2 - columns_log2, 0), _log2(1, min(rows, 64)))
    bits.take(columns_log2 + rows_log2 + 2 if columns_log2 + rows_log2 else 0)


def _log2(unit: int, target: int) -> int:
    """Counts how often `unit` has to be doubled to reach `target`."""
    return max(-(-target // unit) - 1, 0).bit_length()


def _read_sequence(bits: Bits) -> _Sequence:
    s = _Sequence()
    profile, _, reduced = bits.take(3), bits.take(1), bits.take(1)
    if reduced:
        raise ValueError("a still picture")
    _skip_operating_points(bits)
    s.size_bits = width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    s.size = bits.take(width_bits) + 1, bits.take(height_bits) + 1
    if bits.take(1):
        raise ValueError("frame ID numbers")
    s.large_blocks = bool(bits.take(1))
    bits.take(2 + 4)
    has_order = bits.take(1)
    s.reference_motion = bits.take(2 * has_order) % 2 == 1
    s.screen_content = _PER_FRAME if bits.take(1) else bits.take(1)
    if s.screen_content:
        s.integer_mv = _PER_FRAME if bits.take(1) else bits.take(1)
    s.order_bits = bits.take(3) + 1 if has_order else 0
    s.super_resolution = bool(bits.take(1))
    bits.take(2)
    high_bit_depth = bits.take(1)
    s.bits = 8 + 2 * high_bit_depth + 2 * bits.take(high_bit_depth and profile == 2)
    return s


def _skip_operating_points(bits: Bits) -> None:
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


def _obus(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the type and the first bytes of each OBU."""
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
