"""Reads quantiser indices of VP8 frames. RFC 6386, 7.3, 9.2 to 9.6 and 19.2."""

from __future__ import annotations

_HEAD_BYTES = 128  # bytes of a frame that contain its header


class Vp8Frames:
    """Reads frames in stream order. Segments persist until a frame changes them."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._enabled = self._absolute = False
        self._changes = [0, 0, 0, 0]
        self._shares = [1.0, 0.0, 0.0, 0.0]

    def read(self, data: bytes) -> list[tuple[int, float]]:
        """Returns a frame's quantiser indices and their shares. Shares are estimated from segment probabilities.

        Raises:
            IndexError, ValueError: the frame is damaged.
        """
        key = not data[0] & 1
        if key:
            if data[3:6] != b"\x9d\x01\x2a":
                raise ValueError("no start code")
            self._clear()
        bits = _BoolDecoder(data[10 if key else 3 : _HEAD_BYTES] + bytes(_HEAD_BYTES))  # zeros follow a frame
        if key:
            bits.take(2)
        self._enabled = bool(bits.take(1))
        if self._enabled:
            self._segments(bits)
        bits.take(1 + 6 + 3)
        if bits.take(1) and bits.take(1):  # changes of the loop filter
            for _ in range(8):
                bits.change(6)
        bits.take(2)
        index = bits.take(7)
        if not self._enabled:
            return [(index, 1.0)]
        return [
            (min(max(change + (0 if self._absolute else index), 0), 127), share)
            for change, share in zip(self._changes, self._shares, strict=True)
            if share
        ]

    def _segments(self, bits: _BoolDecoder) -> None:
        places, values = bits.take(1), bits.take(1)
        if values:
            self._absolute = bool(bits.take(1))
            self._changes = [bits.change(7) for _ in range(4)]
            for _ in range(4):
                bits.change(6)
        if places:
            upper, low, high = ((bits.take(8) if bits.take(1) else 255) / 256 for _ in range(3))
            self._shares = [upper * low, upper * (1 - low), (1 - upper) * high, (1 - upper) * (1 - high)]


class _BoolDecoder:
    """Decodes bits of an arithmetic code. Raises IndexError past the end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 2
        self._value, self._range, self._shifted = data[0] << 8 | data[1], 255, 0

    def take(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self._bit()
        return value

    def change(self, count: int) -> int:
        """Reads an optional signed number: a flag, the value, its sign. 0 without the flag."""
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
            self._shifted += 1
            if self._shifted == 8:
                self._shifted = 0
                self._value |= self._data[self._at]
                self._at += 1
        return bit
