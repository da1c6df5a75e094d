"""Aligns a network's previous output to the current frame, and mixes both.

In compressed films, detail fades from one predicted frame to the next. The previous output still has this detail, but
it must be aligned to a third of a pixel. In a strongly compressed film, the visible motion is not the face's: skipped
blocks stand still and jump later. So the alignment is learnt. It maps the previous output, which has more detail than
the previous frame, to the current frame. A state remembers the face's motion and the previous frame; blocks that equal
the previous frame were skipped.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.crop_space import roi
from training.losses.restoration import luma
from training.model.layers import Block, LowPass, Spread, Up, fold, fresh, magnifier

MAX_MOTION_PX = 8.0
"""Maximum motion of a face within its crop between frames, pixels of 256."""


class Past(NamedTuple):
    """Memory of the previous frame.

    ``picture`` N×3×192×176: the output for that frame, in its canonical space. ``known`` N×1×1×1: 1, but 0 on a face's
    first frame, when ``picture`` may have any finite values. ``state`` N×C×24×22: from ``Align``; first 0.
    """

    picture: Tensor
    known: Tensor
    state: Tensor


MOTION_CHANNELS = 40
"""Channels of the state that remember motion."""
STATE_CHANNELS = 64 + MOTION_CHANNELS
"""Channels of the state: luma of the previous frame, folded by 8; then motion."""


def empty_past(picture: Tensor) -> Past:
    """Returns an empty past for a face's first frame ``picture``, N×3×192×176."""
    n, _, h, w = picture.shape
    return Past(picture, picture.new_zeros(n, 1, 1, 1), picture.new_zeros(n, STATE_CHANNELS, h // 8, w // 8))


class Align(nn.Module):
    """Estimates the flow N×2×24×22 to the past picture, and the next state.

    Flow (x, y) is in pixels of a 256-px crop. A small U-Net at 1/4, 1/8 and 1/16 size reads crop, past picture and
    previous frame (cf. Sajjadi et al. 2018, "Frame-recurrent video super-resolution", in which the restoration loss
    also trains the flow). A gated state at 1/8 size (cf. Zhou et al. 2016, "Minimal gated unit for recurrent neural
    networks") remembers motion. Crop and past picture are N×3×192×176 (colour) or N×1×192×176 (grey).
    """

    def __init__(self, widths: tuple[int, int, int] = (32, 40, 56)) -> None:
        super().__init__()
        w0, w1, w2 = widths
        self.look = fresh(nn.Conv2d(48, w0, 3, padding=1), 2.0)
        self.down0 = fresh(nn.Conv2d(w0, w1, 2, stride=2), 2**0.5)
        self.expect = fresh(nn.Conv2d(MOTION_CHANNELS, w1, 1), 0.0)
        self.fine = nn.ModuleList(Block(w1, 0) for _ in range(2))
        self.down1 = fresh(nn.Conv2d(w1, w2, 2, stride=2))
        self.coarse = nn.ModuleList(Block(w2, 0) for _ in range(2))
        self.up = Up(w2, w1)
        self.both = Block(w1, 0)
        self.recall = fresh(nn.Conv2d(w1 + MOTION_CHANNELS, 2 * MOTION_CHANNELS, 3, padding=1), 0.7)
        self.head_coarse = fresh(nn.Conv2d(w2, 2, 3, padding=1), 0.0)
        self.head_fine = fresh(nn.Conv2d(w1, 2, 3, padding=1), 0.0)
        self.head_motion = fresh(nn.Conv2d(MOTION_CHANNELS, 2, 3, padding=1), 0.0)

    def forward(self, crop: Tensor, past: Past) -> tuple[Tensor, Tensor]:
        current, past_picture = (fold(2 * (p if p.shape[1] == 1 else luma(p)) - 1) for p in (crop, past.picture))
        previous, motion = past.state[:, :64], past.state[:, 64:]
        y = F.relu(self.look(torch.cat([current, past_picture, F.pixel_shuffle(previous, 2)], 1)))
        y = self.down0(y) + self.expect(motion)
        for b in self.fine:
            y = b(y)
        z = self.down1(y)
        for b in self.coarse:
            z = b(z)
        y = self.both(y + self.up(z))
        gate, candidate = self.recall(torch.cat([y, motion], 1)).chunk(2, 1)
        motion = motion + torch.sigmoid(gate) * (torch.tanh(candidate) - motion)
        flow = F.interpolate(self.head_coarse(z), scale_factor=2.0, mode="bilinear", align_corners=False)
        flow = flow + self.head_fine(y) + self.head_motion(motion)
        # On a face's first frame, there is no past to compare with, so motion must not be remembered.
        state = torch.cat([F.pixel_unshuffle(current, 2), motion * past.known], 1)
        return MAX_MOTION_PX * torch.tanh(flow / MAX_MOTION_PX), state


class Carry(nn.Module):
    """Warps the past N×3×192×176 by a flow N×2×24×22, with cubic interpolation.

    Bilinear interpolation would blur the past more with every frame. Coordinates are computed in full precision because
    bf16 would cause errors of half a pixel.
    """

    across: Tensor
    down: Tensor
    fine: Tensor

    def __init__(self) -> None:
        super().__init__()
        _, _, w, h = roi(256)
        across, down = ((2 * torch.arange(n) + 1) / n - 1 for n in (w, h))
        zeros = torch.zeros_like
        self.register_buffer("across", torch.stack([across, zeros(across)])[None, :, None, :], persistent=False)
        self.register_buffer("down", torch.stack([zeros(down), down])[None, :, :, None], persistent=False)
        fine = torch.zeros(2, 64, 2, 3, 3)
        for k, side in enumerate((w, h)):
            fine[k, :, k] = magnifier(8) * (2 / side)
        self.register_buffer("fine", fine.reshape(128, 2, 3, 3), persistent=False)

    def forward(self, picture: Tensor, flow: Tensor) -> Tensor:
        # A fixed convolution enlarges the flow bilinearly, because OpenVINO's interpolation is slow.
        fine = F.pixel_shuffle(F.conv2d(F.pad(flow.float(), (1, 1, 1, 1), mode="replicate"), self.fine.float()), 8)
        grid = (fine + self.across.float() + self.down.float()).permute(0, 2, 3, 1)
        warped = F.grid_sample(picture.float(), grid, mode="bicubic", padding_mode="border", align_corners=False)
        return warped.to(picture.dtype)


DRIFT_PX = 0.8
"""Approximate misalignment of the past picture after a minute, in pixels of a 256-px crop."""


def drift(n: int, dice: torch.Generator | None = None) -> Tensor:
    """Draws a smooth misalignment N×2×24×22 (x, y), pixels of a 256-px crop.

    Training clips are short, so they start with the misalignment (drift) that accumulates in a long film.
    """
    _, _, w, h = roi(256)
    amplitude = DRIFT_PX * torch.randn(n, 1, 1, 1, generator=dice).abs()
    rough = amplitude * torch.randn(n, 2, 4, 4, generator=dice)
    return F.interpolate(rough, size=(h // 8, w // 8), mode="bicubic", align_corners=False)


MIN_DIFFERENCE, MAX_DIFFERENCE = 12 / 255, 24 / 255
"""Bounds of the difference between past and frame that counts as usual in `Trust.agreement`."""


BAND = 1.5
"""σ, in pixels of a 256-px crop, of the Gaussian that separates low and high band of the warped past. Codecs lose the
high band. They preserve the low band, in which a misaligned past costs more than it gains."""
LOW_SHARE = 0.3
"""Trust in the low band, relative to the high band. Measured on eight real clips with weights trained for equal trust,
compared with no memory: in *call*, 1 loses 0.19 dB, 0 gains 0.06 dB and 0.3 gains 0.05 dB. In *heavy*, with blur and
noise, and on moved stills, 0.3 gains 0.02 to 0.09 dB more than 0."""


MAX_TRUST = 0.9
"""Maximum trust in the past. It makes errors of the past fade after about ten frames, which networks cannot learn from
short training clips."""


class Trust(nn.Module):
    """Estimates how much to trust the warped past picture: N×1×48×44, 0..1.

    Inputs: decoder features N×C×48×44, the difference between the warped picture and the crop, and the state's motion.
    If a part of the warped picture differs clearly more from the restoration than other parts do (a blink, a hand),
    alignment has failed. A fixed rule ignores the past there, because with learnt trust alone, eyes stayed half shut.
    """

    mean: Tensor

    def __init__(self, width: int, hidden: int = 24) -> None:
        super().__init__()
        self.here = fresh(nn.Conv2d(width, hidden, 1), 0.7)
        self.change = fresh(nn.Conv2d(48, hidden, 3, padding=1), 0.7)
        self.weigh = fresh(nn.Conv2d(hidden, 1, 3, padding=1), 0.0)
        self.sure = fresh(nn.Conv2d(MOTION_CHANNELS, hidden, 1), 0.0)
        self.spread, self.low = Spread(), LowPass(BAND, LOW_SHARE - 1)
        shares = torch.tensor([0.299, 0.587, 0.114]).repeat_interleave(16) / 16
        self.register_buffer("mean", shares.reshape(1, 48, 1, 1), persistent=False)

    def forward(self, features: Tensor, change: Tensor, residual: Tensor, motion: Tensor, has_past: Tensor) -> Tensor:
        sure = F.interpolate(self.sure(motion), scale_factor=2.0, mode="nearest")
        trust = torch.sigmoid(self.weigh(F.relu(self.here(features) + self.change(8 * change) + sure)))
        return MAX_TRUST * trust * self.agreement((change - residual).detach()) * has_past

    def agreement(self, difference: Tensor) -> Tensor:
        """Computes how well two folded pictures agree: N×1×48×44, 0..1. ``difference``: of the pictures."""
        deviation = F.conv2d(difference, self.mean).abs()
        level = (2.5 * deviation.mean((2, 3), keepdim=True)).clamp(MIN_DIFFERENCE, MAX_DIFFERENCE)
        return -F.max_pool2d(-(3 - deviation / level).clamp(0, 1), 3, 1, 1)

    def blended(self, residual: Tensor, change: Tensor, trust: Tensor) -> Tensor:
        """Mixes a folded residual N×48×48×44 with the warped picture by ``trust``. In the low band, only
        `LOW_SHARE` of ``trust`` is used."""
        difference = change - residual
        # `low` has a negative gain, because OpenVINO would fuse a subtraction into the weights and rename the node.
        return residual + (difference + self.low(difference)) * self.spread(trust)
