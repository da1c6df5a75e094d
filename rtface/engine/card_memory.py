"""What engines remember of faces, where it lies on a card."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

from rtface.device.card import Card, Memory
from rtface.device.slots import aligned
from rtface.engine.recipe import Recipe

_AT_ONCE = 16  # places that are reserved at a time


@dataclass(slots=True, weakref_slot=True)
class Remembered:
    """A place with what an engine remembers of a face; it is free again when nobody holds this.

    Attributes:
        memory: where it lies.
        kept, state: addresses of `engine.restore.FaceMemory`'s arrays, float32.
    """

    memory: Memory
    kept: int
    state: int


class Places:
    """All places of one engine. The thread that owns the card takes them; any may let go of them."""

    def __init__(self, card: Card, recipe: Recipe) -> None:
        self._card = card
        *_, w, h = (v // recipe.shrink for v in recipe.region)
        channels, rows, columns = (recipe.memory.shape if recipe.memory else None) or (0, 0, 0)
        self._kept, self._state = aligned(12 * w * h), aligned(4 * channels * rows * columns)
        self._all: list[Memory] = []
        self._free: list[tuple[Memory, int, int]] = []

    def take(self) -> Remembered:
        """A free place, or a new one. Raises OutOfDeviceMemory."""
        if not self._free:
            for _ in range(_AT_ONCE):
                memory = self._card.allocate(self._kept + self._state)
                self._all.append(memory)
                self._free.append((memory, memory.address, memory.address + self._kept))
        place = self._free.pop()
        held = Remembered(*place)
        # It is written again by work that comes later on the same stream: no need to wait for the card.
        weakref.finalize(held, self._free.append, place).atexit = False
        return held

    def close(self) -> None:
        """Frees all; nothing on the card may use them any more."""
        for memory in self._all:
            memory.close()
        self._all.clear()
        self._free = []
