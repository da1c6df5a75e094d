"""Operators of ONNX that move values about: reshaping, cutting, gathering, padding (see
`rtface.engine.torch_backend.onnx_ops`)."""
# pyright: reportMissingImports=false, reportUnknownParameterType=false

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from rtface.engine.torch_backend.onnx_ops import Node, Table

SHAPES = Table()


@SHAPES.add("Reshape", host=(1,))
def _reshape(node: Node, x: torch.Tensor, shape: list[int]) -> torch.Tensor:
    if not node.get("allowzero", 0):
        shape = [size if size else x.shape[i] for i, size in enumerate(shape)]
    return x.reshape(shape)


@SHAPES.add("Flatten")
def _flatten(node: Node, x: torch.Tensor) -> torch.Tensor:
    axis = node.get("axis", 1)
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@SHAPES.add("Squeeze", host=(1,))
def _squeeze(node: Node, x: torch.Tensor, axes: list[int] | None = None) -> torch.Tensor:
    axes = node.get("axes", axes)
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


@SHAPES.add("Unsqueeze", host=(1,))
def _unsqueeze(node: Node, x: torch.Tensor, axes: list[int] | None = None) -> torch.Tensor:
    axes = node.get("axes", axes)
    assert axes is not None
    rank = x.ndim + len(axes)
    for axis in sorted(a % rank for a in axes):
        x = x.unsqueeze(axis)
    return x


@SHAPES.add("Split", host=(1,))
def _split(node: Node, x: torch.Tensor, sizes: list[int] | None = None) -> Sequence[torch.Tensor]:
    axis, sizes = node.get("axis", 0), node.get("split", sizes)
    if sizes is None:
        each = -(-x.shape[axis] // node.get("num_outputs", len(node.outputs)))
        return x.split(each, axis)
    return x.split(sizes, axis)


@SHAPES.add("Slice", host=(1, 2, 3, 4))
def _slice(node: Node, x: torch.Tensor, starts: list[int] | None = None, ends: list[int] | None = None,
           axes: list[int] | None = None, steps: list[int] | None = None) -> torch.Tensor:
    starts, ends = node.get("starts", starts), node.get("ends", ends)
    assert starts is not None and ends is not None
    where: list[int] = node.get("axes", axes) or list(range(len(starts)))
    for start, end, axis, step in zip(starts, ends, where, steps or [1] * len(starts), strict=True):
        # ONNX cuts what reaches beyond; a negative number counts from the end, as Python's do.
        chosen = range(x.shape[axis])[start:end:step]
        if step > 0:
            x = x[(slice(None),) * (axis % x.ndim) + (slice(chosen.start, chosen.stop, step),)]
        else:  # PyTorch has no negative steps
            first, last = (chosen[-1], chosen[0]) if len(chosen) else (0, -1)
            x = x[(slice(None),) * (axis % x.ndim) + (slice(first, last + 1, -step),)].flip(axis)
    return x


@SHAPES.add("Gather")
def _gather(node: Node, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    axis = node.get("axis", 0) % x.ndim
    indices = torch.where(indices < 0, indices + x.shape[axis], indices)
    found = x.index_select(axis, indices.flatten())
    return found.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1:]])


@SHAPES.add("GatherElements")
def _gather_elements(node: Node, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    axis = node.get("axis", 0)
    return x.gather(axis, torch.where(indices < 0, indices + x.shape[axis], indices))


@SHAPES.add("Trilu", host=(1,))
def _trilu(node: Node, x: torch.Tensor, k: int = 0) -> torch.Tensor:
    return torch.triu(x, k) if node.get("upper", 1) else torch.tril(x, k)


@SHAPES.add("DepthToSpace")
def _depth_to_space(node: Node, x: torch.Tensor) -> torch.Tensor:
    b = node.get("blocksize")
    if node.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, b)
    n, c, h, w = x.shape
    return x.reshape(n, b, b, c // b ** 2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // b ** 2, h * b, w * b)


@SHAPES.add("SpaceToDepth")
def _space_to_depth(node: Node, x: torch.Tensor) -> torch.Tensor:
    b = node.get("blocksize")
    n, c, h, w = x.shape
    return x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b ** 2, h // b, w // b)


_MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@SHAPES.add("Pad", host=(1, 2, 3))
def _pad(node: Node, x: torch.Tensor, pads: list[int] | None = None, value: float | None = None,
         axes: list[int] | None = None) -> torch.Tensor:
    pads, mode = node.get("pads", pads), node.get("mode", "constant")
    assert pads is not None
    half = len(pads) // 2
    around = [(0, 0)] * x.ndim
    for i, axis in enumerate(axes or range(half)):
        around[axis] = (pads[i], pads[i + half])
    while len(around) > 1 and around[0] == (0, 0):  # PyTorch counts from the last axis
        around = around[1:]
    flat = [size for pair in reversed(around) for size in pair]
    if mode == "constant":
        return F.pad(x, flat, value=node.get("value", 0.0) if value is None else value)
    if mode not in _MODES or not len(around) <= x.ndim - 2 <= 3:
        raise node.refuse(f"mode={mode} and pads={pads}")
    flat += [0, 0] * (x.ndim - 2 - len(around))
    return F.pad(x, flat, mode=_MODES[mode])
