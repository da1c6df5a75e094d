"""The layers of the networks.

Pictures are worked on *folded*: pixel-unshuffled by 4 (Shi et al. 2016), 48 channels at a quarter of the size. Maps
that belong to pixels (gate, trust) are folded too, by fixed convolutions that interpolate: on a CPU a look at every
pixel of the whole picture costs as much as a convolution of the folded one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.crop_space import roi


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


FOLD = 4
"""Pixels of either direction that lie in one place of a folded picture."""


def fold(picture: Tensor) -> Tensor:
    """N×3×h×w → N×48×h/4×w/4."""
    return F.pixel_unshuffle(picture, FOLD)


def unfold(folded: Tensor) -> Tensor:
    """N×48×h×w → N×3×4h×4w."""
    return F.pixel_shuffle(folded, FOLD)


class Window(nn.Module):
    """Lets a folded picture of a crop's region N×48×h×w fall to 0 over its outermost pixels, so that no edge shows."""

    rows: Tensor
    columns: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        _, _, w, h = roi(size)
        rows, columns = (self.line(n, size // 64) for n in (h, w))
        # Along either direction a place holds four pixels; the channels are colour, row, column.
        self.register_buffer("rows", rows.repeat_interleave(FOLD, 0).repeat(3, 1)[None, :, :, None], persistent=False)
        self.register_buffer("columns", columns.repeat(3 * FOLD, 1)[None, :, None, :], persistent=False)

    @staticmethod
    def line(n: int, edge: int) -> Tensor:
        """FOLD×n/FOLD: 1, and less in the outermost ``edge`` of n pixels."""
        at = torch.arange(n)
        return torch.clamp((torch.minimum(at, n - 1 - at) + 0.5) / edge, max=1).reshape(-1, FOLD).T.contiguous()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.rows * self.columns


def taps(position: float) -> list[float]:
    """Weights of the samples −1, 0 and 1 for a place −1..1 between them, interpolated linearly."""
    return [max(0.0, 1 - abs(position - k)) for k in (-1, 0, 1)]


def magnifier(times: int) -> Tensor:
    """Weights times²×3×3 that make a map ``times`` as large by bilinear interpolation, folded by as much."""
    rows = torch.tensor([taps((i + 0.5) / times - 0.5) for i in range(times)])
    return torch.einsum("iy,jx->ijyx", rows, rows).reshape(times * times, 3, 3)


class Spread(nn.Module):
    """A map N×1×h×w, four times as large by bilinear interpolation, folded, once for every colour: N×48×h×w.

    Beyond the edge the map counts as 0, which darkens its outermost two pixels.
    """

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", magnifier(FOLD).repeat(3, 1, 1)[:, None], persistent=False)

    def forward(self, one: Tensor) -> Tensor:
        return F.conv2d(one, self.weight, padding=1)


class LowPass(nn.Module):
    """A folded image N×48×h×w, blurred by a Gaussian of ``sigma`` pixels and times ``gain``, still folded.

    One fixed grouped 3×3 convolution; the Gaussian is cut off at four pixels, which holds 99 % of one of 1.5. Beyond
    the edge the image counts as 0.
    """

    weight: Tensor

    def __init__(self, sigma: float, gain: float = 1.0) -> None:
        super().__init__()
        at = torch.arange(FOLD)
        # From pixel b of a neighbouring place (-1, 0 or 1) to pixel a of this one.
        far = at[:, None, None] - at[None, :, None] - FOLD * torch.arange(-1, 2)
        line = torch.exp(-0.5 * (far / sigma) ** 2) * (far.abs() <= FOLD)
        line = line / line.sum((1, 2), keepdim=True)
        kernel = torch.einsum("aiy,bjx->abijyx", line, line).reshape(16, 16, 3, 3)
        self.register_buffer("weight", gain * kernel.repeat(3, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, padding=1, groups=3)


class MidBand(nn.Module):
    """The band of a folded image N×48×h×w between about 2 and 6 pixels (σ of Gaussians), times ``gain``, still folded.

    The means of places of 4×4 pixels less their Gaussian blur, brought back by bilinear interpolation: three small
    fixed convolutions.
    """

    mean: Tensor
    band: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        line = torch.exp(-0.5 * (torch.arange(-3, 4) / 1.5) ** 2)
        line = line / line.sum()
        band = -line[:, None] * line
        band[3, 3] += 1
        mean = torch.eye(3).repeat_interleave(FOLD**2, 1) / FOLD**2
        self.register_buffer("mean", mean[:, :, None, None].clone(), persistent=False)
        self.register_buffer("band", band.expand(3, 1, 7, 7).clone(), persistent=False)
        self.register_buffer("weight", magnifier(FOLD).repeat(3, 1, 1)[:, None], persistent=False)

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        band = F.conv2d(F.conv2d(x, self.mean), self.band, padding=3, groups=3)
        return F.conv2d(band, gain * self.weight, padding=1, groups=3)


class Unpatterned(nn.Module):
    """A folded image N×48×h×w without what repeats from place to place, or at every second place: regular dots, which
    networks that draw in folded images tend to (cf. Odena et al. 2016, "Deconvolution and checkerboard artifacts").

    Each value less the mean of 5×5 values of its channel, two places apart: fixed depthwise convolutions. With
    ``shade`` what the 16 pixels of a place share of that mean stays, so that light and colour do not change.
    """

    weight: Tensor
    around: Tensor
    shared: Tensor

    def __init__(self) -> None:
        super().__init__()
        around = torch.full((3, 1, 5, 5), 1 / 25)
        one = -around[0, 0]
        one[2, 2] += 1
        shared = torch.eye(3).repeat_interleave(FOLD**2, 1) / FOLD**2
        self.register_buffer("weight", one.repeat(48, 1, 1, 1), persistent=False)
        self.register_buffer("around", around, persistent=False)
        self.register_buffer("shared", shared[:, :, None, None].clone(), persistent=False)

    def forward(self, x: Tensor, *, shade: bool = False) -> Tensor:
        even = F.conv2d(x, self.weight, padding=4, dilation=2, groups=48)
        if not shade:
            return even
        mean = F.conv2d(F.conv2d(x, self.shared), self.around, padding=4, dilation=2, groups=3)
        return even + F.conv2d(mean, FOLD**2 * self.shared.transpose(0, 1))


class Bounded(nn.Module):
    """Detail N×48×h×w that is added to a folded image, at most ``most`` times as strong as the image's fine structure.

    Strength is the standard deviation of green from its plane in 4×4 pixels, over 3×3 such places. So eyes, teeth and
    hair keep their detail, and smooth skin and soft edges get none: what a network draws there is dots, as nothing
    shows where pores would be. No convolution looks at the values, because in int8 it would see steps instead of
    smooth skin.
    """

    across: Tensor
    down: Tensor

    def __init__(self, most: float = 0.6) -> None:
        super().__init__()
        self.most = most
        ramp = torch.linspace(-3, 3, FOLD) / 5**0.5
        self.register_buffer("across", ramp.repeat(FOLD)[None, :, None, None], persistent=False)
        self.register_buffer("down", ramp.repeat_interleave(FOLD)[None, :, None, None], persistent=False)
        self.spread = Spread()

    def structure(self, green: Tensor) -> Tensor:
        """The variance N×1×h×w of N×16×h×w values about the plane of their place; fp16 still holds the least."""
        rest = green - green.mean(1, keepdim=True)
        for ramp in (self.across, self.down):
            rest = rest - ramp * (rest * ramp).mean(1, keepdim=True)
        return around((rest**2).mean(1, keepdim=True)).clamp_min(1e-7)

    def forward(self, detail: Tensor, seen: Tensor, added: Tensor) -> Tensor:
        """What is left of ``detail`` where the image is ``seen``, folded, of -1..1, and what is ``added`` to it."""
        green = slice(FOLD**2, 2 * FOLD**2)
        image_is, detail_is = (self.structure(x) for x in (0.5 * seen[:, green] + added[:, green], detail[:, green]))
        return detail * self.spread(around((self.most**2 * image_is / detail_is).clamp(max=1).sqrt()))


def around(x: Tensor) -> Tensor:
    """Means of 3×3 places."""
    return F.avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False)


class Enlarge(nn.Module):
    """A folded picture N×48×h×w, twice as large by bilinear interpolation, still folded: N×48×2h×2w."""

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Of the four pixels in one direction of a place of the larger picture, the n-th lies here between the two of
        # the smaller one that the place holds (of its neighbours, the nearer one).
        line = torch.zeros(FOLD, 2, 3)
        for n in range(FOLD):
            low = (n + 0.5) / 2 - 0.5
            for pixel in (-1, 0, 1, 2):
                line[n, pixel % 2, 1 + pixel // 2] = max(0.0, 1 - abs(low - pixel))
        one = torch.einsum("aiy,bjx->abijyx", line, line).reshape(16, 4, 3, 3)
        weight = torch.zeros(3, 16, 3, 4, 3, 3)
        for colour in range(3):
            weight[colour, :, colour] = one
        self.register_buffer("weight", weight.reshape(48, 12, 3, 3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        # Channels are colour, row and column; of rows and columns the upper halves become places.
        x = x.reshape(n, 3, 2, 2, 2, 2, h, w).permute(0, 1, 3, 5, 6, 2, 7, 4).reshape(n, 12, 2 * h, 2 * w)
        return F.conv2d(x, self.weight, padding=1)
