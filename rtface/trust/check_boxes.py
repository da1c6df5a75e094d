"""Whether the boxes that a sidecar names hold faces: what was changed lies where the input has one."""

from __future__ import annotations

from collections.abc import Iterator
from math import pi

import numpy as np

from rtface.device.cpu.device import CpuDevice
from rtface.frame import Box, Float, Frame
from rtface.geometry.transforms import bounds, invert, plane_matrix
from rtface.protocols import View
from rtface.tracking.detector import SIZE, Detector
from rtface.tracking.facemesh import Region

# A box is at most so many times as large as the face that the detector finds in it, or 2.3 times and as much as the
# grid of the first stage adds. (2.24 times were seen.)
_LARGEST, _HEAD, _GRID = 2.8, 2.3, 40
# What the detector takes for a face where one is said to be.
_THRESHOLD = 0.3
# Scores from which on a face needs no look at others, and by which one is surer than another at its place.
_SURE, _SURER = 0.8, 0.2
_ONE = 2.5  # how many times as large a face is taken at most
# A box that lies like one of so many frames before, by intersection over union, is not searched again.
_FRAMES, _LIKE = 12, 0.6
# Sides of the squares that are searched, in sides of the box.
_AROUND = (1.0, 1.6, 0.6)


class FaceBoxes:
    """Looks for a face of the input in each box; frames come in their order."""

    def __init__(self) -> None:
        self._device = CpuDevice()
        self._detector = Detector(threads=2)
        self._known: list[tuple[int, Float]] = []  # frame and box in display pixels, of those that hold a face
        self._number = 0

    def without_face(self, frame: Frame, boxes: list[Box], *, alone: bool = False) -> bool:
        """Whether one of `boxes` (in stored samples) is explained by no face of a frame of the input; `alone`: the
        frame does not follow the one before."""
        self._number += 1
        self._known = [(at, box) for at, box in self._known if at >= self._number - _FRAMES and not alone]
        to_display = invert(plane_matrix((frame.image.width, frame.image.height), frame.display))
        view = None
        for stored in boxes:
            box = np.array(bounds(to_display, stored), np.float64)
            if any(_overlap(box, known) >= _LIKE for _, known in self._known):
                continue
            view = view or self._device.view(frame)
            if not self._holds_face(view, box):
                return True
            self._known.append((self._number, box))
        return False

    def _holds_face(self, view: View, box: Float) -> bool:
        """Whether a face explains a box; of two at one place the surer one: turned or in another square, the detector
        may take one face for a larger one, too."""
        found: list[tuple[float, Float]] = []
        for score, face in self._faces(view, box):
            if score >= _SURE and _explains(face, box):
                return True
            found.append((score, face))
        return any(
            _explains(face, box) and not any(one > score + _SURER and _same(face, other) for one, other in found)
            for score, face in found
        )

    def _faces(self, view: View, box: Float) -> Iterator[tuple[float, Float]]:
        """Scores and boxes of faces near a box, in display pixels."""
        (x, y), side = (box[:2] + box[2:]) / 2, float(max(box[2:] - box[:2]))
        for quarter in (0, 1, 3, 2):
            for around in _AROUND:
                region = Region(float(x), float(y), around * side, quarter * pi / 2)
                for found in self._detector.detect_in(view, region.matrix(SIZE), _THRESHOLD):
                    corners = region.to_display(found.box.reshape(2, 2), SIZE)
                    yield float(found.score), np.concatenate([corners.min(0), corners.max(0)])

    def close(self) -> None:
        """Releases the detector."""
        self._detector.close()


def _explains(face: Float, box: Float) -> bool:
    middle, side = (face[:2] + face[2:]) / 2, max(face[2:] - face[:2])
    return bool(
        (box[:2] <= middle).all()
        and (middle <= box[2:]).all()
        and max(box[2:] - box[:2]) <= max(_LARGEST * side, _HEAD * side + _GRID)
    )


def _same(face: Float, other: Float) -> bool:
    """Whether two faces that were found may be one: a middle lies in the other, and their sizes are not far apart."""
    middle, sides = (other[:2] + other[2:]) / 2, [float(max(one[2:] - one[:2])) for one in (face, other)]
    return bool((face[:2] <= middle).all() and (middle <= face[2:]).all() and max(sides) <= _ONE * min(sides))


def _overlap(a: Float, b: Float) -> float:
    inner = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.maximum(inner, 0)))
    return shared / max(float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared, 1e-9)
