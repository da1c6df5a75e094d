"""Reads shards of ``film_pairs`` as memory-mapped arrays, and draws batches."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.crop_space import U8
from training.data.film_pairs import KINDS

CLEAN = KINDS.index("clean")


class Shards:
    """All shards of a folder, memory-mapped. ``refresh`` adds new shards.

    ``index``: shard and row of each item. ``kinds``: kind of each item. ``shards``: arrays ``parts`` of each shard.
    """

    def __init__(self, root: Path, parts: tuple[str, ...], min_px: float = 0.0) -> None:
        self.root, self.parts, self.min_px = root, parts, min_px
        self.shards: list[list[Any]] = []
        self.names: list[str] = []
        self.index = np.zeros((0, 2), np.int64)
        self.kinds = np.zeros(0, np.uint8)
        self.refresh()

    def refresh(self) -> int:
        """Adds new shards of the folder. Returns the total number of items."""
        for path in sorted(self.root.glob("*.meta.npy")):
            name = path.name.removesuffix(".meta.npy")
            if name in self.names:
                continue
            meta = np.load(path)
            usable = np.flatnonzero(meta["px"] >= self.min_px)
            rows = np.stack([np.full(len(usable), len(self.shards)), usable], 1)
            self.shards.append([np.load(self.root / f"{name}.{part}.npy", mmap_mode="r") for part in self.parts])
            self.names.append(name)
            self.index = np.concatenate([self.index, rows])
            self.kinds = np.concatenate([self.kinds, meta["kind"][usable]])
        return len(self.index)

    def draw(self, rng: np.random.Generator) -> int:
        """Draws the number of a random item."""
        return int(rng.integers(len(self.index)))


class Pairs(Shards):
    """Pairs written by ``film_pairs``, at one crop size."""

    def __init__(self, root: Path, size: int, min_px: float = 0.0) -> None:
        super().__init__(root, (str(size),), min_px)

    def get(self, i: int) -> U8:
        """Returns truth and input of pair ``i``: uint8 2×h×w×3 RGB."""
        shard, row = self.index[i]
        return self.shards[shard][0][row]

    def batch(self, numbers: list[int]) -> tuple[Tensor, Tensor]:
        """Returns the pairs ``numbers`` as (truth, input): float32 N×3×h×w, 0..1."""
        pairs = torch.from_numpy(np.stack([self.get(i) for i in numbers])).permute(0, 1, 4, 2, 3).float() / 255
        return pairs[:, 0], pairs[:, 1]


class Stream:
    """Endless seeded batches (truth, input, is_clean), prepared in a thread.

    Half of the pairs are mirrored. In a share ``clean_share``, the input is the truth with almost no noise, so that
    networks learn not to change clean faces.
    """

    def __init__(
        self,
        pairs: Pairs,
        batch: int,
        seed: int,
        clean_share: float = 0.1,
        ahead: int = 4,
    ) -> None:
        self.pairs, self.size, self.clean_share = pairs, batch, clean_share
        self.rng = np.random.default_rng(seed)
        self.queue: queue.Queue[tuple[Tensor, Tensor, Tensor]] = queue.Queue(ahead)
        threading.Thread(target=self._fill, daemon=True).start()

    def _make_batch(self) -> tuple[Tensor, Tensor, Tensor]:
        r = self.rng
        numbers = [self.pairs.draw(r) for _ in range(self.size)]
        truth, seen = self.pairs.batch(numbers)
        clean = torch.from_numpy((r.random(self.size) < self.clean_share) | (self.pairs.kinds[numbers] == CLEAN))
        for i in range(self.size):
            if clean[i]:
                sigma = float(r.choice([0.0, 0.3, 0.7])) / 255
                seen[i] = (truth[i] + sigma * torch.from_numpy(r.standard_normal(truth[i].shape, np.float32))).clamp(
                    0, 1
                )
            if r.random() < 0.5:
                truth[i], seen[i] = truth[i].flip(2), seen[i].flip(2)
        return truth, seen, clean

    def _fill(self) -> None:
        while True:
            self.queue.put(self._make_batch())

    def __next__(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.queue.get()
