"""Numbers of the pictures of MPEG-1 and MPEG-2 video (ITU-T H.262, 6.2.2.6 and 6.2.3)."""

from __future__ import annotations

_PICTURE, _GROUP = b"\0\0\1\0", b"\0\0\1\xb8"
_ORDERS, _HEAD = 1 << 10, 1 << 16  # of a packet so many bytes are searched
_B = 3
_TRUSTED = 8
"""B-frames in a row that lie before the frame that they need, from which on another one tells of a loss."""


class Mpeg2Pictures:
    """Reads packets in their order.

    Attributes:
        missing, begins, order, orders: of the last packet, see `steps.Number`. A frame that others refer to is found
            missing by the B-frames before it: they follow no frame that lies behind them.
    """

    def __init__(self) -> None:
        self._behind: int | None = None  # order of the last frame that others refer to, where B-frames may follow
        self._right = 0
        self.missing = 0
        self.begins, self.order, self.orders = False, 0, _ORDERS

    def read(self, packet: memoryview) -> int:
        """Kind of a packet's picture.

        Raises:
            IndexError, ValueError: there is none.
        """
        data = bytes(packet[:_HEAD])
        at = data.index(_PICTURE)
        group = data.find(_GROUP, 0, at)
        self.begins, self.orders = group >= 0, _ORDERS
        if self.begins:
            self._behind = None
            if data[group + 7] & 0x20:  # cut there: what was before does not belong to it
                self.orders = 0
        self.order, kind = data[at + 4] << 2 | data[at + 5] >> 6, data[at + 5] >> 3 & 7
        if kind != _B:
            self._behind = self.order
        elif self._behind is not None and 0 < (self.order - self._behind) % _ORDERS < _ORDERS // 2:
            self.missing = int(self._right >= _TRUSTED)
            self._right, self._behind = 0, None
        elif self._behind is not None:
            self._right += 1
        return kind
