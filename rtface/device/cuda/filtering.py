"""Performs `device.cpu.crop.lowpass` on a GPU, with kernels `area` and `blur`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtface.device.cpu.crop import smoothing
from rtface.device.cuda.kernels import LaunchList, Scratch
from rtface.device.cuda.structs import FILTER, FILTER_JOB

_NONE = (0.0,) * 5
Weights = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """The memory layout of an image's components: fields of the struct Filter in kernels.cu."""

    pitch: int
    step: int
    word: int
    shift: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Lowpass:
    """A plan to low-pass filter the components of an image.

    Attributes:
        factors: integer shrink factors in x and y.
        kernel: 5 weights each in x and y; None if there is no blur.
        result: memory layout of the result, uint8 or float32.
        means: scratch offsets of the averaged components; empty if nothing is averaged.
        blurs: scratch offsets of the blurred components; empty if there is no blur.
    """

    factors: tuple[int, int]
    kernel: tuple[Weights, Weights] | None
    result: Image
    means: list[int]
    blurs: list[int]


def plan_lowpass(
    shrink: Sequence[float],
    width: int,
    height: int,
    components: int,
    word: int,
    scratch: Scratch,
    *,
    mixed: bool = False,
) -> Lowpass | None:
    """Plans a low-pass. Returns None if the shrink is too small to need one.

    Args:
        shrink: source samples per target sample in x and y.
        width, height, components: size and number of components of the image.
        word: bytes of a sample of the result, 1 or 4.
        scratch: allocator of memory for the results.
        mixed: whether `area` first computes the components from three channels.
    """
    (nx, ny), size, sigma = smoothing((shrink[0], shrink[1]))
    if nx == ny == 1 and size == (1, 1):
        return None
    width, height = -(-width // nx), -(-height // ny)
    pitch = -(-width * word // 64) * 64
    kernel = None if size == (1, 1) else (_gaussian(size[0], sigma[0], word), _gaussian(size[1], sigma[1], word))

    def images(needed: bool) -> list[int]:
        return [scratch.take(pitch * height) for _ in range(components if needed else 0)]

    return Lowpass(
        (nx, ny),
        kernel,
        Image(pitch, 1, word, 0, width, height),
        images(mixed or nx > 1 or ny > 1),
        images(kernel is not None),
    )


def _gaussian(size: int, sigma: float, word: int) -> Weights:
    """Returns a Gaussian of `size` weights like cv2.GaussianBlur's. Pads it with zeros to 5."""
    half = size // 2
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(-half, half + 1)]
    weights = [w / sum(weights) for w in weights]
    if word == 1:  # multiples of 1/256, with error diffusion
        error, remaining = 0.0, 256
        for i in range(half):
            exact = weights[i] * 256.0 + error
            rounded = round(exact)
            error, remaining = exact - rounded, remaining - 2 * rounded
            weights[i] = weights[size - 1 - i] = rounded / 256.0
        weights[half] = remaining / 256.0
    padding = [0.0] * (2 - half)
    return (*padding, *weights, *padding)


class Filters:
    """Collects the low-passes of a job. The job launches `area` once, then `blur` once."""

    def __init__(self, scratch: int) -> None:
        self._scratch = scratch
        self._area: list[tuple[Any, ...]] = []
        self._blur: list[tuple[Any, ...]] = []

    def add(
        self, lowpass: Lowpass, sources: Sequence[int], image: Image, weights: Sequence[Weights] = (), plane: int = 0
    ) -> list[int]:
        """Filters the components of one image.

        Args:
            lowpass: the plan.
            sources: address of each component.
            image: layout of the components. Outside the image, the edge repeats; with `weights`, samples are 0 there.
            weights: three weights per component, to compute it from three channels that are `plane` bytes apart.

        Returns:
            The addresses of the results.
        """
        addresses, to = list(sources), lowpass.result
        kx, ky = lowpass.kernel or (_NONE, _NONE)
        for rows, offsets in ((self._area, lowpass.means), (self._blur, lowpass.blurs)):
            for n, offset in enumerate(offsets):
                mixed = bool(weights) and rows is self._area
                rows.append(
                    (
                        addresses[n],
                        self._scratch + offset,
                        plane,
                        image.pitch,
                        image.step,
                        image.word,
                        image.shift,
                        image.width,
                        image.height,
                        bool(weights),
                        3 if mixed else 1,
                        weights[n] if mixed else (0.0, 0.0, 0.0),
                        *lowpass.factors,
                        to.pitch,
                        to.width,
                        to.height,
                        kx,
                        ky,
                        0,
                    )
                )
                addresses[n] = self._scratch + offset
            if offsets:
                image = to
        return addresses

    def launch(self, job: LaunchList) -> None:
        """Adds the collected low-passes to a job."""
        for kernel, rows in (("area", self._area), ("blur", self._blur)):
            if rows:
                head, entries = np.zeros(1, FILTER_JOB), np.array(rows, FILTER)
                head["count"] = len(entries)
                extent = int(entries["to_width"].max()), int(entries["to_height"].max())
                job.add(kernel, extent, len(entries), head, entries)
