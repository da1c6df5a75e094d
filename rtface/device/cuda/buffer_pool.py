"""Reusable GPU buffers: one for each frame and each face in progress.

Nothing is reserved once a run has seen its largest frame and its most faces: what a slot has it keeps.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from rtface.device.cuda.gpu import Gpu, Memory, Pinned, aligned
from rtface.device.cuda.stream_thread import StreamThread


class GrowingBuffer:
    """A GPU buffer that grows on demand, with a pinned host buffer of the same size where wanted.

    Attributes:
        memory, pinned: None until the first `need`.
    """

    def __init__(self, gpu: Gpu, *, pinned: bool = False, device: bool = True) -> None:
        self._gpu, self._with_pinned, self._with_device = gpu, pinned, device
        self.memory: Memory | None = None
        self.pinned: Pinned | None = None
        self.nbytes = 0

    def need(self, nbytes: int) -> None:
        """Makes it at least so large; what it held is lost where it grows. The stream thread only."""
        if nbytes <= self.nbytes:
            return
        before = self.nbytes
        self.close()
        nbytes = aligned(max(nbytes + nbytes // 8, 2 * before))  # rarely: growing waits for the whole GPU
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
        for piece in (self.memory, self.pinned):
            if piece is not None:
                piece.close()
        self.memory = self.pinned = None
        self.nbytes = 0


S = TypeVar("S")


class SlotPool(Generic[S]):
    """A pool of slots of one kind, for any thread; return one when no GPU work uses it any more.

    Args:
        streams: of the GPU.
        make, free: of one slot; the stream thread calls them.
    """

    def __init__(self, streams: StreamThread, make: Callable[[], S], free: Callable[[S], None]) -> None:
        self._streams, self._make, self._free = streams, make, free
        self._idle: list[S] = []
        self._all: list[S] = []
        self._lock = threading.Lock()

    def take(self) -> S:
        """An idle slot, or a new one. Raises OutOfDeviceMemory."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        made = self._streams.run(self._make).result()
        with self._lock:
            self._all.append(made)
        return made

    def give(self, slot: S) -> None:
        with self._lock:
            assert slot not in self._idle, "a slot is given back twice"
            self._idle.append(slot)

    def close(self) -> None:
        """Frees all, in use or not; the GPU must be idle. The stream thread only."""
        with self._lock:
            slots, self._all, self._idle = self._all, [], []
        for slot in slots:
            self._free(slot)
