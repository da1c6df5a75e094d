"""Scene changes, seen on a thumbnail.

A cut changes what is where (mean difference) *and* what is in the picture (histogram), far more than the pictures
before it changed. Level and contrast are taken out first, so that a flash, a fade or a lamp is none.
"""

from __future__ import annotations

import cv2
import numpy as np

from rtface.frame import Bytes, Float32

_SIDE = 32
_BINS = 16


class CutDetector:
    """Says of every picture whether a new scene begins with it.

    The measure mixes 1 − the correlation of luma with the distance of the colour histograms; it is compared with what
    is usual in this scene (a running mean), so a shaking camera does not cut all the time. A picture that is nearly
    plain (black, white) decides nothing; the next one that is not is compared with the last one that was not.
    """

    def __init__(self, *, sensitivity: float = 1.0) -> None:
        self._limit = 0.5 / sensitivity
        self.reset()

    def reset(self) -> None:
        """Forgets the scene."""
        self._luma: Float32 | None = None
        self._histogram: Float32 | None = None
        self._usual = 0.05

    def update(self, thumbnail: Bytes) -> bool:
        """True when `thumbnail` (uint8 RGB h×w×3, longer side about 64) starts a new scene; never the first picture."""
        ycc = cv2.cvtColor(cv2.resize(thumbnail, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2YCrCb)
        luma = ycc[:, :, 0].astype(np.float32)
        luma -= luma.mean()
        spread = float(np.sqrt((luma * luma).mean()))
        if spread < 6:
            return False
        luma /= spread
        counts = cv2.calcHist([ycc], [1, 2], None, [_BINS, _BINS], [64, 192, 64, 192]).ravel()
        histogram: Float32 = np.asarray(counts / (_SIDE * _SIDE), np.float32)
        before, colours = self._luma, self._histogram
        self._luma, self._histogram = luma, histogram
        if before is None or colours is None:
            return False
        moved = 1 - float((before * luma).mean())
        recoloured = 0.5 * float(np.abs(colours - histogram).sum())
        measure = 0.7 * moved + 0.3 * recoloured
        cut = measure > max(self._limit, 3.5 * self._usual)
        if cut:
            self._usual = 0.05
        else:
            self._usual += 0.1 * (measure - self._usual)
        return cut
