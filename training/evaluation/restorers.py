"""What the evaluation compares: an exported engine, a classic baseline, and the colour lock around both."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np

from rtface.correct.colour import chroma_limit, lock_colour
from rtface.engine.backends.openvino import OpenVinoPlan, supported
from rtface.engine.crop_runner import CropRunner
from rtface.engine.recipe import load_recipe
from rtface.protocols import Restored
from training.crop_space import F32, U8, oval_mask, planes


def locked(crop: F32, restored: F32) -> F32:
    """``crop + mask · shape(restored − crop)``: float32 S×S×3, 0..1."""
    c = np.ascontiguousarray(crop.transpose(2, 0, 1))
    d = lock_colour(np.ascontiguousarray(restored.transpose(2, 0, 1)) - c, chroma=chroma_limit(c))
    return np.clip(crop + d.transpose(1, 2, 0) * oval_mask(crop.shape[0])[..., None], 0, 1).astype(np.float32)


def weighted(z: F32, mask: F32) -> float:
    """Mean of an S×S×3 picture, weighted with the mask."""
    return float((z * mask[..., None]).mean() / mask.mean())


def psnr(a: F32, b: F32, mask: F32) -> float:
    """dB between two S×S×3 pictures of 0..1, weighted with the mask."""
    return float(-10 * np.log10(max(weighted((a - b) ** 2, mask), 1e-10)))


class Network:
    """An exported engine in its folder, run as the run time does, with bf16 where the CPU has it: uint8 S×S×3 RGB crop
    → float32 S×S×3, 0..1.

    ``begin`` comes before every film and still: a network with memory forgets then. ``times`` are its milliseconds.
    ``said`` is the run time's last answer.
    """

    def __init__(self, folder: Path, threads: int = 2) -> None:
        self.recipe = load_recipe(folder / "recipe.toml")
        self.side = self.recipe.input.size
        plan = OpenVinoPlan(self.recipe, "bf16" if "bf16" in supported() else "f32", threads)
        self.restorer = CropRunner(self.recipe, plan)
        self.said: Restored[F32] | None = None
        self.times: list[float] = []

    def begin(self) -> None:
        """Forgets the face."""
        self.said = None

    def __call__(self, crop: U8) -> F32:
        x = planes(crop)
        start = time.perf_counter()
        self.said = self.restorer.restore(x[None], self.said)
        restored = self.said.pixels[0]
        self.times.append((time.perf_counter() - start) * 1e3)
        return restored.transpose(1, 2, 0)


def classic(crop: U8) -> F32:
    """The baseline without learning: non-local means, then an unsharp mask."""
    calm = cv2.fastNlMeansDenoisingColored(crop, None, 4, 4, 5, 15)
    soft = cv2.GaussianBlur(calm, (0, 0), 1.5)
    return np.clip(calm.astype(np.float32) * 1.6 - soft.astype(np.float32) * 0.6, 0, 255).astype(np.float32) / 255
