"""Moves a mesh to the next frame by optical flow.

The mesh network is the most expensive part of tracking. If a face was read reliably on the previous frame and has
hardly moved, 40 of its points are followed instead (Lucas and Kanade 1981, in pyramids: Bouguet 2000). The similarity
that fits them moves the whole mesh, at a tenth of the cost. This happens at most once between two readings, so nothing
drifts, and expression lags by one frame at most. The mesh is read in any doubt: if points do not return to their start
or disagree with one similarity, or after a jump.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import atan2, hypot

import cv2
import numpy as np

from rtface.frame import Bytes, Float
from rtface.geometry.alignment import RIGID, fit, move
from rtface.geometry.transforms import apply
from rtface.protocols import View
from rtface.tracking.facemesh import Region, region_of_mesh

_SIDE = 160
_POINTS = np.concatenate([RIGID, [10, 338, 297, 284, 389, 454, 361, 397, 152, 172, 132, 234]])
_MAX_RETURN_PX = 0.7  # maximum distance of a point that was followed back from its start, patch pixels
_MAX_ERROR_PX = 1.0  # maximum median distance of the points from the similarity, patch pixels
_MIN_POINTS_SHARE = 0.7  # minimum share of good points


@dataclass(slots=True)
class FlowPatch:
    """Holds a face whose mesh was read: luma `_SIDE`², its region, the mesh, and the time (seconds)."""

    gray: Bytes
    region: Region
    mesh: Float
    time: float = 0.0

    @classmethod
    def cut(cls, view: View, mesh: Float, time: float = 0.0) -> FlowPatch:
        """Cuts the patch of a face on this frame. `mesh` is (478, 3)."""
        region = region_of_mesh(mesh)
        return cls(view.luma(region.matrix(_SIDE), (_SIDE, _SIDE)), region, mesh, time)

    def carry(self, view: View, shift: Float) -> Float | None:
        """Carries the mesh to the next frame. Returns None if it must be read instead.

        Args:
            view: the next frame.
            shift: display pixels (2,) by which the face is expected to have moved.
        """
        old = self.region
        new = Region(old.x + float(shift[0]), old.y + float(shift[1]), old.side, old.angle)
        gray = view.luma(new.matrix(_SIDE), (_SIDE, _SIDE))
        start = apply(old.matrix(_SIDE), self.mesh[_POINTS, :2])
        followed, back, good = _follow(self.gray, gray, start)
        good &= np.linalg.norm(back - start, axis=1) < _MAX_RETURN_PX
        if good.mean() < _MIN_POINTS_SHARE:
            return None
        source, target = self.mesh[_POINTS[good], :2], new.to_display(followed[good], _SIDE)
        motion = fit(source, target)
        error = np.linalg.norm(apply(motion, source) - target, axis=1) * (_SIDE / old.side)
        scale, turn = hypot(motion[0, 0], motion[1, 0]), atan2(motion[1, 0], motion[0, 0])
        if float(np.median(error)) > _MAX_ERROR_PX or abs(scale - 1) > 0.04 or abs(turn) > 0.08:
            return None
        return move(motion, self.mesh)


def _follow(old: Bytes, new: Bytes, start: Float) -> tuple[Float, Float, np.ndarray]:
    """Follows points (N, 2) from `old` to `new` and back. Returns both positions, and which points succeeded."""
    # In OpenCV, pixel centres have integer coordinates; here they are at half-integers.
    a = (start - 0.5).astype(np.float32)[:, None]
    opts = {"winSize": (15, 15), "maxLevel": 2, "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 12, 0.02)}
    b, ok, _ = cv2.calcOpticalFlowPyrLK(old, new, a, None, **opts)  # type: ignore[call-overload]
    c, ok_back, _ = cv2.calcOpticalFlowPyrLK(new, old, b, None, **opts)  # type: ignore[call-overload]
    good = (ok[:, 0] > 0) & (ok_back[:, 0] > 0)
    return b[:, 0].astype(np.float64) + 0.5, c[:, 0].astype(np.float64) + 0.5, good
