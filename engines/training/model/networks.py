"""The networks of ``rtface-s`` and ``rtface-m``: ``restored = crop + gate · residual``.

``rtface-s`` is a residual U-Net on a pixel-unshuffled crop (Shi et al. 2016, "Real-time single image and video
super-resolution"; Ronneberger et al. 2015, "U-Net"). It estimates a global code of the degradation, which modulates its
blocks (Perez et al. 2018, "FiLM"). ``rtface-m`` runs ``rtface-s`` at half resolution and refines the result at full
size. Both process only the region of interest of the canonical crop (``crop_space.roi``); other pixels do not change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model.layers import Block, Bounded, Enlarge, MidBand, Spread, Unpatterned, Up, Window, fold, fresh, unfold
from training.model.recurrence import MOTION_CHANNELS, Align, Carry, Past, Trust

RESIDUAL_SCALE = 0.1
"""Factor of the head's output. It is small, so that an optimiser step changes pixels only slightly."""

HEAD_LIMIT = 5.0
"""Clamp of the head. Like the clamps of the code and its scales, it only prevents overflow in pictures without a face;
faces never reach these limits."""


DAMPING = 0.4
"""`Core.damping` of exported engines. Training on stills yields a larger correction of the middle band, which carries
identity, than real faces need. On real clips (*call*), this damping reduces the identity distance by a hundredth at no
cost; on blurred clips, it reduces the distance by a twelfth and costs 0.07 dB."""


class Seen(NamedTuple):
    """Outputs of ``Core``. The ``residual`` is gated, folded (N×48×48×44), and mixed with any past.

    ``features`` are decoder features, N×48×48×44, and ``logit`` is the gate's, N×1×12×11. Only with memory, there are
    ``moved`` (the past picture warped to this frame), ``heads`` and the next ``state``. ``heads`` N×2×48×44: log scale
    of the remaining error (Laplace distribution of 0..1 values; Kendall and Gal 2017, "What uncertainties do we need in
    Bayesian deep learning for computer vision?"), and the logit of an object in front of the face.
    """

    residual: Tensor
    features: Tensor
    logit: Tensor
    moved: Tensor | None = None
    heads: Tensor | None = None
    state: Tensor | None = None


class Occlusion(nn.Module):
    """Predicts the logit of objects in front of the face, N×1×48×44.

    Inputs are encoder features of `Core` at 1/4, 1/8 and 1/16 of the crop's size. They are detached, so that training
    the detector does not change the restoration. If a core was trained without objects, only this part needs training.
    """

    def __init__(self, widths: tuple[int, int, int], wide: int = 24, thin: int = 16) -> None:
        super().__init__()
        w0, w1, w2 = widths
        self.coarse = fresh(nn.Conv2d(w2, wide, 1))
        self.middle = fresh(nn.Conv2d(w1, wide, 1))
        self.block = Block(wide, 0)
        self.up = Up(wide, thin)
        self.fine = fresh(nn.Conv2d(w0, thin, 1))
        self.head = fresh(nn.Conv2d(thin, 1, 3, padding=1), 0.1)
        nn.init.constant_(self.head.bias, -2.0)  # pyright: ignore

    def forward(self, x0: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
        y = F.interpolate(self.coarse(x2.detach()), scale_factor=2.0, mode="bilinear", align_corners=False)
        y = self.block(F.relu(y + self.middle(x1.detach())))
        return self.head(F.relu(self.up(y) + self.fine(x0.detach())))


class Core(nn.Module):
    """``rtface-s`` inside its region of interest.

    Input: N×3×192×176 float, RGB 0..1; with ``memory``, also the ``Past``. ``damping``: share (0..1) of the residual's
    middle band that is removed; 0 in training, `DAMPING` in shipped engines.
    """

    def __init__(
        self,
        widths: tuple[int, int, int] = (48, 96, 160),
        blocks: tuple[int, int, int] = (2, 2, 4),
        *,
        memory: bool = False,
    ) -> None:
        super().__init__()
        w0, w1, w2 = widths
        n0, n1, n2 = blocks
        code = 32
        self.stem = fresh(nn.Conv2d(48, w0, 3, padding=1), 2.0)
        self.enc0 = nn.ModuleList(Block(w0, 0) for _ in range(n0))
        self.down0 = fresh(nn.Conv2d(w0, w1, 2, stride=2))
        self.enc1 = nn.ModuleList(Block(w1, 0) for _ in range(n1))
        self.down1 = fresh(nn.Conv2d(w1, w2, 2, stride=2))
        self.place = nn.Parameter(torch.zeros(1, w2, 12, 11))
        self.code = nn.Sequential(nn.Linear(w2, 64), nn.ReLU(), nn.Linear(64, code))
        self.mid = nn.ModuleList(Block(w2, code) for _ in range(n2))
        self.gate = nn.Linear(w2, 1)
        self.gate_code = nn.Linear(code, 1)
        self.up1 = Up(w2, w1)
        self.dec1 = nn.ModuleList(Block(w1, code) for _ in range(n1))
        self.up0 = Up(w1, w0)
        self.dec0 = nn.ModuleList(Block(w0, code) for _ in range(n0))
        self.head = fresh(nn.Conv2d(w0, 48, 3, padding=1), 0.1)
        self.spread, self.mid_band, self.damping = Spread(), MidBand(), 0.0
        for g in (self.gate, self.gate_code):
            nn.init.zeros_(g.weight)
            nn.init.ones_(g.bias)
        self.align, self.carry = Align() if memory else None, Carry()
        self.trust = Trust(w0) if memory else None
        self.doubt = fresh(nn.Conv2d(w0, 1, 1), 0.0) if memory else None
        if self.doubt is not None:
            nn.init.constant_(self.doubt.bias, -4.0)  # pyright: ignore
        self.occlusion = Occlusion(widths) if memory else None

    def encoded(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Encodes a crop. Returns features at 1/4, 1/8 and 1/16 of the crop's size, and the degradation code."""
        x0 = self.stem(fold(2 * x - 1))
        for b in self.enc0:
            x0 = b(x0)
        x1 = self.down0(x0)
        for b in self.enc1:
            x1 = b(x1)
        x2 = self.down1(x1) + self.place
        code = self.code(x2.mean((2, 3))).clamp(-3, 3)
        for b in self.mid:
            x2 = b(x2, code)
        return x0, x1, x2, code

    def forward(self, x: Tensor, past: Past | None = None) -> Seen:
        x0, x1, x2, code = self.encoded(x)
        logit = (x2 * self.gate.weight[:, :, None, None]).sum(1, keepdim=True) + self.gate.bias
        logit = logit + self.gate_code(code)[:, :, None, None]
        y1 = self.up1(x2) + x1
        for b in self.dec1:
            y1 = b(y1, code)
        y0 = self.up0(y1) + x0
        for b in self.dec0:
            y0 = b(y0, code)
        gate = F.interpolate(torch.sigmoid(logit), scale_factor=4.0, mode="bilinear", align_corners=False)
        residual = self.head(y0).clamp(-HEAD_LIMIT, HEAD_LIMIT) * self.spread(RESIDUAL_SCALE * gate)
        if self.damping:
            residual = residual + self.mid_band(residual, -self.damping)
        if self.trust is None or self.align is None or self.doubt is None or self.occlusion is None or past is None:
            return Seen(residual, y0, logit)
        learns = any(p.requires_grad for p in self.align.parameters())
        # Otherwise, autograd would trace even a frozen alignment, because the past picture needs gradients.
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
            flow, state = self.align(x, past)
        moved = self.carry(past.picture, flow)
        change = fold(moved - x)
        trust = self.trust(y0, change, residual, state[:, -MOTION_CHANNELS:], past.known)
        heads = torch.cat([self.doubt(y0), self.occlusion(x0, x1, x2)], 1)
        return Seen(self.trust.blended(residual, change, trust), y0, logit, moved, heads, state)


class Small(nn.Module):
    """``rtface-s``: maps crops N×3×192×176 and the past to (residual, gate logits, warped past, heads, state). Without
    memory, the last three are None."""

    size = 256

    def __init__(self, *, memory: bool = False) -> None:
        super().__init__()
        self.core = Core(memory=memory)
        self.window = Window(256)

    def forward(
        self, x: Tensor, past: Past | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
        seen: Seen = self.core(x, past)
        return unfold(self.window(seen.residual)), seen.logit, seen.moved, seen.heads, seen.state


class Medium(nn.Module):
    """``rtface-m``: ``rtface-s`` at half resolution, refined on a 96×88 grid.

    ``coarse`` blocks add context on a 48×44 grid. ``vivid`` adds a branch for likely detail, scaled by 1 - fidelity.
    Maps crops N×3×384×352 and the core's past to (residual N×3×384×352, gate logits, warped past, heads, state, core's
    residual N×3×192×176, core's input). Only the core has memory; detail at full size depends on this frame alone.
    """

    size = 512

    def __init__(self, width: int = 48, wide: int = 88, coarse: int = 3, blocks: int = 2, *,
                 memory: bool = False, vivid: bool = False) -> None:  # fmt: skip
        super().__init__()
        self.core = Core(memory=memory)
        self.stem = fresh(nn.Conv2d(48, width, 3, padding=1), 2.0)
        self.down = fresh(nn.Conv2d(width, wide, 2, stride=2)) if coarse else None
        self.take = fresh(nn.Conv2d(48, wide, 1)) if coarse else None
        self.coarse = nn.ModuleList(Block(wide, 0) for _ in range(coarse))
        self.up = Up(wide if coarse else 48, width)
        self.blocks = nn.ModuleList(Block(width, 0) for _ in range(blocks))
        self.head = fresh(nn.Conv2d(width, 48, 3, padding=1), 0.0)
        self.detail = Block(width, 0) if vivid else None
        self.detail_head = fresh(nn.Conv2d(width, 48, 3, padding=1), 0.0) if vivid else None
        self.spread, self.enlarge, self.unpatterned = Spread(), Enlarge(), Unpatterned()
        self.bounded = Bounded() if vivid else None
        self.window, self.window_s = Window(512), Window(256)

    def forward(
        self, x: Tensor, past: Past | None = None, half: Tensor | None = None, fidelity: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor, Tensor]:
        half = F.avg_pool2d(x, 2) if half is None else half
        seen: Seen = self.core(half, past)
        folded = fold(2 * x - 1)
        y, z = self.stem(folded), seen.features
        if self.down is not None and self.take is not None:
            z = self.take(z) + self.down(y)
            for b in self.coarse:
                z = b(z)
        y = y + self.up(z)
        for b in self.blocks:
            y = b(y)
        gate = F.interpolate(torch.sigmoid(seen.logit), scale_factor=8.0, mode="bilinear", align_corners=False)
        fine = self.unpatterned(self.head(y).clamp(-HEAD_LIMIT, HEAD_LIMIT), shade=True)
        scale = self.spread(RESIDUAL_SCALE * gate)
        whole = self.enlarge(seen.residual)
        whole = whole + (self.bounded(fine * scale, folded, whole) if self.bounded is not None else fine * scale)
        if self.detail is not None and self.detail_head is not None and self.bounded is not None:
            detail = self.unpatterned(self.detail_head(self.detail(y)).clamp(-HEAD_LIMIT, HEAD_LIMIT)) * scale
            detail = self.bounded(detail, folded, whole)
            whole = whole + (detail if fidelity is None else detail * (1 - fidelity)[:, :, None, None])
        big = unfold(self.window(whole))
        return big, seen.logit, seen.moved, seen.heads, seen.state, unfold(self.window_s(seen.residual)), half


class Whole(nn.Module):
    """The exported network, see ``rtface.engine.recipe``.

    Maps ``crop`` N×3×h×w float32 RGB 0..1 (a crop's region of interest) to the ``residual`` that must be added to it.
    With memory, it also reads ``past``, ``known`` and ``state`` (see ``recurrence.Past``) and returns ``log_scale`` and
    ``occlusion`` (0..1), both N×1×48×44, and ``next``, the next state. ``rtface-m`` remembers its core's output, so it
    also reads ``shrunk`` (the crop at half size) and returns ``kept``, the core's residual. Vivid networks also read
    ``fidelity`` N×1.
    """

    def __init__(self, net: Small | Medium) -> None:
        super().__init__()
        self.net = net

    def forward(
        self,
        crop: Tensor,
        past: Tensor | None = None,
        known: Tensor | None = None,
        state: Tensor | None = None,
        shrunk: Tensor | None = None,
        fidelity: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        if past is None or known is None or state is None:
            return self.net(crop)[0]
        extra_inputs = () if isinstance(self.net, Small) else (shrunk, fidelity)
        residual, _, _, heads, next_state, *core_outputs = self.net(crop, Past(past, known, state), *extra_inputs)
        assert heads is not None and next_state is not None
        return (residual, heads[:, :1].clamp(-8, 0), torch.sigmoid(heads[:, 1:]), next_state, *core_outputs[:1])


def build(name: str, *, memory: bool = False, like: Mapping[str, Tensor] | None = None) -> Small | Medium:
    """Builds ``rtface-s``, ``rtface-m`` or ``rtface-m-vivid``. With ``memory``, the network reads a ``Past`` and has
    heads. ``like``: weights by name, which determine the number of blocks of ``rtface-m``."""
    if name == "rtface-s":
        return Small(memory=memory)
    blocks, coarse = (len({k.split(".")[1] for k in like or () if k.startswith(f"{part}.")})
                      for part in ("blocks", "coarse"))  # fmt: skip
    sizes = {"coarse": coarse, "blocks": blocks} if blocks else {}
    return Medium(**sizes, memory=memory, vivid=name.endswith("-vivid"))
