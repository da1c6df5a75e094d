"""Detects scene changes on thumbnails.

Frames are compared by the correlation of log luma, which ignores gain and contrast: flashes and fades are not cuts.
Each quarter of the frame is searched for near its place in the previous frame, so that a pan is not a cut. Three of the
four quarters must have changed, so that a person who enters the frame is not a cut.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rtface.frame import Bytes, Float32, Frame
from rtface.protocols import Device

_SIDE = 32  # side of the compared image, in samples
_SHIFT = 3  # range of the search, in samples
_LOG = np.log(np.arange(12, 268, dtype=np.float32))
_BLACK = 10  # code value up to which bars are black
_MIN_CONTRAST = 0.08  # standard deviation of log luma below which a picture is uniform
_MIN_CHANGE = 0.36  # change, beyond the mean change of the scene, that is a cut


class CutDetector:
    """Detects frames that start a new scene.

    The change from the previous frame is compared with the mean change in this scene (a running mean), so that a
    shaking camera does not cause cuts. Black bars are ignored. Almost uniform frames (black, white, fog) are skipped:
    the first frame after them is compared with the last frame before them.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Resets the state at a new scene."""
        self._previous: Bytes | None = None
        self._area = (0, 0, 0, 0)
        self._mean_change = 0.0

    def update(self, thumbnail: Bytes) -> bool:
        """Returns whether `thumbnail` starts a new scene; False for the first. Thumbnails are uint8 RGB h×w×3, with the
        longer side about 64."""
        gray: Bytes = np.asarray(cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY), np.uint8)
        previous, area = self._previous, _picture_area(gray)
        if previous is None or previous.shape != gray.shape:
            self._previous, self._area, self._mean_change = gray, area, 0.0
            return False
        # The union with the previous picture area is compared: a fade to black must not look like growing bars.
        union = (*map(min, area[:2], self._area[:2]), *map(max, area[2:], self._area[2:]))
        old, new = _luma(previous, union), _luma(gray, union)
        if float(new.std()) < _MIN_CONTRAST:
            return False
        self._previous, self._area = gray, union
        change = 1 - _correlation(old, new)
        if change > 0.1:  # the search costs ten times as much, and frames this similar are not a cut
            change = _second_lowest(old, new)
        if change > _MIN_CHANGE + self._mean_change:
            self._area, self._mean_change = area, 0.0
            return True
        self._mean_change += 0.1 * (min(change, 0.3) - self._mean_change)
        return False

    def sees_cut(self, frame: Frame, device: Device) -> bool:
        """Calls `update` for a frame. Returns False if the frame cannot be read; the tracker reports the error."""
        try:
            return self.update(device.view(frame).thumbnail(64)[0])
        except Exception:  # noqa: BLE001 - the tracker reports it
            return False


def _picture_area(gray: Bytes) -> tuple[int, ...]:
    """Returns left, top, right, bottom of the part without black bars."""
    x, y, w, h = cv2.boundingRect(cv2.threshold(gray, _BLACK, 255, cv2.THRESH_BINARY)[1])
    return (x, y, x + w, y + h) if w >= 4 and h >= 4 else (0, 0, gray.shape[1], gray.shape[0])


def _luma(gray: Bytes, area: tuple[int, ...]) -> Float32:
    """Returns the logarithm of luma inside the bars, 32×32."""
    x0, y0, x1, y1 = area
    small: Any = cv2.resize(gray[y0:y1, x0:x1], (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return _LOG[small]


def _second_lowest(before: Float32, luma: Float32) -> float:
    """Returns the second lowest change of the quarters. Uniform ones are ignored; 0 if all are. Change is 1 − mean
    correlation."""
    planes = [(np.pad(a, _SHIFT, mode="reflect"), b) for a, b in ((before, luma), (_edges(before), _edges(luma)))]
    half, wide = _SIDE // 2, _SIDE // 2 + 2 * _SHIFT
    changes: list[float] = []
    for y in (0, half):
        for x in (0, half):
            if max(before[y : y + half, x : x + half].std(), luma[y : y + half, x : x + half].std()) > _MIN_CONTRAST:
                scores = [_correlation(a[y : y + wide, x : x + wide], b[y : y + half, x : x + half]) for a, b in planes]
                changes.append(1 - float(np.mean(scores)))
    return sorted(changes)[min(1, len(changes) - 1)] if changes else 0.0


def _edges(luma: Float32) -> Float32:
    return luma - cv2.blur(luma, (9, 9), borderType=cv2.BORDER_REFLECT)


def _correlation(a: Float32, b: Float32) -> float:
    """Returns the normalised cross-correlation of b at its best place in a."""
    return float(cv2.matchTemplate(np.ascontiguousarray(a), np.ascontiguousarray(b), cv2.TM_CCOEFF_NORMED).max())
