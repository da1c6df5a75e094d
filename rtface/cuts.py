"""Scene changes, seen on a thumbnail.

Two pictures of one scene correlate, whatever the light does: the logarithm of luma turns a brighter lamp into an
offset, and correlation ignores offset and contrast, so a flash or a fade is no cut. Correlated are luma and what a
local mean leaves of it (edges), at the best of all shifts up to a tenth of the picture, so neither a pan is one.
"""

from __future__ import annotations

import cv2
import numpy as np

from rtface.frame import Bytes, Float32

_SIDE = 32
_SHIFT = 3
_BLACK = 20
_LIMIT = 0.5


class CutDetector:
    """Says of every picture whether a new scene begins with it.

    The correlation with the picture before is compared with what is usual in this scene (a running mean), so a camera
    that shakes does not cut all the time. Black bars are left out. A picture that is nearly plain (black, white,
    fog) decides nothing: the next one that is not is compared with the last one that was not.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets the scene."""
        self._before: Float32 | None = None
        self._usual = 0.0

    def update(self, thumbnail: Bytes) -> bool:
        """True when `thumbnail` (uint8 RGB h×w×3, longer side about 64) starts a new scene; never the first picture."""
        luma = _luma(thumbnail)
        if float(luma.std()) < 0.08:
            return False
        before, self._before = self._before, luma
        if before is None:
            return False
        change = 1 - _correlation(before, luma, 0)
        if change > 0.1:  # the search is ten times as dear, and nothing that is so alike can be a cut
            change = 1 - 0.5 * (_correlation(before, luma, _SHIFT) + _correlation(_edges(before), _edges(luma), _SHIFT))
        cut = change > _LIMIT + self._usual
        self._usual = 0.0 if cut else self._usual + 0.1 * (min(change, 0.3) - self._usual)
        return cut


def _luma(thumbnail: Bytes) -> Float32:
    """Logarithm of luma without black bars, 32×32."""
    gray = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY)
    lit = gray > _BLACK
    rows, columns = np.flatnonzero(lit.mean(1) > 0.02), np.flatnonzero(lit.mean(0) > 0.02)
    if len(rows) > 8 and len(columns) > 8:
        gray = gray[rows[0]: rows[-1] + 1, columns[0]: columns[-1] + 1]
    small = cv2.resize(gray, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return np.log(small.astype(np.float32) + 12)


def _edges(luma: Float32) -> Float32:
    return luma - cv2.blur(luma, (9, 9), borderType=cv2.BORDER_REFLECT)


def _correlation(a: Float32, b: Float32, shift: int) -> float:
    """Normalised cross-correlation of a with b's middle, at the best of all shifts up to `shift`; at most 1."""
    middle = np.ascontiguousarray(b[shift: _SIDE - shift, shift: _SIDE - shift])
    return float(cv2.matchTemplate(a, middle, cv2.TM_CCOEFF_NORMED).max())
