"""Runs YuNet, the face detector, and decodes its output.

Wu, Peng, Yu, "YuNet: A Tiny Millisecond-level Face Detector", 2023; the weights are those of OpenCV Zoo of March 2023.
It was chosen over MediaPipe's full-range BlazeFace because it finds more (profiles, crowds, the 40-pixel face of a 720p
frame), has fewer false positives, and costs a third per pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from rtface.frame import Bytes, Float, Float32
from rtface.protocols import View
from rtface.tracking.network import TrackerNetwork

SIZE = 384
_STRIDES = (8, 16, 32)


@dataclass(frozen=True, slots=True)
class Detection:
    """Describes one candidate for a face.

    Attributes:
        box: x0, y0, x1, y1, forehead to chin; (4,).
        points: eyes (left in the frame first), nose tip, left and right mouth corner; (5, 2).
        score: 0…1.
        cut: whether the border of the searched region cuts the candidate, though the frame continues there.
        others: boxes of the candidates that this one suppressed (`suppress`).
    """

    box: Float
    points: Float
    score: float
    cut: bool = False
    others: tuple[Float, ...] = ()

    @property
    def width(self) -> float:
        return float(self.box[2] - self.box[0])

    @property
    def centre(self) -> Float:
        return (self.box[:2] + self.box[2:]) / 2

    @property
    def cover(self) -> Float:
        """The union of its box and those it suppressed: the maximum extent of the face."""
        return union_of(self.box, *self.others)

    def moved(self, scale: float, x: float, y: float) -> Detection:
        """Converts the candidate to other coordinates: pixels times `scale`, plus (x, y)."""
        shift = (x, y, x, y)
        return replace(
            self,
            box=self.box * scale + shift,
            points=self.points * scale + (x, y),
            others=tuple(other * scale + shift for other in self.others),
        )


def union_of(*boxes: Float) -> Float:
    """Returns the box that encloses all given boxes."""
    stacked = np.stack(boxes)
    return np.concatenate([stacked[:, :2].min(0), stacked[:, 2:].max(0)])


def overlap(a: Float, b: Float) -> Float:
    """Returns intersection over union of a box (4,) with boxes (N, 4)."""
    common = np.clip(np.minimum(a[2:], b[:, 2:]) - np.maximum(a[:2], b[:, :2]), 0, None).prod(1)
    union = (a[2:] - a[:2]).prod() + (b[:, 2:] - b[:, :2]).prod(1) - common
    return common / np.maximum(union, 1e-9)


def suppress(candidates: list[Detection], limit: float = 0.3) -> list[Detection]:
    """Drops candidates that overlap a better one by IoU > `limit`. The better one stores their boxes. Uncut candidates
    precede cut ones, and stronger ones weaker ones."""
    results: list[Detection] = []
    for d in sorted(candidates, key=lambda d: (d.cut, -d.score)):
        shares = overlap(d.box, np.stack([result.box for result in results])) if results else np.zeros(1)
        if (best := int(shares.argmax())) < len(results) and shares[best] > limit:
            results[best] = replace(results[best], others=(*results[best].others, d.box, *d.others))
        else:
            results.append(d)
    return results


class Detector:
    """Finds faces in a square frame. They may be as small as about 16 pixels.

    Args:
        threads: number of cores for one call.
    """

    def __init__(self, *, threads: int = 1) -> None:
        self.network = TrackerNetwork(
            "face_detection_yunet_2023mar.onnx", SIZE, threads, layout="NCHW", bgr=True, exact=False
        )

    def detect(self, rgb: Bytes, threshold: float) -> list[Detection]:
        """Detects candidates in a uint8 384×384×3 image, strongest first. Coordinates are pixels of the image."""
        return self._decode(self.network(rgb), threshold)

    def detect_in(self, view: View, matrix: Float, threshold: float) -> list[Detection]:
        """Detects candidates in a view's region. `matrix` maps display to its 384×384 pixels, the unit of the
        results."""
        return self._decode(self.network.read(view, matrix)[0], threshold)

    @staticmethod
    def _decode(outputs: Sequence[Float32], threshold: float) -> list[Detection]:
        candidates: list[Detection] = []
        for i, stride in enumerate(_STRIDES):
            is_face, is_object, boxes, points = (outputs[i + 3 * k][0] for k in range(4))
            squares = is_face[:, 0] * is_object[:, 0]  # squares of the scores; both outputs are 0…1
            for j in np.flatnonzero(squares > threshold * threshold).tolist():
                row, column = divmod(j, SIZE // stride)
                cell = np.array((column, row), np.float64)
                centre, half = (cell + boxes[j, :2]) * stride, np.exp(boxes[j, 2:].astype(np.float64)) * (stride / 2)
                candidates.append(
                    Detection(
                        np.concatenate([centre - half, centre + half]),
                        (cell + points[j].reshape(5, 2)) * stride,
                        min(1.0, sqrt(float(squares[j]))),
                    )
                )
        return suppress(candidates)
