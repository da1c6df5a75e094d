"""What the kernels look things up in: tables that go to the GPU once and stay there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtface.device.cuda.buffer_pool import GrowingBuffer
from rtface.device.cuda.gpu import Memory
from rtface.device.cuda.stream_thread import StreamThread
from rtface.frame import Bytes


class Constants:
    """Arrays by name, copied to the GPU when they are first asked for, by any thread."""

    def __init__(self, owner: StreamThread) -> None:
        self._owner, self._lock = owner, threading.Lock()
        self._pieces: dict[Hashable, GrowingBuffer] = {}

    def of(self, name: Hashable, make: Callable[[], NDArray[Any]]) -> Memory:
        """The array's place on the GPU; waits for the copy the first time. Raises OutOfDeviceMemory."""
        with self._lock:
            if name not in self._pieces:
                self._pieces[name] = self._bring(np.ascontiguousarray(make()).reshape(-1).view(np.uint8))
            return self._pieces[name].on_gpu()

    def _bring(self, values: Bytes) -> GrowingBuffer:
        owner = self._owner

        def put() -> GrowingBuffer:
            piece = GrowingBuffer(owner.gpu, pinned=True)
            piece.need(max(len(values), 1))
            if len(values):
                piece.on_host().bytes()[:len(values)] = values
                owner.compute.copy(piece.on_gpu(), piece.on_host(), len(values))
            owner.settle(owner.compute)
            return piece

        return owner.reserve(put)

    def close(self) -> None:
        """Frees all; the GPU must be idle. The owner's thread only."""
        for piece in self._pieces.values():
            piece.close()
        self._pieces.clear()
