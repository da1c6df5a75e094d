"""Shift-tolerant LPIPS: how different two pictures look to a network that one pixel of shift does not upset.

Ghildyal and Liu, "Shift-tolerant perceptual similarity metric", ECCV 2022. The weights are the authors', as the
package ``stlpips_pytorch`` carries them (BSD-2-Clause); the package itself is not needed.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.crop_space import F32
from training.losses.weight_files import weights

# A stage is what lies between two places where features are compared: (number in the weight file, padding) is a
# convolution; "pool" a max pooling of 3×3 with stride 1, "blur" the low-pass that then takes every second sample.
ALEX: tuple[tuple[tuple[int, int] | str, ...], ...] = (
    ((0, 2), "blur", "relu"),
    ("pool", "blur", (5, 2), "relu"),
    ("pool", "blur", (9, 1), "relu"),
    ((11, 1), "relu"),
    ((13, 1), "relu"),
)


def blur(x: Tensor) -> Tensor:
    """Binomial low-pass of 3×3 taps, then every second sample, N×C×h×w → about N×C×h/2×w/2.

    Zhang, "Making convolutional networks shift-invariant again", ICML 2019; mirrored by two pixels, the wider padding
    that Ghildyal and Liu found to help.
    """
    k = x.new_tensor([1.0, 2.0, 1.0]) / 4
    channels = x.shape[1]
    kernel = (k[:, None] * k[None, :]).expand(channels, 1, 3, 3)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=channels)


class StLpips(nn.Module):
    """The metric on AlexNet; as a loss, too: it is differentiable in both pictures, and its own weights are fixed.

    Args:
        folder: where the weight file or its wheel lies; None takes the environment's RTFACE_METRIC_WEIGHTS.

    Raises:
        ValueError: a file that is not the expected one.
        FileNotFoundError: no weights; the message says how to get them.
    """

    def __init__(self, folder: Path | None = None) -> None:
        state = torch.load(io.BytesIO(weights("alex_shift_tolerant.pth", folder)), "cpu", weights_only=True)
        super().__init__()
        # Registered as buffers: they move with .to(device) and never train.
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
        """Unit-length features of every stage for N×3×H×W RGB of 0..1, H and W ≥ 32."""
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
            # Inside the root, so that the gradient of features that are all 0 is 0 and not NaN.
            out.append(x / torch.sqrt((x * x).sum(1, keepdim=True) + 1e-20))
        return out

    def forward(self, a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
        """N distances (0 for equal pictures, larger for less alike) of two N×3×H×W RGB pictures of 0..1.

        ``mask`` (N or 1, 1, H, W, of 0..1) weights every stage's map of distances; None is the published metric,
        their plain mean.
        """
        total = a.new_zeros(len(a))
        for number, (p, q) in enumerate(zip(self.features(a), self.features(b), strict=True)):
            d = F.conv2d((p - q) ** 2, getattr(self, f"head{number}"))
            if mask is None:
                total = total + d.mean((1, 2, 3))
            else:
                # Stretched over the map: what the first layer's missing border shifts is within a pixel or two of it.
                m = F.adaptive_avg_pool2d(mask, [d.shape[2], d.shape[3]])
                total = total + (d * m).sum((1, 2, 3)) / m.expand_as(d).sum((1, 2, 3))
        return total

    @torch.no_grad()
    def distance(self, a: F32, b: F32, mask: F32 | None = None) -> float:
        """The distance of two S×S×3 float RGB pictures of 0..1; ``mask`` float S×S (`crop_space.oval_mask`) or None.

        Raises:
            ValueError: the pictures differ in shape.
        """
        if a.shape != b.shape:
            raise ValueError(f"ST-LPIPS compares two pictures of one size, got {a.shape} and {b.shape}")
        device = self.get_buffer("shift").device
        x, y = (torch.from_numpy(z.transpose(2, 0, 1)[None].astype("float32")).to(device) for z in (a, b))
        m = None if mask is None else torch.from_numpy(mask[None, None].astype("float32")).to(device)
        return float(self(x, y, m))
