"""Layers of the networks.

Pictures are processed *folded*: pixel-unshuffled by 4 (Shi et al. 2016), with 48 channels at a quarter of the size.
Fixed convolutions enlarge maps (gate, trust) to one value per pixel, also folded. The reason for folding: on a CPU, an
operation on all pixels of an unfolded picture costs as much as a convolution of the folded picture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.crop_space import roi


def fresh(conv: nn.Conv2d, gain: float = 1.0) -> nn.Conv2d:
    """Initialises a convolution so that it multiplies the variance by ``gain`` squared."""
    nn.init.normal_(conv.weight, std=gain / conv.weight[0].numel() ** 0.5)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class Block(nn.Module):
    """A residual block on N×C×H×W: two 3×3 convolutions around a ReLU. A degradation code may modulate them."""

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
    """Doubles height and width by a 1×1 convolution and pixel shuffle."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.conv = fresh(nn.Conv2d(a, 4 * b, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)


FOLD = 4
"""Pixels per place (spatial position) of a folded picture, in either direction."""


def fold(picture: Tensor) -> Tensor:
    """Folds N×3×h×w to N×48×h/4×w/4."""
    return F.pixel_unshuffle(picture, FOLD)


def unfold(folded: Tensor) -> Tensor:
    """Unfolds N×48×h×w to N×3×4h×4w."""
    return F.pixel_shuffle(folded, FOLD)


class Window(nn.Module):
    """Fades the outermost pixels of a folded region N×48×h×w to 0."""

    rows: Tensor
    columns: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        _, _, w, h = roi(size)
        rows, columns = (self.line(n, size // 64) for n in (h, w))
        # A place contains four pixels in either direction. Channels are ordered by colour, row and column.
        self.register_buffer("rows", rows.repeat_interleave(FOLD, 0).repeat(3, 1)[None, :, :, None], persistent=False)
        self.register_buffer("columns", columns.repeat(3 * FOLD, 1)[None, :, None, :], persistent=False)

    @staticmethod
    def line(n: int, edge: int) -> Tensor:
        """Returns weights of n pixels, FOLD×n/FOLD: 1 inside, falling towards 0 in the outermost ``edge`` pixels."""
        index = torch.arange(n)
        return torch.clamp((torch.minimum(index, n - 1 - index) + 0.5) / edge, max=1).reshape(-1, FOLD).T.contiguous()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.rows * self.columns


def taps(position: float) -> list[float]:
    """Returns weights that interpolate samples −1, 0 and 1 at ``position`` (−1..1)."""
    return [max(0.0, 1 - abs(position - k)) for k in (-1, 0, 1)]


def magnifier(times: int) -> Tensor:
    """Returns convolution weights, times²×3×3, that enlarge a map bilinearly by ``times``. The output is folded."""
    rows = torch.tensor([taps((i + 0.5) / times - 0.5) for i in range(times)])
    return torch.einsum("iy,jx->ijyx", rows, rows).reshape(times * times, 3, 3)


class Spread(nn.Module):
    """Enlarges a map N×1×h×w fourfold by bilinear interpolation. The output is folded, repeated per colour: N×48×h×w.

    Because of zero padding, the outermost two pixels of the output are too small.
    """

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", magnifier(FOLD).repeat(3, 1, 1)[:, None], persistent=False)

    def forward(self, one: Tensor) -> Tensor:
        return F.conv2d(one, self.weight, padding=1)


class LowPass(nn.Module):
    """Blurs a folded image N×48×h×w by a Gaussian, times ``gain``.

    The blur is one fixed grouped 3×3 convolution with zero padding. ``sigma`` is in pixels. The Gaussian is truncated
    at four pixels; if ``sigma`` is 1.5, 99 % of it lies within them.
    """

    weight: Tensor

    def __init__(self, sigma: float, gain: float = 1.0) -> None:
        super().__init__()
        index = torch.arange(FOLD)
        # Distance from pixel b of a neighbouring place (-1, 0 or 1) to pixel a of the current place.
        distance = index[:, None, None] - index[None, :, None] - FOLD * torch.arange(-1, 2)
        line = torch.exp(-0.5 * (distance / sigma) ** 2) * (distance.abs() <= FOLD)
        line = line / line.sum((1, 2), keepdim=True)
        kernel = torch.einsum("aiy,bjx->abijyx", line, line).reshape(16, 16, 3, 3)
        self.register_buffer("weight", gain * kernel.repeat(3, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, padding=1, groups=3)


class MidBand(nn.Module):
    """Extracts the middle band of a folded image N×48×h×w, times ``gain``.

    The band lies between about 2 and 6 pixels (σ of Gaussians). Three small fixed convolutions compute it: means of 4×4
    pixels, minus their Gaussian blur, enlarged bilinearly.
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
    """Removes regular dots from a folded image N×48×h×w.

    Networks on folded images tend to draw dots that repeat every one or two places (cf. Odena et al. 2016,
    "Deconvolution and checkerboard artifacts"). Fixed depthwise convolutions subtract from each value the mean of 5×5
    values of the channel, two places apart. ``shade`` preserves the low frequencies of light and colour.
    """

    weight: Tensor
    around: Tensor
    shared: Tensor

    def __init__(self) -> None:
        super().__init__()
        around = torch.full((3, 1, 5, 5), 1 / 25)
        kernel = -around[0, 0]
        kernel[2, 2] += 1
        shared = torch.eye(3).repeat_interleave(FOLD**2, 1) / FOLD**2
        self.register_buffer("weight", kernel.repeat(48, 1, 1, 1), persistent=False)
        self.register_buffer("around", around, persistent=False)
        self.register_buffer("shared", shared[:, :, None, None].clone(), persistent=False)

    def forward(self, x: Tensor, *, shade: bool = False) -> Tensor:
        even = F.conv2d(x, self.weight, padding=4, dilation=2, groups=48)
        if not shade:
            return even
        mean = F.conv2d(F.conv2d(x, self.shared), self.around, padding=4, dilation=2, groups=3)
        return even + F.conv2d(mean, FOLD**2 * self.shared.transpose(0, 1))


class Bounded(nn.Module):
    """Limits detail N×48×h×w to ``most`` times an image's fine structure.

    Fine structure is the standard deviation of green from a plane fitted to 4×4 pixels, averaged over 3×3 places. Eyes,
    teeth and hair keep their detail. Smooth skin and soft edges get no detail: the image does not show where pores are,
    so networks would draw dots. Convolutions do not read the limited values, because int8 would quantise smooth skin.
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
        """Returns the variance N×1×h×w of pixels N×16×h×w about their planes. The minimum is large enough for fp16."""
        deviation = green - green.mean(1, keepdim=True)
        for ramp in (self.across, self.down):
            deviation = deviation - ramp * (deviation * ramp).mean(1, keepdim=True)
        return around((deviation**2).mean(1, keepdim=True)).clamp_min(1e-7)

    def forward(self, detail: Tensor, seen: Tensor, added: Tensor) -> Tensor:
        """Limits ``detail`` by the structure of ``seen`` (folded, -1..1) plus ``added``."""
        green = slice(FOLD**2, 2 * FOLD**2)
        limit, actual = (self.structure(x) for x in (0.5 * seen[:, green] + added[:, green], detail[:, green]))
        return detail * self.spread(around((self.most**2 * limit / actual).clamp(max=1).sqrt()))


def around(x: Tensor) -> Tensor:
    """Averages each value with its neighbours, over 3×3 places."""
    return F.avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False)


class Enlarge(nn.Module):
    """Doubles the size of a folded picture N×48×h×w by bilinear interpolation: N×48×2h×2w."""

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        # A place of the larger picture contains four pixels in a row, which cover two pixels of the smaller picture.
        # The n-th of the four lies between these two pixels, or between one of the two and its outer neighbour.
        line = torch.zeros(FOLD, 2, 3)
        for n in range(FOLD):
            position = (n + 0.5) / 2 - 0.5
            for pixel in (-1, 0, 1, 2):
                line[n, pixel % 2, 1 + pixel // 2] = max(0.0, 1 - abs(position - pixel))
        kernel = torch.einsum("aiy,bjx->abijyx", line, line).reshape(16, 4, 3, 3)
        weight = torch.zeros(3, 16, 3, 4, 3, 3)
        for colour in range(3):
            weight[colour, :, colour] = kernel
        self.register_buffer("weight", weight.reshape(48, 12, 3, 3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        # Channels are ordered by colour, row and column. The high bits of row and column become part of the place.
        x = x.reshape(n, 3, 2, 2, 2, 2, h, w).permute(0, 1, 3, 5, 6, 2, 7, 4).reshape(n, 12, 2 * h, 2 * w)
        return F.conv2d(x, self.weight, padding=1)
