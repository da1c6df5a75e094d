"""The networks of ``rtface-s`` and ``rtface-m``: ``restored = crop + gate · residual``.

A residual U-Net on a pixel-unshuffled crop (Shi et al. 2016, "Real-time single image and video super-resolution";
Ronneberger et al. 2015, "U-Net"), modulated by a global code of the degradation that it estimates itself (Perez et
al. 2018, "FiLM"). Both look at the region of interest of the canonical crop only (``space.roi``); outside it the
crop is returned untouched. ``rtface-m`` runs ``rtface-s`` at half resolution and refines at full resolution.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .space import roi

RESIDUAL_SCALE = 0.1
"""The head's output is multiplied by this: a step of the optimiser then moves a pixel by little."""

STATE = 64
"""Channels of what is remembered at 1/16 resolution."""

HEAD_LIMIT = 5.0
"""The head is cut off here. Faces stay inside all three limits (this, the code's and its scales'), whose only work
is to keep pictures that are no face from blowing up."""


def fresh(conv: nn.Conv2d, gain: float = 1.0) -> nn.Conv2d:
    """Initialise a convolution so that it keeps the variance of its input times ``gain`` squared."""
    nn.init.normal_(conv.weight, std=gain / conv.weight[0].numel() ** 0.5)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class Block(nn.Module):
    """Two 3×3 convolutions around a ReLU, modulated by the code, added to the input. N×C×H×W in and out."""

    def __init__(self, width: int, code: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(width, width, 3, padding=1)
        self.b = nn.Conv2d(width, width, 3, padding=1)
        self.film = nn.Linear(code, width) if code else None
        fresh(self.a, 2**0.5)
        fresh(self.b, 0.4)
        if self.film is not None:
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        y = F.relu(self.a(x))
        if self.film is not None and code is not None:
            y = y * (1 + self.film(code)).clamp(-0.6, 1.5)[:, :, None, None]
        return x + self.b(y)


class Up(nn.Module):
    """Doubles height and width: 1×1 convolution and pixel shuffle."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.conv = fresh(nn.Conv2d(a, 4 * b, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)


def window(size: int) -> Tensor:
    """1×1×h×w: 1 inside the region of interest, falling to 0 over its outermost pixels, so that no edge shows."""
    _, _, w, h = roi(size)
    edge = size // 64
    rows, cols = (
        torch.clamp((torch.minimum(torch.arange(n), n - 1 - torch.arange(n)) + 0.5) / edge, max=1) for n in (h, w)
    )
    return (rows[:, None] * cols[None, :])[None, None]


class Memory(nn.Module):
    """What a network keeps of a face: a convolutional GRU (Cho et al. 2014; Ballas et al. 2016) at 1/16 resolution.

    Features N×C×12×11 and state N×64×12×11 → features of the same shape, with what the state adds, and the new state.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.look = fresh(nn.Conv2d(width, STATE, 1))
        self.gates = fresh(nn.Conv2d(2 * STATE, 2 * STATE, 3, padding=1))
        self.new = fresh(nn.Conv2d(2 * STATE, STATE, 3, padding=1))
        self.tell = fresh(nn.Conv2d(STATE, width, 1), 0.0)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.look(x)
        update, reset = torch.sigmoid(self.gates(torch.cat([seen, state], 1))).chunk(2, 1)
        state = state + update * (torch.tanh(self.new(torch.cat([seen, reset * state], 1))) - state)
        return x + self.tell(state), state


class Past(NamedTuple):
    """What a remembering network is told of the frame before, in this frame's canonical space.

    ``still`` N×3×h×w: the restored crop as it was; ``moved``: the same, carried to where optical flow says it is now;
    ``known`` N×2×h/4×w/4 (or N×1×1×1): how far ``still`` and ``moved`` may be trusted at all, 0..1; 0 everywhere on a
    face's first frame, then the others may be anything; ``state``: of ``Memory``, None for a network without one.
    """

    still: Tensor
    moved: Tensor
    known: Tensor
    state: Tensor | None = None


class Trust(nn.Module):
    """How far the frame before is to be trusted: N×2×h/4×w/4, of ``still`` and ``moved``; with what this frame's own
    restoration counts for, the two sum to 1.

    Sees the decoder's features N×C×h/4×w/4 and by how much the past differs from the crop.
    """

    def __init__(self, width: int, hidden: int = 24) -> None:
        super().__init__()
        self.here = fresh(nn.Conv2d(width, hidden, 1), 0.7)
        self.change = fresh(nn.Conv2d(96, hidden, 3, padding=1), 0.7)
        self.weigh = fresh(nn.Conv2d(hidden, 2, 3, padding=1), 0.0)
        nn.init.constant_(self.weigh.bias, -1.0)  # pyright: ignore[reportArgumentType]

    def forward(self, features: Tensor, crop: Tensor, past: Past) -> Tensor:
        changes = F.pixel_unshuffle(8 * torch.cat([past.still - crop, past.moved - crop], 1), 4)
        logits = self.weigh(F.relu(self.here(features) + self.change(changes)))
        own = torch.zeros_like(logits[:, :1])
        return torch.softmax(torch.cat([own, logits], 1), 1)[:, 1:] * past.known


class Seen(NamedTuple):
    """What ``Core`` makes of a crop: gated residual N×3×192×176, decoder features N×48×48×44, gate logits N×1×12×11,
    gate N×1×192×176, and of a network with memory the new state (or None), the trust in the past N×2×48×44, and the
    heads.

    ``heads`` N×2×48×44: the log of the scale of the error that is left (Laplace, of 0..1 values; Kendall and Gal 2017,
    "What uncertainties do we need in Bayesian deep learning for computer vision?"), and the logit that something lies
    in front of the face.
    """

    residual: Tensor
    features: Tensor
    logit: Tensor
    gate: Tensor
    state: Tensor | None
    trust: Tensor | None
    heads: Tensor | None


def blended(crop: Tensor, residual: Tensor, past: Past, trust: Tensor) -> Tensor:
    """The residual, mixed with the way to the frame before by ``trust`` (N×2×h'×w', of ``still`` and ``moved``)."""
    trust = F.interpolate(trust, size=crop.shape[2:], mode="bilinear", align_corners=False)
    here = crop + residual
    return residual + (past.still - here) * trust[:, :1] + (past.moved - here) * trust[:, 1:]


class Core(nn.Module):
    """``rtface-s`` inside its region of interest.

    Input N×3×192×176 float, RGB 0..1, and with ``memory`` the ``Past``. The residual is this frame's alone: how far the
    past is to be trusted is another answer, for ``blended``.
    """

    def __init__(self, widths: tuple[int, int, int] = (48, 96, 160), blocks: tuple[int, int, int] = (2, 2, 4), *,
                 memory: bool = False, state: bool = False) -> None:
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
        for g in (self.gate, self.gate_code):
            nn.init.zeros_(g.weight)
            nn.init.ones_(g.bias)
        self.trust = Trust(w0) if memory else None
        self.heads = fresh(nn.Conv2d(w0, 2, 1), 0.0) if memory else None
        if self.heads is not None:
            self.heads.bias.data = torch.tensor([-4.0, -3.0])
        # Zero at first, so that a network without a state can be taught to use one from where it is.
        self.memory = Memory(w2) if state else None
        self.stem_past = fresh(nn.Conv2d(96, w0, 3, padding=1), 0.0) if state else None

    def forward(self, x: Tensor, past: Past | None = None) -> Seen:
        x0 = self.stem(F.pixel_unshuffle(2 * x - 1, 4))
        if self.stem_past is not None and past is not None:
            changes = torch.cat([past.still - x, past.moved - x], 1) * past.known.amax((1, 2, 3), keepdim=True)
            x0 = x0 + self.stem_past(F.pixel_unshuffle(4 * changes, 4))
        for b in self.enc0:
            x0 = b(x0)
        x1 = self.down0(x0)
        for b in self.enc1:
            x1 = b(x1)
        x2 = self.down1(x1) + self.place
        state = None
        if self.memory is not None and past is not None and past.state is not None:
            x2, state = self.memory(x2, past.state * past.known.amax((1, 2, 3), keepdim=True))
        code = self.code(x2.mean((2, 3))).clamp(-3, 3)
        for b in self.mid:
            x2 = b(x2, code)
        logit = (x2 * self.gate.weight[:, :, None, None]).sum(1, keepdim=True) + self.gate.bias
        logit = logit + self.gate_code(code)[:, :, None, None]
        y1 = self.up1(x2) + x1
        for b in self.dec1:
            y1 = b(y1, code)
        y0 = self.up0(y1) + x0
        for b in self.dec0:
            y0 = b(y0, code)
        gate = F.interpolate(torch.sigmoid(logit), scale_factor=16.0, mode="bilinear", align_corners=False)
        residual = F.pixel_shuffle(self.head(y0).clamp(-HEAD_LIMIT, HEAD_LIMIT), 4) * (RESIDUAL_SCALE * gate)
        trust = heads = None
        if self.trust is not None and self.heads is not None and past is not None:
            trust, heads = self.trust(y0, x, past), self.heads(y0)
        return Seen(residual, y0, logit, gate, state, trust, heads)


class Small(nn.Module):
    """``rtface-s``: N×3×192×176 and the past → (residual, gate logits, new state or None, heads or None)."""

    size = 256

    def __init__(self, *, memory: bool = False, state: bool = False) -> None:
        super().__init__()
        self.core = Core(memory=memory, state=state)
        self.register_buffer("window", window(256), persistent=False)

    def forward(
        self, x: Tensor, past: Past | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        seen: Seen = self.core(x, past)
        residual = seen.residual
        if past is not None and seen.trust is not None:
            residual = blended(x, residual, past, seen.trust)
        return residual * self.window, seen.logit, seen.state, seen.heads


class Medium(nn.Module):
    """``rtface-m``: ``rtface-s`` at half resolution, refined on a 96×88 grid.

    N×3×384×352 and the past → (residual N×3×384×352, gate logits, new state or None, heads or None, the core's residual
    N×3×192×176 and its input).
    """

    size = 512

    def __init__(self, width: int = 48, blocks: int = 4, *, memory: bool = False, state: bool = False) -> None:
        super().__init__()
        self.core = Core(memory=memory, state=state)
        self.stem = fresh(nn.Conv2d(48, width, 3, padding=1), 2.0)
        self.up = Up(48, width)
        self.blocks = nn.ModuleList(Block(width, 0) for _ in range(blocks))
        self.head = fresh(nn.Conv2d(width, 48, 3, padding=1), 0.0)
        self.register_buffer("window", window(512), persistent=False)
        self.register_buffer("window_s", window(256), persistent=False)

    def forward(
        self, x: Tensor, past: Past | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor, Tensor]:
        half = F.avg_pool2d(x, 2)
        small = past and Past(F.avg_pool2d(past.still, 2), F.avg_pool2d(past.moved, 2), past.known, past.state)
        seen: Seen = self.core(half, small)
        y = self.stem(F.pixel_unshuffle(2 * x - 1, 4)) + self.up(seen.features)
        for b in self.blocks:
            y = b(y)
        fine = F.pixel_shuffle(self.head(y).clamp(-HEAD_LIMIT, HEAD_LIMIT), 4) * F.interpolate(
            RESIDUAL_SCALE * seen.gate, scale_factor=2.0, mode="nearest"
        )
        big = F.interpolate(seen.residual, scale_factor=2.0, mode="bilinear", align_corners=False) + fine
        if past is not None and seen.trust is not None:
            big = blended(x, big, past, seen.trust)
        return big * self.window, seen.logit, seen.state, seen.heads, seen.residual * self.window_s, half


class Whole(nn.Module):
    """What is exported: ``crop`` N×3×S×S float32 RGB 0..1 → ``restored`` of the same shape and range; of a network
    with memory also ``still``, ``moved``, ``known`` and, where it has one, ``state`` (see ``Past``, of whole crops) →
    ``log_scale`` and ``occlusion`` (0..1), N×1×48×44, of the region of interest, and ``next``, the new state."""

    def __init__(self, net: Small | Medium) -> None:
        super().__init__()
        self.net = net

    def forward(
        self, crop: Tensor, still: Tensor | None = None, moved: Tensor | None = None, known: Tensor | None = None,
        state: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        size = self.net.size
        x, y, w, h = roi(size)
        past = None
        if still is not None and moved is not None and known is not None:
            past = Past(still[:, :, y : y + h, x : x + w], moved[:, :, y : y + h, x : x + w], known, state)
        residual, _, following, heads, *_ = self.net(crop[:, :, y : y + h, x : x + w], past)
        restored = (crop + F.pad(residual, (x, size - x - w, y, size - y - h))).clamp(0, 1)
        if heads is None:
            return restored
        more = (heads[:, :1].clamp(-8, 0), torch.sigmoid(heads[:, 1:]))
        return (restored, *more) if following is None else (restored, *more, following)


def build(name: str, *, memory: bool = False, state: bool = False) -> Small | Medium:
    """The network of an engine by its name, ``rtface-s`` or ``rtface-m``.

    With ``memory`` it takes a ``Past`` and has heads; with ``state`` as well it keeps one at 1/16 resolution.
    """
    return {"rtface-s": Small, "rtface-m": Medium}[name](memory=memory, state=state)
