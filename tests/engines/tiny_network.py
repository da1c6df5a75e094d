"""A network of a few weights as an architecture offers it: ``model.py`` and ``offers.toml``. With a fidelity of 0 it
answers with the crop."""

MODEL = """
import torch
from torch import nn


class Softened(nn.Module):
    def forward(self, x):
        return torch.softmax(x, 1)


class Tiny(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inward, self.softened = nn.Conv2d(3, width, 3, padding=1), Softened()
        self.middle, self.outward = nn.Conv2d(width, width, 1), nn.Conv2d(width, 3, 3, padding=1)
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, crop, fidelity):
        weight = self.outward.weight * self.outward.weight.square().sum((1, 2, 3), keepdim=True).rsqrt()
        inner = self.softened(self.middle(self.inward(crop)))
        return crop + torch.conv2d(inner, weight, padding=1) * fidelity[:, :, None, None]


def build(width=4):
    return Tiny(width)


def restate(state):
    return {name.replace("encoder", "inward"): value for name, value in state.items()}
"""
OFFERS = """
[architecture]
name = "tiny"
[licence]
code = "Apache-2.0"
weights = "CC0-1.0"
commercial_use = true
data = "none"
[input]
name = "crop"
size = 32
range = [-1, 1]
[output]
name = "restored"
range = [-1, 1]
[controls]
fidelity = { name = "fidelity", default = 0.5 }
[precision]
default = "bf16"
fp32_nodes = ["*/softened/*"]
[psnr]
f32 = 55.0
bf16 = 30.0
[[offers]]
name = "tiny-1"
version = "1"
summary = "a network of the tests"
keys = "tiny.keys.txt"
variant = { width = 16 }
states = ["params_ema", "state_dict"]
prefix = "net."
"""
