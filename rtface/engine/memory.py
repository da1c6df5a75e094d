"""What a recurrent engine remembers of a face, and how that is brought to the next frame.

Crops of one face are aligned to each other by its track. What still moves within the face (the head turning, the jaw)
is followed by dense inverse search flow (Kroeger et al. 2016) between small versions of the inputs; the network is
shown the restored crop of the frame before both as it was and carried along, and learnt which to trust where.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from rtface.frame import Bytes, Float32

Region = tuple[int, int, int, int]

SHRINK = 4
"""The flow is searched on crops this much smaller."""


@dataclass(frozen=True, slots=True)
class FaceMemory:
    """What was known after a frame.

    Attributes:
        restored: float32 3×S×S, the engine's answer.
        small: uint8 S/4×S/4, green of the crop that it was the answer to.
        state: float32 C×h×w, the network's own; None where it has none.
    """

    restored: Float32
    small: Bytes
    state: Float32 | None = None


class Carrier:
    """Brings memories to the next frame. Not for use from several threads."""

    def __init__(self) -> None:
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)

    def flow(self, small: Bytes, before: Bytes) -> Float32:
        """Where each sample of a small picture was on the one before: float32 h×w×2, in its samples."""
        found: Any = self._search.calc(small, before, np.zeros((*small.shape, 2), np.float32))
        return found

    def carry(self, memory: FaceMemory, small: Bytes, region: Region | None = None) -> Float32:
        """The remembered restored crop as it lies on a crop whose small version is `small`: float32 3×S×S.

        With `region` (x, y, width, height) only there; the rest is 0.
        """
        return fetch(memory.restored, self.flow(small, memory.small), region)


def small_of(crop: Float32) -> Bytes:
    """uint8 S/4×S/4, green, of a crop float32 3×S×S, 0…1."""
    size = crop.shape[1] // SHRINK
    green: Any = cv2.resize(crop[1], (size, size), interpolation=cv2.INTER_AREA)
    return cv2.convertScaleAbs(green, alpha=255.0)  # type: ignore[return-value]


def fetch(picture: Float32, flow: Float32, region: Region | None = None) -> Float32:
    """A picture float32 3×S×S, or its `region`, fetched from where a flow (n×n×2, S/n pixels apart) says it was."""
    size = picture.shape[1]
    x, y, w, h = region or (0, 0, size, size)
    part = slice(y, y + h), slice(x, x + w)
    fine: Any = cv2.resize(flow, (size, size), interpolation=cv2.INTER_LINEAR)[part]
    places: Any = cv2.addWeighted(fine, size / flow.shape[0], _grid(size)[part], 1.0, 0.0)
    out = np.zeros_like(picture)
    for plane, target in zip(picture, out, strict=True):
        cv2.remap(plane, places, None, cv2.INTER_LINEAR, target[part],  # pyright: ignore[reportCallIssue, reportArgumentType]
                  borderMode=cv2.BORDER_REPLICATE)
    return out


@lru_cache(maxsize=4)
def _grid(size: int) -> Float32:
    """Every pixel's own place, float32 size×size×2."""
    at = np.arange(size, dtype=np.float32)
    return np.stack(np.meshgrid(at, at), -1)
