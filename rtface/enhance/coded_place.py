"""Cuts out parts of a frame for the first stage. Computes their masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np

from rtface.correct.mask import HEAD_EDGE, face_mask, head_shape
from rtface.frame import Box, Bytes, Face, Float, Float32, Frame, Quantisers
from rtface.geometry.alignment import crop_matrix
from rtface.geometry.transforms import (
    apply,
    bounds,
    clip_box,
    compose,
    field_parity,
    invert,
    plane_matrix,
    to_cv2,
    translation,
)
from rtface.protocols import View

CELL, MULTIPLE = 8, 16
"""Side in samples of a cell of the network's output. The sides of its input are multiples of MULTIPLE samples."""
LARGEST = 512
"""Longest side in samples of a place that is corrected; larger faces and heads are not corrected."""
_MASK_SIDE = 128
_CALM_CODE_VALUES = (9.0, 14.0)
"""Surroundings of a face are fully corrected up to the first value of mean fine detail, and not at all from the second
on. More detail means text, line art or test charts, which the network mistakes for coding artefacts."""
_BLUR_SAMPLES = 16
_FACE_SIDES, HEAD = 1.3, 2.3
"""Sides of the place of a face, and of a head, as multiples of the side of the face's box."""


class CodecTraits(NamedTuple):
    """Describes how a codec differs from H.264.

    Attributes:
        finer: log2 of the codec's quantiser step minus log2 of the H.264 step that leaves the same error. It is above
            0 because the codec predicts and filters better. Measured on the training people; the values for AV1 and
            HEVC were raised after tests on held-out films.
        unreached: share of the expected gain that is not reached, measured on eight tuning people. The networks were
            trained on less material of the codec, and overestimate the errors of stills without noise.
        face_alone: whether nothing round a face is corrected, because the network was trained on too little material
            of the codec to improve smooth backgrounds.
    """

    finer: float = 0.0
    unreached: float = 0.0
    face_alone: bool = False


CODEC_TRAITS = {
    "av1": CodecTraits(2.2, 0.7, face_alone=True),
    "hevc": CodecTraits(1.3, 0.4),
    "vp9": CodecTraits(0.6, 0.55),
    "jpeg": CodecTraits(unreached=0.5),
}
"""Traits by `Quantisers.codec`; other codecs are treated as H.264."""


@dataclass(frozen=True, slots=True)
class Place:
    """A part of a frame, with its own pixel grid.

    Attributes:
        matrix: display → pixels of the place, float64 2×3. The place is shifted from the stored samples by integers.
        x, y: column and row of its first sample, counted in the stored frame or field; multiples of `CELL`.
        width, height: size in samples, multiples of `MULTIPLE`.
        seen: the part inside the frame: x0, y0, x1, y1 in pixels of the place.
    """

    matrix: Float
    x: int
    y: int
    width: int
    height: int
    seen: Box

    def steps(self, quantisers: Quantisers | None, rows: int) -> Float32 | None:
        """Returns log2 of each cell's quantiser step, or None if unknown. float32 height/8 × width/8. Steps of other
        codecs are converted to those of H.264.

        Args:
            quantisers: quantisers of the frame.
            rows: stored rows of the frame per row of this place: 1 for a frame, 2 for a field.
        """
        if quantisers is None:
            return None
        steps, block = quantisers.steps, quantisers.block
        down = (self.y + np.arange(self.height // CELL) * CELL + CELL // 2) * rows // block
        across = (self.x + np.arange(self.width // CELL) * CELL + CELL // 2) // block
        part = steps[np.clip(down, 0, len(steps) - 1)][:, np.clip(across, 0, steps.shape[1] - 1)]
        return np.log2(part, dtype=np.float32) - np.float32(CODEC_TRAITS.get(quantisers.codec, CodecTraits()).finer)


def place_of(frame: Frame, face: Face, around: float, largest: int) -> Place:
    """Returns the place of a face's box, enlarged by the factor `around`. The place's sides are at most `largest`."""
    size = frame.image.width, frame.image.height
    to_plane = plane_matrix(size, frame.display, field=frame.field)
    x0, y0, x1, y1 = bounds(to_plane, face.box.tolist())
    rows = size[1] if frame.field is None else (size[1] + 1) // 2
    x, width = _span((x0 + x1) / 2, around * (x1 - x0), size[0], largest)
    y, height = _span((y0 + y1) / 2, around * (y1 - y0), rows, largest)
    seen = clip_box((-x, -y, size[0] - x, rows - y), width, height)
    return Place(compose(translation(-x, -y), to_plane), x, y, width, height, seen)


def _span(centre: float, length: float, size: int, largest: int) -> tuple[int, int]:
    """Returns first sample and length of a span round a centre. Both lie on the grid, and inside `size` if possible."""
    count = MULTIPLE * min(largest // MULTIPLE, max(2, -int(-(length + CELL) // MULTIPLE)))  # + CELL for snapping
    first = CELL * round((centre - count / 2) / CELL)
    last = CELL * max(0, -(-(size - count) // CELL))
    return min(max(first, 0), last), count


def place_within(frame: Frame, face: Face, inside: bool, around: bool) -> tuple[Place | None, bool]:
    """Returns the place to correct, and whether it is a head. With `around`, the place is the head unless that is too
    large. Otherwise, with `inside`, it is the face. The place is None if neither applies."""
    for head in [True] * around + [False] * inside:
        place = place_of(frame, face, HEAD if head else _FACE_SIDES, LARGEST + MULTIPLE)
        if max(place.width, place.height) <= LARGEST:
            return place, head
    return None, False


def picture_of(view: View, place: Place) -> Bytes:
    """Returns the samples of a place, uint8 height×width×3 RGB. The frame's edge is replicated."""
    picture = view.crop(place.matrix, (place.width, place.height))
    x0, y0, x1, y1 = place.seen
    if (x1 - x0, y1 - y0) == (place.width, place.height):
        return picture
    bottom, right = place.height - y1, place.width - x1
    inside = picture[y0:y1, x0:x1]
    return np.asarray(cv2.copyMakeBorder(inside, y0, bottom, x0, right, cv2.BORDER_REPLICATE), np.uint8)


def rows_of(frame: Frame) -> int:
    return 1 if field_parity(frame.display, frame.field) is None else 2


def masks_of(face: Face, place: Place, edge: tuple[float, float] = HEAD_EDGE) -> tuple[Float32, Float32]:
    """Returns masks of a face's oval and its head, float32 height×width, 0…1."""
    aligned = crop_matrix(face, _MASK_SIDE)
    mesh = None if face.mesh is None else apply(aligned, face.mesh[:, :2])
    onto = to_cv2(compose(place.matrix, invert(aligned)))
    oval: Any = cv2.warpAffine(face_mask(_MASK_SIDE, mesh), onto, (place.width, place.height), flags=cv2.INTER_LINEAR)
    x0, y0, x1, y1 = (float(v) for v in face.box)
    corners = apply(place.matrix, np.array([(x0, y0), (x1, y1)]))
    (left, top), (right, bottom) = corners.min(0).tolist(), corners.max(0).tolist()
    head = head_shape((place.width, place.height), (left, top, right, bottom), edge)
    x0, y0, x1, y1 = place.seen
    for mask in oval, head:
        mask[:y0], mask[y1:], mask[:, :x0], mask[:, x1:] = 0.0, 0.0, 0.0, 0.0
    return oval, head


def calm_of(picture: Bytes) -> Float32:
    """Returns how calm each pixel's surroundings are, float32 h×w, 0…1. Hair, cloth and leaves count as calm."""
    fine: Any = cv2.absdiff(picture, cv2.GaussianBlur(picture, (0, 0), 1.0))
    mean: Any = cv2.blur(fine, (_BLUR_SAMPLES, _BLUR_SAMPLES), borderType=cv2.BORDER_REPLICATE).mean(
        2, dtype=np.float32
    )
    around = cv2.dilate(mean, np.ones((CELL + 1, CELL + 1), np.uint8))
    full, none = _CALM_CODE_VALUES
    return np.asarray(np.clip((none - around) / (none - full), 0.0, 1.0), np.float32)
