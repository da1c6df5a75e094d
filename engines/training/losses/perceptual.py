"""Shift-tolerant LPIPS: a perceptual distance that tolerates shifts of a pixel.

Ghildyal and Liu, "Shift-tolerant perceptual similarity metric", ECCV 2022. The authors' weights are read from the file
of their package ``stlpips_pytorch`` (BSD-2-Clause), which does not need to be installed.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.crop_space import F32
from training.losses.weight_files import weights

# Features are compared after each stage. A tuple is a convolution: (number in the weight file, padding). "pool" is 3×3
# max pooling with stride 1, and "blur" is a low-pass filter that also drops every second sample.
ALEX: tuple[tuple[tuple[int, int] | str, ...], ...] = (
    ((0, 2), "blur", "relu"),
    ("pool", "blur", (5, 2), "relu"),
    ("pool", "blur", (9, 1), "relu"),
    ((11, 1), "relu"),
    ((13, 1), "relu"),
)


def blur(x: Tensor) -> Tensor:
    """Halves N×C×h×w after a binomial low-pass of 3×3 taps.

    Zhang, "Making convolutional networks shift-invariant again", ICML 2019. Two pixels are mirrored at each edge, as
    Ghildyal and Liu recommend.
    """
    k = x.new_tensor([1.0, 2.0, 1.0]) / 4
    channels = x.shape[1]
    kernel = (k[:, None] * k[None, :]).expand(channels, 1, 3, 3)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=channels)


class StLpips(nn.Module):
    """ST-LPIPS on AlexNet features. It is differentiable in both pictures; the weights are fixed.

    Args:
        folder: folder with the weight file or the wheel that contains it. If None, RTFACE_METRIC_WEIGHTS is used.

    Raises:
        ValueError: the file is not the expected one.
        FileNotFoundError: the weights are missing. The message explains how to get them.
    """

    def __init__(self, folder: Path | None = None) -> None:
        state = torch.load(io.BytesIO(weights("alex_shift_tolerant.pth", folder)), "cpu", weights_only=True)
        super().__init__()
        # Weights are buffers, so that they move with .to(device) but are never trained.
        for number, stage in enumerate(ALEX):
            for step in stage:
                if not isinstance(step, str):
                    key = f"net.slice{number + 1}.{step[0]}"
                    self.register_buffer(f"w{step[0]}", state[f"{key}.weight"], persistent=False)
                    self.register_buffer(f"b{step[0]}", state[f"{key}.bias"], persistent=False)
            self.register_buffer(f"head{number}", state[f"lin{number}.model.1.weight"], persistent=False)
        self.register_buffer("shift", state["scaling_layer.shift"], persistent=False)
        self.register_buffer("scale", state["scaling_layer.scale"], persistent=False)

    def features(self, x: Tensor) -> list[Tensor]:
        """Returns the features of every stage, normalised to length 1. Input: N×3×H×W RGB 0..1, H and W ≥ 32."""
        x = (x * 2 - 1 - self.shift) / self.scale
        out: list[Tensor] = []
        for stage in ALEX:
            for step in stage:
                if not isinstance(step, str):
                    x = F.conv2d(x, getattr(self, f"w{step[0]}"), getattr(self, f"b{step[0]}"), padding=step[1])
                elif step == "relu":
                    x = F.relu(x)
                elif step == "blur":
                    x = blur(x)
                else:
                    x = F.max_pool2d(x, 3, 1)
            # The constant is inside the root, so that the gradient of all-zero features is 0, not NaN.
            out.append(x / torch.sqrt((x * x).sum(1, keepdim=True) + 1e-20))
        return out

    def forward(self, a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns N distances between RGB pictures N×3×H×W, 0..1. Equal pictures have distance 0.

        ``mask`` (N×1×H×W or 1×1×H×W, 0..1) weights the distance map of every stage. None: equal weights, as published.
        """
        total = a.new_zeros(len(a))
        for number, (p, q) in enumerate(zip(self.features(a), self.features(b), strict=True)):
            d = F.conv2d((p - q) ** 2, getattr(self, f"head{number}"))
            if mask is None:
                total = total + d.mean((1, 2, 3))
            else:
                # The first layer drops a border, so the resized mask is misaligned by a pixel or two.
                m = F.adaptive_avg_pool2d(mask, [d.shape[2], d.shape[3]])
                total = total + (d * m).sum((1, 2, 3)) / m.expand_as(d).sum((1, 2, 3))
        return total

    @torch.no_grad()
    def distance(self, a: F32, b: F32, mask: F32 | None = None) -> float:
        """Returns the distance of two S×S×3 float RGB pictures, 0..1. ``mask``: float S×S, see `crop_space.oval_mask`.

        Raises:
            ValueError: the pictures differ in shape.
        """
        if a.shape != b.shape:
            raise ValueError(f"ST-LPIPS compares two pictures of one size, got {a.shape} and {b.shape}")
        device = self.get_buffer("shift").device
        x, y = (torch.from_numpy(z.transpose(2, 0, 1)[None].astype("float32")).to(device) for z in (a, b))
        m = None if mask is None else torch.from_numpy(mask[None, None].astype("float32")).to(device)
        return float(self(x, y, m))
