"""Scene changes, seen on a thumbnail.

Two frames of one scene correlate, whatever the light does: the logarithm of luma turns a brighter lamp into an
offset, and correlation ignores offset and contrast, so a flash or a fade is no cut. Each quarter of the frame is
looked for in its surroundings, so neither is a pan; and three of the four must be gone, so neither is a person who
steps into the frame.
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
_LIMIT = 0.36


class CutDetector:
    """Says of every frame whether a new scene begins with it.

    How little a frame correlates with the one before is compared with what is usual in this scene (a running mean),
    so a camera that shakes does not cut all the time. Black bars are left out. A frame that is nearly plain (black,
    white, fog) decides nothing: the next one that is not is compared with the last one that was not.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets the scene."""
        self._before: Bytes | None = None
        self._lit = (0, 0, 0, 0)
        self._usual = 0.0

    def update(self, thumbnail: Bytes) -> bool:
        """True when `thumbnail` (uint8 RGB h×w×3, longer side about 64) starts a new scene; never the first frame."""
        gray: Bytes = np.asarray(cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY), np.uint8)
        before, lit = self._before, _lit(gray)
        if before is None or before.shape != gray.shape:
            self._before, self._lit, self._usual = gray, lit, 0.0
            return False
        # What was lit before counts too: a frame that fades gets no wider bars.
        both = (*map(min, lit[:2], self._lit[:2]), *map(max, lit[2:], self._lit[2:]))
        old, new = _luma(before, both), _luma(gray, both)
        if float(new.std()) < _PLAIN:
            return False
        self._before, self._lit = gray, both
        change = 1 - _correlation(old, new)
        if change > 0.1:  # the search is ten times as dear, and nothing that is so alike can be a cut
            change = _second_lowest(old, new)
        if change > _LIMIT + self._usual:
            self._lit, self._usual = lit, 0.0
            return True
        self._usual += 0.1 * (min(change, 0.3) - self._usual)
        return False

    def sees_cut(self, frame: Frame, device: Device) -> bool:
        """`update` for a frame; False where it cannot be viewed, which the tracker meets too, counts and reports."""
        try:
            return self.update(device.view(frame).thumbnail(64)[0])
        except Exception:  # noqa: BLE001 - see above
            return False


def _lit(gray: Bytes) -> tuple[int, ...]:
    """Left, top, right, bottom of what is not a black bar."""
    rows, columns = np.flatnonzero(gray.max(1) > _BLACK), np.flatnonzero(gray.max(0) > _BLACK)
    if len(rows) < 4 or len(columns) < 4:
        return 0, 0, gray.shape[1], gray.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _luma(gray: Bytes, lit: tuple[int, ...]) -> Float32:
    """Logarithm of luma inside the bars, 32×32."""
    x0, y0, x1, y1 = lit
    small = cv2.resize(gray[y0:y1, x0:x1], (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return np.log(small.astype(np.float32) + 12)


def _second_lowest(before: Float32, luma: Float32) -> float:
    """The second lowest of the four quarters' changes (1 − correlation of luma and of edges); 0 where all are plain."""
    planes = [(np.pad(a, _SHIFT, mode="reflect"), b) for a, b in ((before, luma), (_edges(before), _edges(luma)))]
    half, wide = _SIDE // 2, _SIDE // 2 + 2 * _SHIFT
    changes: list[float] = []
    for y in (0, half):
        for x in (0, half):
            if max(before[y : y + half, x : x + half].std(), luma[y : y + half, x : x + half].std()) > _PLAIN:
                found = [_correlation(a[y : y + wide, x : x + wide], b[y : y + half, x : x + half]) for a, b in planes]
                changes.append(1 - float(np.mean(found)))
    return sorted(changes)[min(1, len(changes) - 1)] if changes else 0.0


def _edges(luma: Float32) -> Float32:
    return luma - cv2.blur(luma, (9, 9), borderType=cv2.BORDER_REFLECT)


def _correlation(a: Float32, b: Float32) -> float:
    """Normalised cross-correlation of b with a, at the best of all places that b has in a; at most 1."""
    return float(cv2.matchTemplate(np.ascontiguousarray(a), np.ascontiguousarray(b), cv2.TM_CCOEFF_NORMED).max())
