"""The networks of ``rtface-s`` and ``rtface-m``: ``restored = crop + gate · residual``.

A residual U-Net on a pixel-unshuffled crop (Shi et al. 2016, "Real-time single image and video super-resolution";
Ronneberger et al. 2015, "U-Net"), modulated by a global code of the degradation that it estimates itself (Perez et
al. 2018, "FiLM"). Both look at the region of interest of the canonical crop only (``crop_space.roi``); outside it the
crop is returned untouched. ``rtface-m`` runs ``rtface-s`` at half resolution and refines at full resolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model.layers import Block, Bounded, Enlarge, MidBand, Spread, Unpatterned, Up, Window, fold, fresh, unfold
from training.model.recurrence import MOTION, Align, Carry, Past, Trust

RESIDUAL_SCALE = 0.1
"""The head's output is multiplied by this: a step of the optimiser then moves a pixel by little."""

HEAD_LIMIT = 5.0
"""The head is cut off here. Faces stay inside all three limits (this, the code's and its scales'), whose only work
is to keep pictures that are no face from blowing up."""


DAMPING = 0.4
"""`Core.damping` of exported engines. Stills teach a larger correction of the middle band than real faces need, and
that band is where identity lives: on real clips (*call*) so much damping moves faces less (the identity's distance
falls by a hundredth) at no cost; on blurred ones the distance falls by a twelfth, for 0.07 dB."""


class Seen(NamedTuple):
    """What ``Core`` makes of a crop: gated residual, folded, N×48×48×44, mixed with the past where there is one;
    decoder features N×48×48×44, gate logits N×1×12×11; of a network with memory the past carried to this frame, the
    heads and the next state.

    ``heads`` N×2×48×44: the log of the scale of the error that is left (Laplace, of 0..1 values; Kendall and Gal 2017,
    "What uncertainties do we need in Bayesian deep learning for computer vision?"), and the logit that something lies
    in front of the face.
    """

    residual: Tensor
    features: Tensor
    logit: Tensor
    moved: Tensor | None = None
    heads: Tensor | None = None
    state: Tensor | None = None


class Occlusion(nn.Module):
    """What lies in front of the face: the logit of it, N×1×48×44, from what the encoder of `Core` makes of this frame
    at 1/4, 1/8 and 1/16 of the crop's size.

    The features are taken as they are: what is learnt here does not change the restoration, and a core that learns
    from single frames without objects needs only this part to be trained again.
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

    Input N×3×192×176 float, RGB 0..1, and with ``memory`` the ``Past``. ``damping`` 0..1 takes so much of the middle
    band away from the residual: 0 in training, `DAMPING` in what ships.
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
        """Features of a crop at 1/4, 1/8 and 1/16 of its size, and the code of its degradation."""
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
        # Frozen, it would still be traced through for the sake of the past's picture.
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
            flow, state = self.align(x, past)
        moved = self.carry(past.picture, flow)
        change = fold(moved - x)
        trust = self.trust(y0, change, residual, state[:, -MOTION:], past.known)
        heads = torch.cat([self.doubt(y0), self.occlusion(x0, x1, x2)], 1)
        return Seen(self.trust.blended(residual, change, trust), y0, logit, moved, heads, state)


class Small(nn.Module):
    """``rtface-s``: N×3×192×176 and the past → (residual, gate logits, the past carried, heads, state), the last
    three None without memory."""

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
    """``rtface-m``: ``rtface-s`` at half resolution, refined on a 96×88 grid, with the context of a 48×44 one where
    there are ``coarse`` blocks. ``vivid`` adds a branch of likely detail, which 1 - fidelity scales.

    N×3×384×352 and the core's past → (residual N×3×384×352, gate logits, the past carried, heads, state, the core's
    residual N×3×192×176 and its input). Memory is the core's: what it adds at full size is this frame's own.
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
    """What is exported, see ``rtface.engine.recipe``: ``crop`` N×3×h×w float32 RGB 0..1, the region of interest of a
    crop → ``residual`` of the same shape, what is to be added to it.

    A network with memory also takes ``past``, ``known`` and ``state`` (see ``recurrence.Past``)
    → ``log_scale`` and ``occlusion`` (0..1), N×1×48×44, and ``next``, the state.
    ``rtface-m`` remembers what its core answers: it is also given ``shrunk``,
    the crop at half the size, and gives ``kept``, the residual to that. ``fidelity`` N×1, 0..1, is of a vivid one.
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
        more = () if isinstance(self.net, Small) else (shrunk, fidelity)
        residual, _, _, heads, after, *core = self.net(crop, Past(past, known, state), *more)
        assert heads is not None and after is not None
        return (residual, heads[:, :1].clamp(-8, 0), torch.sigmoid(heads[:, 1:]), after, *core[:1])


def build(name: str, *, memory: bool = False, like: Mapping[str, Tensor] | None = None) -> Small | Medium:
    """The network of an engine by its name, ``rtface-s``, ``rtface-m`` or ``rtface-m-vivid``; with ``memory`` it takes
    a ``Past`` and has heads. ``like``: weights by their names; ``rtface-m`` has as many blocks as they are of."""
    if name == "rtface-s":
        return Small(memory=memory)
    blocks, coarse = (len({k.split(".")[1] for k in like or () if k.startswith(f"{part}.")})
                      for part in ("blocks", "coarse"))  # fmt: skip
    sizes = {"coarse": coarse, "blocks": blocks} if blocks else {}
    return Medium(**sizes, memory=memory, vivid=name.endswith("-vivid"))
