"""`device.cpu.crop.lowpass` on a GPU: launches of the kernels `area` and `blur`."""

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
    """How the components of an image lie in memory: fields of the struct Filter in kernels.cu."""

    pitch: int
    step: int
    word: int
    shift: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Lowpass:
    """What an image of one or more components becomes on its way, and where in the scratch memory.

    Attributes:
        factors: whole ones, in x and y.
        kernel: weights in x and y, 5 each; None where nothing is left to blur.
        result: uint8 or float32.
        means, blurs: offsets of the components' images after each step, empty where there is none.
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
    """None where the map does not shrink the image enough to need one.

    Args:
        shrink: source samples per target sample in x and y.
        width, height, components: of the image.
        word: bytes of a sample of the result, 1 or 4.
        scratch: where the results go.
        mixed: the components are to be made of three channels first (which `area` does).
    """
    (nx, ny), size, sigma = smoothing((shrink[0], shrink[1]))
    if nx == ny == 1 and size == (1, 1):
        return None
    width, height = -(-width // nx), -(-height // ny)
    pitch = -(-width * word // 64) * 64
    kernel = None if size == (1, 1) else (_gaussian(size[0], sigma[0], word), _gaussian(size[1], sigma[1], word))

    def images(wanted: bool) -> list[int]:
        return [scratch.take(pitch * height) for _ in range(components if wanted else 0)]

    return Lowpass(
        (nx, ny),
        kernel,
        Image(pitch, 1, word, 0, width, height),
        images(mixed or nx > 1 or ny > 1),
        images(kernel is not None),
    )


def _gaussian(size: int, sigma: float, word: int) -> Weights:
    """A Gaussian of 1, 3 or 5 weights in the middle of 5, as cv2.GaussianBlur has it."""
    half = size // 2
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(-half, half + 1)]
    weights = [w / sum(weights) for w in weights]
    if word == 1:  # in 256ths, the error of each carried on to the next
        error, left = 0.0, 256
        for i in range(half):
            exact = weights[i] * 256.0 + error
            whole = round(exact)
            error, left = exact - whole, left - 2 * whole
            weights[i] = weights[size - 1 - i] = whole / 256.0
        weights[half] = left / 256.0
    rim = [0.0] * (2 - half)
    return (*rim, *weights, *rim)


class Filters:
    """Collects the low-passes of a job; `area` runs before `blur`, each once for all of them."""

    def __init__(self, scratch: int) -> None:
        self._scratch = scratch
        self._area: list[tuple[Any, ...]] = []
        self._blur: list[tuple[Any, ...]] = []

    def add(
        self, how: Lowpass, sources: Sequence[int], image: Image, weights: Sequence[Weights] = (), plane: int = 0
    ) -> list[int]:
        """Low-passes the components of one image.

        Args:
            how: the plan.
            sources: address of each component.
            image: how they lie there; beyond it the edge is repeated, or zeros follow where there are weights.
            weights: three for each component where it is made of three channels, `plane` bytes apart.

        Returns:
            The addresses of the results.
        """
        found, to = list(sources), how.result
        kx, ky = how.kernel or (_NONE, _NONE)
        for rows, offsets in ((self._area, how.means), (self._blur, how.blurs)):
            for n, offset in enumerate(offsets):
                mixed = bool(weights) and rows is self._area
                rows.append(
                    (
                        found[n],
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
                        *how.factors,
                        to.pitch,
                        to.width,
                        to.height,
                        kx,
                        ky,
                        0,
                    )
                )
                found[n] = self._scratch + offset
            if offsets:
                image = to
        return found

    def launch(self, job: LaunchList) -> None:
        """Puts them into a job."""
        for kernel, rows in (("area", self._area), ("blur", self._blur)):
            if rows:
                head, entries = np.zeros(1, FILTER_JOB), np.array(rows, FILTER)
                head["count"] = len(entries)
                extent = int(entries["to_width"].max()), int(entries["to_height"].max())
                job.add(kernel, extent, len(entries), head, entries)
