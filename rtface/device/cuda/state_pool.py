"""GPU memory for the state that recurrent engines keep of each face between frames."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

from rtface.device.cuda.gpu import Gpu, Memory, aligned


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
        gpu: the GPU.
        arrays: bytes of each array of a place.
    """

    def __init__(self, gpu: Gpu, *arrays: int) -> None:
        self._gpu, self._arrays = gpu, [aligned(nbytes) for nbytes in arrays]
        self._all: list[Memory] = []
        self._free: list[Memory] = []

    def take(self) -> FaceState:
        """A free place, or a new one. Raises OutOfDeviceMemory."""
        if self._free:
            memory = self._free.pop()
        else:
            memory = self._gpu.allocate(sum(self._arrays))
            self._all.append(memory)
        state = FaceState(self, memory, tuple(memory.address + sum(self._arrays[:n]) for n in range(len(self._arrays))))
        # It is written again by work that comes later on the same stream: no need to wait for the GPU. A list, not a
        # Pool: this may run wherever the interpreter clears up, also where this thread holds a lock.
        weakref.finalize(state, self._free.append, memory).atexit = False
        return state

    def close(self) -> None:
        """Frees all; nothing on the GPU may use them any more. The stream thread only."""
        for memory in self._all:
            memory.close()
        self._all.clear()
        self._free = []
