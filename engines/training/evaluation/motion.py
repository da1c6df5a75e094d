"""Dense motion of the clean film, and how much a film differs from itself along that motion."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from training.crop_space import F32


class Motion:
    """The flow between successive frames of the truth, where it is found forwards and backwards alike.

    Flow by dense inverse search (Kroeger et al., "Fast optical flow using dense inverse search", 2016). Pixels where
    forward and backward flow differ by 1 pixel or more are left out, and their surroundings of 2 pixels.

    Args:
        truth: float32 H×W×3, 0..1.
        mask: float32 H×W, 0..1: weights of the pixels.
        first: number of the first frame; pairs before it are left out.
        step: only every ``step``-th pair is used.
    """

    def __init__(self, truth: list[F32], mask: F32, first: int = 0, step: int = 1) -> None:
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        gray = [(255 * p.mean(2)).astype(np.uint8) for p in truth]
        height, width = gray[0].shape
        self._grid = np.mgrid[:height, :width].astype(np.float32)[::-1].transpose(1, 2, 0)
        self._flows: list[tuple[int, F32, F32]] = []
        for k, (before, now) in list(enumerate(pairwise(gray)))[first::step]:
            there, back = search.calc(now, before, None), search.calc(before, now, None)
            missed = there + cv2.remap(back, *self._at(there), cv2.INTER_LINEAR)
            agree = ((missed**2).sum(2) < 1.0).astype(np.float32)
            self._flows.append((k, there, cv2.erode(agree, np.ones((5, 5))) * mask))

    def _at(self, flow: F32) -> tuple[F32, F32]:
        x, y = cv2.split(self._grid + flow)
        return x, y

    def change(self, film: list[F32], power: int = 1) -> float:
        """Mean of |frame − the frame before, moved|^``power`` over all pairs used; ``film`` as the truth, or errors.

        ``power`` 2 of shown frames is the warping error of Lai et al., "Learning blind video temporal consistency",
        2018. 0 where no pixel's motion is known.
        """
        found: list[float] = []
        for k, flow, weight in self._flows:
            moved = cv2.remap(film[k], *self._at(flow), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            change = (np.abs(film[k + 1] - moved) ** power).mean(2)
            found.append(float((change * weight).sum() / max(float(weight.sum()), 1.0)))
        return float(np.mean(found))
