"""Reusable GPU buffers for the frames and faces in progress.

Unused slots keep their memory. A run therefore allocates no more after its largest frame and maximum number of faces.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from rtface.device.cuda.gpu import Gpu, Memory, Pinned, aligned
from rtface.device.cuda.stream_thread import StreamThread


class GrowingBuffer:
    """A growing buffer in GPU memory, pinned host memory, or both.

    Attributes:
        memory, pinned: the blocks on the GPU and on the host; None until the first `need` or if not requested.
    """

    def __init__(self, gpu: Gpu, *, pinned: bool = False, device: bool = True) -> None:
        self._gpu, self._with_pinned, self._with_device = gpu, pinned, device
        self.memory: Memory | None = None
        self.pinned: Pinned | None = None
        self.nbytes = 0

    def need(self, nbytes: int) -> None:
        """Grows the buffer to `nbytes` or more. Growing loses the contents. Call it only on the stream thread."""
        if nbytes <= self.nbytes:
            return
        old_nbytes = self.nbytes
        self.close()
        nbytes = aligned(max(nbytes + nbytes // 8, 2 * old_nbytes))  # with headroom, because growing waits for the GPU
        if self._with_device:
            self.memory = self._gpu.allocate(nbytes)
        if self._with_pinned:
            self.pinned = self._gpu.pin(nbytes)
        self.nbytes = nbytes

    def on_gpu(self) -> Memory:
        assert self.memory is not None
        return self.memory

    def on_host(self) -> Pinned:
        assert self.pinned is not None
        return self.pinned

    def close(self) -> None:
        for block in (self.memory, self.pinned):
            if block is not None:
                block.close()
        self.memory = self.pinned = None
        self.nbytes = 0


S = TypeVar("S")


class SlotPool(Generic[S]):
    """A thread-safe pool of slots of one kind. Return a slot only after all GPU work that uses it has ended.

    Args:
        streams: the GPU's stream thread.
        make: function that creates a slot on the stream thread.
        free: function that frees a slot.
    """

    def __init__(self, streams: StreamThread, make: Callable[[], S], free: Callable[[S], None]) -> None:
        self._streams, self._make, self._free = streams, make, free
        self._idle: list[S] = []
        self._all: list[S] = []
        self._lock = threading.Lock()

    def take(self) -> S:
        """Returns an idle slot, or creates one. Raises OutOfDeviceMemory."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        slot = self._streams.run(self._make).result()
        with self._lock:
            self._all.append(slot)
        return slot

    def give(self, slot: S) -> None:
        with self._lock:
            assert slot not in self._idle, "the slot was already returned"
            self._idle.append(slot)

    def close(self) -> None:
        """Frees all slots, even those in use; the GPU must be idle. Call it only on the stream thread."""
        with self._lock:
            slots, self._all, self._idle = self._all, [], []
        for slot in slots:
            self._free(slot)
