"""Builds every matrix of the frame path: display and sample space, planes, fields, siting.

All matrices are 2×3 (or 3×3 if noted), float64, and map *corner-convention* coordinates: the origin is the top-left
corner of the top-left sample, and the centre of sample (i, j) is at (i + 0.5, j + 0.5). The only exception is the
convention of cv2's warps (sample centres at integers). Only `to_cv2` converts to it.

Display size: the stored frame keeps its height, its width is multiplied by the sample aspect ratio, and the result is
turned and mirrored. A 720×576 frame with 16:11 samples is 1047.27×576 in display space; the size is not rounded.

Chroma siting follows H.273 Chroma420SampleLocType: "left" (type 0) is co-sited with luma horizontally and midway
vertically, "center" (1) is midway in both, "topleft" (2) co-sited in both. Siting does not matter on an axis without
subsampling. A row of a field keeps its position in the frame, for luma and for chroma; with "left" this
is the interlaced 4:2:0 of MPEG-2 and H.264 (chroma 1/4 of a field row below luma in the top field, 3/4 in the bottom).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from rtface.frame import Display, Float, Siting

Field = Literal[0, 1]

FFHQ_512: Float = np.array(
    [
        (192.98138, 239.94708),
        (318.90277, 240.1936),
        (256.63416, 314.01935),
        (201.26117, 371.41043),
        (313.08905, 371.15118),
    ]
)
"""Eyes, nose and mouth corners in a 512-pixel FFHQ-aligned crop (facexlib's template); scales with the crop's side."""


def compose(*matrices: Float) -> Float:
    """Composes 2×3 matrices, which apply from last to first (like functions)."""
    (a, b, tx), (c, d, ty) = matrices[0].tolist()  # Python floats: numpy takes three times as long for six numbers
    for m in matrices[1:]:
        (e, f, ux), (g, h, uy) = m.tolist()
        a, b, tx, c, d, ty = (
            a * e + b * g,
            a * f + b * h,
            a * ux + b * uy + tx,
            c * e + d * g,
            c * f + d * h,
            c * ux + d * uy + ty,
        )
    return np.array(((a, b, tx), (c, d, ty)))


def invert(matrix: Float) -> Float:
    """Inverts a 2×3 affine matrix. Raises numpy.linalg.LinAlgError for a singular one."""
    (a, b, tx), (c, d, ty) = matrix.tolist()
    det = a * d - b * c
    if det == 0.0 or det != det:
        raise np.linalg.LinAlgError("a matrix that flattens the plane has no inverse")
    a, b, c, d = d / det, -b / det, -c / det, a / det
    return np.array([(a, b, -a * tx - b * ty), (c, d, -c * tx - d * ty)])


def apply(matrix: Float, points: Float) -> Float:
    """Maps points (…, 2) by a 2×3 matrix."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def scaling(sx: float, sy: float) -> Float:
    """Returns the 2×3 matrix that scales by sx and sy."""
    return np.array([(sx, 0.0, 0.0), (0.0, sy, 0.0)])


def translation(tx: float, ty: float) -> Float:
    """Returns the 2×3 matrix that shifts by tx and ty."""
    return np.array([(1.0, 0.0, tx), (0.0, 1.0, ty)])


def to_cv2(matrix: Float) -> Float:
    """Converts a matrix to cv2's convention: sample centres at integer coordinates."""
    (a, b, tx), (c, d, ty) = matrix.tolist()
    return np.array(((a, b, 0.5 * (a + b) + tx - 0.5), (c, d, 0.5 * (c + d) + ty - 0.5)))


def display_size(width: int, height: int, display: Display) -> tuple[float, float]:
    """Returns the display width and height of a stored frame, not rounded."""
    w, h = width * float(display.aspect), float(height)
    return (h, w) if display.quarter_turns % 2 else (w, h)


def sample_to_display(width: int, height: int, display: Display) -> Float:
    """Returns the matrix from stored (luma) samples to display space: aspect, clockwise quarter turns, mirror."""
    w, h = width * float(display.aspect), float(height)
    out = scaling(float(display.aspect), 1.0)
    for _ in range(display.quarter_turns % 4):
        out = compose(np.array([(0.0, -1.0, h), (1.0, 0.0, 0.0)]), out)  # (x, y) → (h − y, x)
        w, h = h, w
    if display.mirror:
        out = compose(np.array([(-1.0, 0.0, w), (0.0, 1.0, 0.0)]), out)
    return out


def chroma_from_luma(sub_x: int, sub_y: int, siting: Siting) -> Float:
    """Returns the matrix from luma to a subsampled plane. `sub_x` and `sub_y` are 1, 2 or 4."""
    cosited_x = siting in ("left", "topleft")
    cosited_y = siting == "topleft"
    # Co-sited: sample i lies on luma sample i·sub, so i + 0.5 = (x − 0.5)/sub + 0.5. Midway: just x/sub.
    tx = 0.5 - 0.5 / sub_x if cosited_x else 0.0
    ty = 0.5 - 0.5 / sub_y if cosited_y else 0.0
    return np.array([(1.0 / sub_x, 0.0, tx), (0.0, 1.0 / sub_y, ty)])


def field_parity(display: Display, field: Field | None) -> int | None:
    """Returns the parity of a field's rows: 0 even (top field), 1 odd; None for a whole frame.

    `field` counts in order of time: 0 is the first field (for "tff" the top one).
    """
    if field is None:
        return None
    return field if display.fields != "bff" else 1 - field


@lru_cache(maxsize=256)
def plane_matrix(
    size: tuple[int, int],
    display: Display,
    *,
    subsampling: tuple[int, int] = (1, 1),
    siting: Siting = "left",
    field: Field | None = None,
) -> Float:
    """Returns the matrix from display space to the samples of a plane. It is cached and read-only.

    Args:
        size: stored width and height of the frame, in luma samples.
        display: rotation, mirror, aspect and field order of the frame.
        subsampling: horizontal and vertical subsampling of the plane; (1, 1) for luma and RGB.
        siting: where a subsampled chroma sample sits.
        field: None for the whole frame; 0 or 1 for the first or second field in time, with only the field's rows.
    """
    parity = field_parity(display, field)
    # Row k of a field is row 2k + parity of the plane: (y − parity − 0.5)/2 + 0.5.
    rows = [] if parity is None else [np.array([(1.0, 0.0, 0.0), (0.0, 0.5, 0.25 - 0.5 * parity)])]
    out = compose(*rows, chroma_from_luma(*subsampling, siting), invert(sample_to_display(size[0], size[1], display)))
    out.flags.writeable = False
    return out


def footprint(back: Float) -> tuple[float, float]:
    """Returns a destination sample's extent in source samples, along x and y.

    `back` maps destination to source. Where it exceeds 1, the map shrinks, and the source must be low-passed first.
    For a similarity of scale s (source → destination) both extents are 1/s, whatever its rotation.
    """
    (a, b, _), (c, d, _) = back.tolist()
    return math.hypot(a, b), math.hypot(c, d)


def bounds(matrix: Float, box: Sequence[float], margin: float = 0.0) -> tuple[int, int, int, int]:
    """Returns the integer bounds of a box mapped by `matrix`: x0, y0, x1, y1. `margin` is added on all sides."""
    x0, y0, x1, y1 = box
    (a, b, tx), (c, d, ty) = matrix.tolist()
    xs = [a * x + b * y + tx for x in (x0, x1) for y in (y0, y1)]
    ys = [c * x + d * y + ty for x in (x0, x1) for y in (y0, y1)]
    return (
        math.floor(min(xs) - margin),
        math.floor(min(ys) - margin),
        math.ceil(max(xs) + margin),
        math.ceil(max(ys) + margin),
    )


def clip_box(box: tuple[int, int, int, int], width: int, height: int) -> tuple[int, int, int, int]:
    """Clips a box to width × height. If the result is empty, x1 ≤ x0 or y1 ≤ y0."""
    x0, y0, x1, y1 = box
    return max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
