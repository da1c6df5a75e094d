"""What a recurrent engine remembers of a face, and how that is brought to the next frame.

Crops of one face are aligned to each other by its track. What still moves within the face (the head turning, the jaw)
is followed by dense inverse search flow (Kroeger et al. 2016) between small versions of the inputs; the network is
shown its answer for the frame before both as it was and carried along, and learnt which to trust where.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from rtface.engine.recipe import Region
from rtface.frame import Bytes, Float32

SHRINK = 4
"""The flow is searched on pictures this much smaller than what is remembered."""


@dataclass(frozen=True, slots=True)
class FaceMemory:
    """What was known after a frame.

    Attributes:
        kept: float32 3×h×w, 0…1, the engine's answer over the region that it looks at.
        small: uint8 h/4×w/4, green of what it was the answer to.
        state: float32 C×h'×w', the network's own; None where it has none.
    """

    kept: Float32
    small: Bytes
    state: Float32 | None = None


@dataclass(frozen=True, slots=True)
class Carried:
    """A memory on the next frame.

    Attributes:
        moved: float32 3×h×w, what was kept, carried along.
        known: float32 2×rows×columns, 0…1: where the input agrees with the one before, as it was and carried along.
            Elsewhere something has moved that the flow did not follow, and a memory would be a ghost.
    """

    moved: Float32
    known: Float32


class Carrier:
    """Brings memories to the next frame. Not for use from several threads."""

    def __init__(self) -> None:
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)

    def flow(self, small: Bytes, before: Bytes) -> Float32:
        """Where each sample of a small picture was on the one before: float32 h×w×2, in its samples."""
        found: Any = self._search.calc(small, before, np.zeros((*small.shape, 2), np.float32))
        return found

    def carry(self, memory: FaceMemory, small: Bytes, maps: tuple[int, int]) -> Carried:
        """What is remembered, as it lies on a crop whose small version is `small`.

        Args:
            memory: of the frame before.
            small: `small_of` this crop.
            maps: rows and columns of `Carried.known`.
        """
        flow = self.flow(small, memory.small)
        before: Any = memory.small
        places: Any = cv2.add(flow, _grid(*small.shape))
        brought: Any = cv2.remap(before, places, None, cv2.INTER_LINEAR,  # pyright: ignore[reportCallIssue, reportArgumentType]
                                 borderMode=cv2.BORDER_REPLICATE)
        known: list[Any] = [agreement(small, past) for past in (before, brought)]
        if maps != small.shape:
            known = [cv2.resize(a, maps[::-1], interpolation=cv2.INTER_AREA) for a in known]
        return Carried(fetch(memory.kept, flow), np.stack(known))


# By how much (code values of 8 bits) noise makes small inputs differ, at least and at most.
_CALM, _NOISY = 3.0, 10.0


def agreement(small: Bytes, before: Bytes) -> Float32:
    """Where two small pictures show the same, give or take their noise: float32 h×w, 0…1.

    The noise is what four fifths of the picture differ by at most, so that a blink or a moving mouth does not count.
    """
    difference: Any = cv2.absdiff(small, before).astype(np.float32)
    mean: Any = cv2.boxFilter(difference, -1, (3, 3))
    usual = float(np.partition(mean, mean.size * 4 // 5, axis=None)[mean.size * 4 // 5])
    level = min(max(usual, _CALM), _NOISY)
    agrees = np.clip(3.0 - mean / np.float32(level), 0.0, 1.0).astype(np.float32)
    out: Any = cv2.erode(agrees, np.ones((3, 3), np.uint8))
    return out


def small_of(crop: Float32, region: Region, factor: int) -> Bytes:
    """Green of a region of a crop (float32 3×S×S, 0…1), smaller by `factor`: uint8 h/factor×w/factor."""
    x, y, w, h = region
    green: Any = cv2.resize(crop[1, y:y + h, x:x + w], (w // factor, h // factor), interpolation=cv2.INTER_AREA)
    return cv2.convertScaleAbs(green, alpha=255.0)  # type: ignore[return-value]


def fetch(picture: Float32, flow: Float32) -> Float32:
    """A picture float32 3×h×w, fetched from where a flow (h/n×w/n×2, n pixels apart, in n pixels) says it was."""
    _, h, w = picture.shape
    fine: Any = cv2.resize(flow, (w, h), interpolation=cv2.INTER_LINEAR)
    places: Any = cv2.addWeighted(fine, w / flow.shape[1], _grid(h, w), 1.0, 0.0)
    out = np.empty_like(picture)
    for plane, target in zip(picture, out, strict=True):
        cv2.remap(plane, places, None, cv2.INTER_LINEAR, target,  # pyright: ignore[reportCallIssue, reportArgumentType]
                  borderMode=cv2.BORDER_REPLICATE)
    return out


@lru_cache(maxsize=8)
def _grid(rows: int, columns: int) -> Float32:
    """Every pixel's own place, float32 rows×columns×2."""
    at = np.meshgrid(np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32))
    return np.stack(at, -1)
