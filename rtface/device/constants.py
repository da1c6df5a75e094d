"""What the kernels look things up in: tables that go to the card once and stay there."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtface.device.card import Memory
from rtface.device.owner import Owner
from rtface.device.slots import Growing


class Constants:
    """Arrays by name, copied to the card when they are first asked for. One thread at a time may ask."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._pieces: dict[Hashable, Growing] = {}

    def of(self, name: Hashable, make: Callable[[], NDArray[Any]]) -> Memory:
        """The array's place on the card; waits for the copy the first time. Raises OutOfDeviceMemory."""
        if name not in self._pieces:
            owner, values = self._owner, np.ascontiguousarray(make()).reshape(-1).view(np.uint8)

            def put() -> Growing:
                piece, done = Growing(owner.card, pinned=True), owner.card.event()
                piece.need(max(len(values), 1))
                if len(values):
                    piece.on_host().bytes()[:len(values)] = values
                    owner.compute.copy(piece.on_card(), piece.on_host(), len(values))
                owner.compute.record(done)
                done.synchronize()
                return piece

            self._pieces[name] = owner.run(put).result()
        return self._pieces[name].on_card()

    def close(self) -> None:
        """Frees all; the card must be idle. The owner's thread only."""
        for piece in self._pieces.values():
            piece.close()
        self._pieces.clear()
