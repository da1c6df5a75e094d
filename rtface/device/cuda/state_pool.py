"""GPU memory for the state that recurrent engines keep of each face between frames."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

from rtface.device.cuda.buffer_pool import aligned
from rtface.device.cuda.gpu import Memory
from rtface.device.cuda.stream_thread import StreamThread
from rtface.errors import OutOfDeviceMemory


@dataclass(slots=True, weakref_slot=True)
class FaceState:
    """The recurrent state of one face on a GPU; its memory returns to the pool with the last reference.

    Attributes:
        home: the pool it belongs to.
        memory: its memory.
        at: addresses of its arrays.
    """

    home: StatePool
    memory: Memory
    at: tuple[int, ...]


class StatePool:
    """A pool of face states of one size. The stream thread takes states; any thread may drop them.

    Args:
        streams: of the GPU; it may free what is idle when memory runs out.
        arrays: bytes of each array of a place.
        at_once: how many are reserved at a time.
    """

    def __init__(self, streams: StreamThread, *arrays: int, at_once: int) -> None:
        self._streams, self._at_once = streams, at_once
        self._arrays = [aligned(nbytes) for nbytes in arrays]
        self._all: list[Memory] = []
        self._free: list[Memory] = []
        streams.idle.append(self.trim)

    def take(self) -> FaceState:
        """A free place, or a new one. Raises OutOfDeviceMemory."""
        if not self._free:
            self._reserve()
        memory = self._free.pop()
        state = FaceState(self, memory, tuple(memory.address + sum(self._arrays[:n]) for n in range(len(self._arrays))))
        # It is written again by work that comes later on the same stream: no need to wait for the GPU. A list, not a
        # Pool: this may run wherever the interpreter clears up, also where this thread holds a lock.
        weakref.finalize(state, self._free.append, memory).atexit = False
        return state

    def _reserve(self) -> None:
        """Reserves as many as there is room for; one at the least."""
        for n in range(self._at_once):
            try:
                memory = self._streams.gpu.allocate(sum(self._arrays))
            except OutOfDeviceMemory:
                if n:
                    return
                raise
            self._all.append(memory)
            self._free.append(memory)

    def trim(self) -> None:
        """Frees unused states; no GPU work may still use them. The stream thread only."""
        while self._free:
            memory = self._free.pop()
            self._all.remove(memory)
            memory.close()

    def close(self) -> None:
        """Frees all; nothing on the GPU may use them any more. The stream thread only."""
        if self.trim in self._streams.idle:
            self._streams.idle.remove(self.trim)
        for memory in self._all:
            memory.close()
        self._all.clear()
        self._free = []
