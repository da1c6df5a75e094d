"""Reads quantiser indices of VP8 frames. RFC 6386, 7.3, 9.2 to 9.6 and 19.2."""

from __future__ import annotations

_HEAD_BYTES = 128  # bytes at the start of a frame that contain its header


class Vp8Frames:
    """Reads frames in stream order. Segment settings persist until a frame changes them."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._enabled = self._absolute = False
        self._segment_values = [0, 0, 0, 0]
        self._shares = [1.0, 0.0, 0.0, 0.0]

    def read(self, data: bytes) -> list[tuple[int, float]]:
        """Returns a frame's quantiser indices, each with its share of blocks.

        Shares are estimated from the probabilities of the segments.

        Raises:
            IndexError, ValueError: the frame is damaged.
        """
        key = not data[0] & 1
        if key:
            if data[3:6] != b"\x9d\x01\x2a":
                raise ValueError("no start code")
            self._clear()
        bits = _BoolDecoder(data[10 if key else 3 : _HEAD_BYTES] + bytes(_HEAD_BYTES))  # a frame may be shorter
        if key:
            bits.take(2)
        self._enabled = bool(bits.take(1))
        if self._enabled:
            self._read_segments(bits)
        bits.take(1 + 6 + 3)
        if bits.take(1) and bits.take(1):  # adjustments of the loop filter
            for _ in range(8):
                bits.optional_signed(6)
        bits.take(2)
        index = bits.take(7)
        if not self._enabled:
            return [(index, 1.0)]
        return [
            (min(max(value + (0 if self._absolute else index), 0), 127), share)
            for value, share in zip(self._segment_values, self._shares, strict=True)
            if share
        ]

    def _read_segments(self, bits: _BoolDecoder) -> None:
        updates_map, updates_values = bits.take(1), bits.take(1)
        if updates_values:
            self._absolute = bool(bits.take(1))
            self._segment_values = [bits.optional_signed(7) for _ in range(4)]
            for _ in range(4):
                bits.optional_signed(6)
        if updates_map:
            half, first, third = ((bits.take(8) if bits.take(1) else 255) / 256 for _ in range(3))
            self._shares = [half * first, half * (1 - first), (1 - half) * third, (1 - half) * (1 - third)]


class _BoolDecoder:
    """Decodes bits of an arithmetic code. Raises IndexError past the end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 2
        self._value, self._range, self._shift_count = data[0] << 8 | data[1], 255, 0

    def take(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self._bit()
        return value

    def optional_signed(self, count: int) -> int:
        """Reads a signed number with a flag for its presence. Returns 0 if it is absent."""
        if not self.take(1):
            return 0
        value = self.take(count)
        return -value if self.take(1) else value

    def _bit(self) -> int:
        split = 1 + ((self._range - 1) >> 1)
        bit = int(self._value >= split << 8)
        if bit:
            self._range -= split
            self._value -= split << 8
        else:
            self._range = split
        while self._range < 128:
            self._value <<= 1
            self._range <<= 1
            self._shift_count += 1
            if self._shift_count == 8:
                self._shift_count = 0
                self._value |= self._data[self._at]
                self._at += 1
        return bit
