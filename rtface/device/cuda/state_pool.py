"""GPU memory for the recurrent state of faces between frames."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

from rtface.device.cuda.gpu import Gpu, Memory, aligned


@dataclass(slots=True, weakref_slot=True)
class FaceState:
    """A face's recurrent state on a GPU. Its memory returns to the pool when the last reference is dropped.

    Attributes:
        home: the pool that the memory returns to.
        memory: memory that contains the arrays.
        at: addresses of the arrays.
    """

    home: StatePool
    memory: Memory
    at: tuple[int, ...]


class StatePool:
    """A pool of face states of one size. Only the stream thread may take states; any thread may drop them.

    Args:
        gpu: the GPU that contains the states.
        arrays: size in bytes of each array of a state.
    """

    def __init__(self, gpu: Gpu, *arrays: int) -> None:
        self._gpu, self._arrays = gpu, [aligned(nbytes) for nbytes in arrays]
        self._blocks: list[Memory] = []
        self._unused: list[Memory] = []

    def take(self) -> FaceState:
        """Returns a state in unused memory, or allocates more. Raises OutOfDeviceMemory."""
        if self._unused:
            memory = self._unused.pop()
        else:
            memory = self._gpu.allocate(sum(self._arrays))
            self._blocks.append(memory)
        state = FaceState(self, memory, tuple(memory.address + sum(self._arrays[:n]) for n in range(len(self._arrays))))
        # The finalizer need not wait for the GPU, because only later work on the same stream overwrites the memory. It
        # must not acquire a lock, because garbage collection may call it on a thread that already holds the lock.
        weakref.finalize(state, self._unused.append, memory).atexit = False
        return state

    def close(self) -> None:
        """Frees all states; the GPU must be idle. Call it only on the stream thread."""
        for memory in self._blocks:
            memory.close()
        self._blocks.clear()
        self._unused = []
