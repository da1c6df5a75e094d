"""GPU memory for the recurrent state of faces between frames."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

from rtface.device.cuda.gpu import Gpu, Memory, aligned


@dataclass(slots=True, weakref_slot=True)
class FaceState:
    """A face's recurrent state on a GPU. The memory returns to the pool with the last reference.

    Attributes:
        home: the pool that the memory returns to.
        memory: memory that contains the arrays.
        at: addresses of the arrays.
    """

    home: StatePool
    memory: Memory
    at: tuple[int, ...]


class StatePool:
    """A pool of face states of one size. The stream thread takes states; any thread may drop them.

    Args:
        gpu: the GPU that contains the states.
        arrays: size in bytes of each array of a state.
    """

    def __init__(self, gpu: Gpu, *arrays: int) -> None:
        self._gpu, self._arrays = gpu, [aligned(nbytes) for nbytes in arrays]
        self._all: list[Memory] = []
        self._free: list[Memory] = []

    def take(self) -> FaceState:
        """Takes unused memory, or allocates more. Raises OutOfDeviceMemory."""
        if self._free:
            memory = self._free.pop()
        else:
            memory = self._gpu.allocate(sum(self._arrays))
            self._all.append(memory)
        state = FaceState(self, memory, tuple(memory.address + sum(self._arrays[:n]) for n in range(len(self._arrays))))
        # This need not wait for the GPU, because only later work on the same stream overwrites the memory. It must not
        # take a lock (as a SlotPool does), because garbage collection may run it while this thread holds that lock.
        weakref.finalize(state, self._free.append, memory).atexit = False
        return state

    def close(self) -> None:
        """Frees all states. No GPU work may use them. Call it only on the stream thread."""
        for memory in self._all:
            memory.close()
        self._all.clear()
        self._free = []
