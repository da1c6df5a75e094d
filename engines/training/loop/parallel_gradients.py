"""Computes gradients on several CPU cores without OpenMP's barriers.

On a shared machine, a single preempted core stalls every OpenMP loop. In this module, each thread runs a copy of the
network with shared weights and separate gradients. Threads get small pieces of the batch from a common queue, so that a
slow core processes fewer pieces.
"""

from __future__ import annotations

import copy
import queue
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Work = Callable[[nn.Module, Any], tuple[Tensor, Any]]
"""Function: (network, piece of the batch) → (loss to back-propagate, result to return)."""


class Crew:
    """Threads with copies of ``net``. ``run`` back-propagates pieces of a batch, and sums the gradients in ``net``."""

    def __init__(self, net: nn.Module, threads: int, work: Work) -> None:
        self.net, self.work = net, work
        self.pieces: queue.Queue[Any] = queue.Queue()
        self.results: queue.Queue[Any] = queue.Queue()
        self.copies: list[nn.Module] = []
        for _ in range(threads):
            twin = copy.deepcopy(net)
            for parameter, shared in zip(net.parameters(), twin.parameters(), strict=True):
                shared.data = parameter.data
            self.copies.append(twin)
            threading.Thread(target=self._loop, args=(twin,), daemon=True).start()

    def _loop(self, twin: nn.Module) -> None:
        torch.set_num_threads(1)
        while True:
            piece = self.pieces.get()
            try:
                loss, result = self.work(twin, piece)
                loss.backward()
                self.results.put(result)
            except Exception as e:  # noqa: BLE001 - handed to the caller of run
                self.results.put(e)

    def run(self, pieces: list[Any]) -> list[Any]:
        """Processes all pieces. Returns their results in the order of completion."""
        for twin in self.copies:
            twin.zero_grad(set_to_none=True)
        for piece in pieces:
            self.pieces.put(piece)
        results = [self.results.get() for _ in pieces]
        for r in results:
            if isinstance(r, Exception):
                raise r
        for parameter, *copied in zip(self.net.parameters(), *(t.parameters() for t in self.copies), strict=True):
            grads = [t.grad for t in copied if t.grad is not None]
            parameter.grad = None
            for g in grads:
                parameter.grad = g if parameter.grad is None else parameter.grad + g
        return results
