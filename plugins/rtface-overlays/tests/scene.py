"""A portrait with its face, as a frame in any format, at any time."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import cache

import av
import cv2
import numpy as np

from benchmarks.demo import portrait
from rtface.frame import Color, Face, Frame
from rtface.stages import Run
from rtface.stages.runner import Stages
from rtface.stats import Stats

# Where the tracker sees the face on the portrait's 512 pixels.
POINTS = np.array([[203.9, 101.5], [246.8, 103.8], [223.4, 131.6], [202.6, 139.5], [244.5, 140.7]])
BOX = np.array([179.6, 70.1, 271.8, 178.5])


@cache
def _picture(size: tuple[int, int], matrix: bytes) -> np.ndarray:
    """The portrait at a place."""
    turned = np.frombuffer(matrix).reshape(2, 3)
    return cv2.warpAffine(portrait(), turned, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)


def frame(
    pts: int = 0,
    *,
    size: tuple[int, int] = (640, 360),
    scale: float = 1.2,
    at: tuple[float, float] = (0.5, 0.42),
    fmt: str = "yuv420p",
    faces: bool = True,
    track_id: int = 1,
    **more: object,
) -> Frame:
    """25 pictures a second; `at` is where the face's centre is, share of width and height."""
    w, h = size
    matrix = np.array([[scale, 0, w * at[0] - scale * 227], [0, scale, h * at[1] - scale * 126]])
    picture = _picture(size, matrix.tobytes())
    color = Color("rgb", True) if fmt.startswith(("rgb", "gbr", "gray")) else Color("bt709")
    image = av.VideoFrame.from_ndarray(picture, "rgb24")
    if fmt != "rgb24":
        image = image.reformat(format=fmt, dst_colorspace="ITU709")
    face = Face(track_id, (BOX.reshape(2, 2) * scale + matrix[:, 2]).reshape(4), POINTS * scale + matrix[:, 2])
    out = Frame(image, pts, Fraction(1, 25), 1, color=color, faces=(face,) if faces else ())
    return replace(out, **more)


def stages(*specs: str, run: Run | None = None) -> tuple[Stages, Stats]:
    """Stages from specs, and what they counted."""
    stats = Stats()
    return Stages.open(specs, stats, origin=run.origin if run else 0.0), stats


def rgb(frame: Frame) -> np.ndarray:
    """The picture as RGB, int, upright only where it is stored so."""
    return frame.image.to_ndarray(format="rgb24").astype(int)


def changed(after: object, before: object) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 of what differs visibly."""
    ys, xs = np.nonzero(np.abs(rgb(after) - rgb(before)).max(2) > 24)
    return (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) if len(xs) else None


def drawn(spec: str, *, run: Run | None = None, **how: object) -> tuple[object, object]:
    """One picture with the overlay, settled for half a second, and without."""
    chain, stats = stages(spec, run=run)
    for pts in range(13):
        given = frame(pts, **how)
        out = chain.process(given, frame(pts, **how).image)
    assert not stats.counters["stage_faults"], stats.warnings
    return out, frame(12, **how)
