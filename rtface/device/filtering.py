"""`sampling.lowpass` as launches of the kernels `area` and `blur`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from rtface.device.kernels import FILTER, FILTER_JOB, Job, Scratch
from rtface.device.sampling import smoothing
from rtface.frame import Float32


@dataclass(frozen=True, slots=True)
class Lowpass:
    """What one image (of one or more components) becomes on its way, and where in the scratch memory.

    Attributes:
        factors: whole ones, in x and y.
        kernel: weights in x and y, 5 each; None where nothing is left to blur.
        width, height, pitch: of the result; the pitch in bytes.
        word: 1 (uint8) or 4 (float32) bytes.
        means, blurs: offsets of the components' images after each step, empty where there is none.
    """

    factors: tuple[int, int]
    kernel: tuple[Float32, Float32] | None
    width: int
    height: int
    pitch: int
    word: int
    means: list[int]
    blurs: list[int]


def plan_lowpass(shrink: tuple[float, float], width: int, height: int, components: int, word: int,
                 scratch: Scratch) -> Lowpass | None:
    """None where the map does not shrink the image enough to need one."""
    (nx, ny), size, sigma = smoothing(shrink)
    if nx == ny == 1 and size == (1, 1):
        return None
    width, height = -(-width // nx), -(-height // ny)
    pitch = -(-width * word // 64) * 64
    kernel = None if size == (1, 1) else (_weights(size[0], sigma[0], word), _weights(size[1], sigma[1], word))

    def images(wanted: bool) -> list[int]:
        return [scratch.take(pitch * height) for _ in range(components if wanted else 0)]

    return Lowpass((nx, ny), kernel, width, height, pitch, word, images(nx > 1 or ny > 1), images(kernel is not None))


def _weights(size: int, sigma: float, word: int) -> Float32:
    """A Gaussian's in the middle of 5; for 8-bit images in 256ths, the error of each carried on to the next."""
    weights = cv2.getGaussianKernel(size, sigma).ravel()
    if word == 1:
        error, left = 0.0, 256
        for i in range(size // 2):
            exact = float(weights[i]) * 256.0 + error
            error = exact - round(exact)
            weights[i] = weights[size - 1 - i] = round(exact)
            left -= 2 * round(exact)
        weights[size // 2] = left
        weights = weights / 256.0
    return np.pad(weights, (5 - size) // 2).astype(np.float32)


class Filters:
    """Collects the low-passes of a job; `area` runs before `blur`, each once for all of them."""

    def __init__(self, scratch: int) -> None:
        self._scratch = scratch
        self._area: list[np.ndarray[Any, Any]] = []
        self._blur: list[np.ndarray[Any, Any]] = []

    def add(self, how: Lowpass, sources: Sequence[int], weights: Sequence[Sequence[float]] = (),
            **source: int) -> list[int]:
        """Low-passes the components of one image.

        Args:
            how: the plan.
            sources: address of each component.
            weights: three for each component where it is made of three channels, else nothing.
            source: fields of `Filter` that say how it lies there.

        Returns:
            The addresses of the results.
        """
        found = list(sources)
        for step, offsets in ((self._area, how.means), (self._blur, how.blurs)):
            for n, offset in enumerate(offsets):
                row = np.zeros(1, FILTER)
                values: dict[str, Any] = {**source, "channels": 3 if weights else 1}
                if weights:
                    values["weights"] = weights[n]
                if step is self._blur and how.means:  # what was averaged lies in the scratch memory
                    values = {"pitch": how.pitch, "step": 1, "word": how.word, "width": how.width,
                              "height": how.height, "zeros": source.get("zeros", 0), "channels": 1}
                values |= {"from": found[n], "to": self._scratch + offset, "nx": how.factors[0], "ny": how.factors[1],
                           "to_pitch": how.pitch, "to_width": how.width, "to_height": how.height}
                if how.kernel is not None:
                    values["kx"], values["ky"] = how.kernel
                for name, value in values.items():
                    row[name] = value
                step.append(row)
                found[n] = self._scratch + offset
        return found

    def launch(self, job: Job) -> None:
        """Puts them into a job."""
        for kernel, rows in (("area", self._area), ("blur", self._blur)):
            if rows:
                head, entries = np.zeros(1, FILTER_JOB), np.concatenate(rows)
                head["count"] = len(entries)
                extent = int(entries["to_width"].max()), int(entries["to_height"].max())
                job.add(kernel, extent, len(entries), head, entries)
