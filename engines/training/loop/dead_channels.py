"""Revives dead channels: channels whose ReLU never fires.

The size of Muon's steps does not decrease with the gradient. So the inputs of many ReLUs between a block's two
convolutions become negative for all faces: after 7,900 steps, 399 of the 1,120 channels of ``rtface-s`` were dead; in
one block, 88 of 96. A dead channel gets no gradient, so it stays dead. This module resets such channels: each gets a
new random filter before the ReLU and zero weights after it, so that the network's output does not change.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from training.model.layers import Block


@torch.no_grad()
def dead_channels(net: nn.Module, run: Any) -> dict[str, Tensor]:
    """Finds the channels of each ``Block`` that are zero during ``run()``. Returns masks, bool C, by block name."""
    highest: dict[str, Tensor] = {}
    hooks: list[Any] = []
    for name, block in net.named_modules():
        if isinstance(block, Block) and block.a.weight.requires_grad:  # a frozen block would not learn

            def record_maximum(_: nn.Module, __: Any, out: Tensor, name: str = name) -> None:
                maximum = out.float().amax((0, 2, 3))
                highest[name] = torch.maximum(highest[name], maximum) if name in highest else maximum

            hooks.append(block.a.register_forward_hook(record_maximum))
    run()
    for hook in hooks:
        hook.remove()
    return {name: maximum <= 0 for name, maximum in highest.items()}


@torch.no_grad()
def revive(
    net: nn.Module, optimiser: torch.optim.Optimizer, averaged: dict[str, Tensor], dead: dict[str, Tensor]
) -> int:
    """Resets dead channels in network, averaged weights and optimiser state.

    Returns the number of channels that were reset.
    """
    blocks = dict(net.named_modules())
    for name, mask in dead.items():
        if not mask.any():
            continue
        block = blocks[name]
        assert isinstance(block, Block)
        a, b = block.a, block.b
        fresh = torch.empty_like(a.weight[mask]).normal_(std=(2 / a.weight[0].numel()) ** 0.5)
        for weights in (dict(net.named_parameters()), averaged):
            weights[f"{name}.a.weight"][mask] = fresh
            weights[f"{name}.a.bias"][mask] = 0
            weights[f"{name}.b.weight"][:, mask] = 0
        for parameter, rows in ((a.weight, True), (a.bias, True), (b.weight, False)):
            for value in optimiser.state.get(parameter, {}).values():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    if rows:
                        value[mask] = 0
                    else:
                        value[:, mask] = 0
    return int(sum(int(mask.sum()) for mask in dead.values()))
