"""OSEDiff (Wu et al. 2024, One-Step Effective Diffusion Network for Real-World Image Super-Resolution), its face model.

Stable Diffusion 2.1 (Rombach et al. 2022) with small changes of its weights: the autoencoder's encoder makes a latent
of the damaged face, the denoising network is asked once, at the last time step, what of it is noise, and the decoder
makes a picture of the rest. The published code draws the latent from the encoder's distribution and lets a tagging
network describe each picture; here the latent is the distribution's mean and the description is one for all (`merge`),
so that the same crop always gives the same answer.

Parameters carry the names of the diffusers library, in which Stable Diffusion is published.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from engines.published.osediff.autoencoder import Autoencoder
from engines.published.osediff.blocks import Conv, Linear
from engines.published.osediff.unet import UNet

WORDS = 77
"""Places of a description."""


def kept(step: int) -> float:
    """What part of a picture's variance the noise of ``step`` (0…999) leaves: Stable Diffusion's schedule."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64, device="cpu").square()
    return float((1 - betas).cumprod(0)[step])


class OneStep(nn.Module):
    """RGB crops N×3×S×S, -1…1, to as much, in one step of the denoising network. What that is told of a crop,
    N×77×told (or 1×77×told for all), is what kinds of this class differ in: ``describe``."""

    def __init__(self, widths: Sequence[int], pictures: Sequence[int], told: int, head: int, step: int) -> None:
        super().__init__()
        self.unet = UNet(widths, told, head, step)
        self.vae = Autoencoder(pictures)
        self.kept = kept(step)

    def describe(self, crop: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, crop: Tensor) -> Tensor:
        latent = self.vae.encode(crop)
        noise = self.unet(latent, self.describe(crop))
        return self.vae.decode((latent - (1 - self.kept) ** 0.5 * noise) * self.kept**-0.5).clamp(-1, 1)


class OSEDiff(OneStep):
    """Tells the same of every crop: ``prompt``, 1×77×told."""

    prompt: Tensor

    def __init__(self, widths: Sequence[int], pictures: Sequence[int], told: int, head: int, step: int) -> None:
        super().__init__(widths, pictures, told, head, step)
        self.register_buffer("prompt", torch.zeros(1, WORDS, told))

    def describe(self, crop: Tensor) -> Tensor:
        return self.prompt


def build(
    *,
    widths: Sequence[int] = (320, 640, 1280, 1280),
    pictures: Sequence[int] = (128, 256, 512, 512),
    told: int = 1024,
    head: int = 64,
    step: int = 999,
    half: bool = False,
) -> OSEDiff:
    """A network with random weights, in evaluation mode: Stable Diffusion 2.1's sizes.

    ``widths`` and ``pictures``: channels of the denoising network and the autoencoder, largest size first, multiples
    of 32; ``told`` channels of the description; ``head`` of an attention head. ``half``: weights of convolutions and
    matrices are stored as fp16 and computed with in fp32, so that an ONNX file of them stays below 2 GiB.
    """
    net = OSEDiff(widths, pictures, told, head, step).eval()
    if half:
        for module in net.modules():
            if isinstance(module, (Conv, Linear)):
                module.weight.data = module.weight.data.half()
    return net
