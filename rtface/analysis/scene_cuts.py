"""Detects scene changes on thumbnails.

Two frames of a scene correlate in any light: the logarithm of luma turns a brighter lamp into an offset, and
correlation ignores offset and contrast, so a flash or a fade is not a cut. Each quarter of the frame is searched in its
surroundings, so a pan is not a cut. Three of the four must have changed, so a person entering the frame is not a cut.
"""

from __future__ import annotations

import cv2
import numpy as np

from rtface.frame import Bytes, Float32, Frame
from rtface.protocols import Device

_SIDE = 32
_SHIFT = 3
_BLACK = 10
_PLAIN = 0.08
_MIN_CHANGE = 0.36


class CutDetector:
    """Detects frames that begin a new scene.

    The change from the previous frame is compared with the usual change in this scene (a running mean), so that a
    shaking camera does not cause cuts. Black bars are ignored. Almost plain frames (black, white, fog) are skipped:
    the first frame after them is compared with the last frame before them.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Resets the state at a new scene."""
        self._before: Bytes | None = None
        self._lit = (0, 0, 0, 0)
        self._usual = 0.0

    def update(self, thumbnail: Bytes) -> bool:
        """Returns whether `thumbnail` starts a new scene; False for the first. It is uint8 RGB h×w×3, with the longer
        side about 64."""
        gray: Bytes = np.asarray(cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY), np.uint8)
        before, lit = self._before, _lit(gray)
        if before is None or before.shape != gray.shape:
            self._before, self._lit, self._usual = gray, lit, 0.0
            return False
        # The previously lit area counts too, so that bars do not grow in a fade.
        both = (*map(min, lit[:2], self._lit[:2]), *map(max, lit[2:], self._lit[2:]))
        old, new = _luma(before, both), _luma(gray, both)
        if float(new.std()) < _PLAIN:
            return False
        self._before, self._lit = gray, both
        change = 1 - _correlation(old, new)
        if change > 0.1:  # the search costs ten times as much, and frames this similar are not a cut
            change = _second_lowest(old, new)
        if change > _MIN_CHANGE + self._usual:
            self._lit, self._usual = lit, 0.0
            return True
        self._usual += 0.1 * (min(change, 0.3) - self._usual)
        return False

    def sees_cut(self, frame: Frame, device: Device) -> bool:
        """Calls `update` for a frame. Returns False if it cannot be viewed, which the tracker reports."""
        try:
            return self.update(device.view(frame).thumbnail(64)[0])
        except Exception:  # noqa: BLE001 - the tracker reports it
            return False


def _lit(gray: Bytes) -> tuple[int, ...]:
    """Returns left, top, right, bottom of the part without black bars."""
    rows, columns = np.flatnonzero(gray.max(1) > _BLACK), np.flatnonzero(gray.max(0) > _BLACK)
    if len(rows) < 4 or len(columns) < 4:
        return 0, 0, gray.shape[1], gray.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _luma(gray: Bytes, lit: tuple[int, ...]) -> Float32:
    """Returns the logarithm of luma inside the bars, 32×32."""
    x0, y0, x1, y1 = lit
    small = cv2.resize(gray[y0:y1, x0:x1], (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return np.log(small.astype(np.float32) + 12)


def _second_lowest(before: Float32, luma: Float32) -> float:
    """Returns the second lowest change of four quarters, or 0 if plain. Change is 1 − mean correlation."""
    planes = [(np.pad(a, _SHIFT, mode="reflect"), b) for a, b in ((before, luma), (_edges(before), _edges(luma)))]
    half, wide = _SIDE // 2, _SIDE // 2 + 2 * _SHIFT
    changes: list[float] = []
    for y in (0, half):
        for x in (0, half):
            if max(before[y : y + half, x : x + half].std(), luma[y : y + half, x : x + half].std()) > _PLAIN:
                both = [_correlation(a[y : y + wide, x : x + wide], b[y : y + half, x : x + half]) for a, b in planes]
                changes.append(1 - float(np.mean(both)))
    return sorted(changes)[min(1, len(changes) - 1)] if changes else 0.0


def _edges(luma: Float32) -> Float32:
    return luma - cv2.blur(luma, (9, 9), borderType=cv2.BORDER_REFLECT)


def _correlation(a: Float32, b: Float32) -> float:
    """Returns the normalised cross-correlation of b at its best place in a."""
    return float(cv2.matchTemplate(np.ascontiguousarray(a), np.ascontiguousarray(b), cv2.TM_CCOEFF_NORMED).max())
