"""Descriptors of the kernels in `batch.cu`: the rows of a batch, and the constants of an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CODE = Path(__file__).with_name("batch.cu")

ROW = np.dtype(
    [
        (name, np.uint64)
        for name in ("crop", "restored", "kept", "state", "kept_next", "state_next", "occlusion", "log_scale")
    ]
)
"""GPU addresses of one crop's arrays in a batch, 0 if absent. In an unused row, all are 0."""

NETWORK = np.dtype(
    [(name, np.int32) for name in ("size", "x", "y", "w", "h", "shrink", "state", "map", "residual", "remembers")]
    + [(name, np.float32) for name in ("low", "high", "out_low", "out_high")]
)
"""The constants of an engine; see ``struct Network`` in ``batch.cu``."""

KERNELS: dict[str, tuple[type[np.generic], ...]] = {"gather": (np.uint64,) * 7, "scatter": (np.uint64,) * 8}
"""The kernels of ``batch.cu`` and the types of their arguments."""

BLOCK = (256, 1, 1)


def gather_grid(network: NDArray[Any], batch: int) -> tuple[int, int, int]:
    """Returns a grid that covers every value that `gather` writes."""
    net = {name: int(network[name]) for name in NETWORK.names or () if network[name].dtype.kind == "i"}
    area, memory = net["w"] * net["h"], net["w"] * net["h"] // net["shrink"] ** 2
    return _grid(
        3 * area + (3 * memory * (1 + (net["shrink"] > 1)) + net["state"] + 1 if net["remembers"] else 0), batch
    )


def scatter_grid(network: NDArray[Any], batch: int) -> tuple[int, int, int]:
    """Returns a grid that covers every value that `scatter` writes."""
    net = {name: int(network[name]) for name in NETWORK.names or () if network[name].dtype.kind == "i"}
    memory = net["w"] * net["h"] // net["shrink"] ** 2
    return _grid(3 * net["size"] ** 2 + (3 * memory + net["state"] + net["map"] if net["remembers"] else 0), batch)


def _grid(count: int, batch: int) -> tuple[int, int, int]:
    return -(-count // BLOCK[0]), 1, batch
