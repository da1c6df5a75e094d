"""Fits and smooths the similarity from a face's points to its crop.

The crop is that of FFHQ: five points (eye centres, nose tip, mouth corners) have fixed places in a 512-pixel square. If
a face has a mesh, 28 points that hardly move with expression or speech are used instead. Their template is their mean
position in 695 faces aligned by the five points, made symmetric, and enlarged by 1.9 %, because faces differ in shape
and least squares then underestimates the scale. Of 512 pixels, both fits differ by less than 1 on average, by about 4
on a single face.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import atan2, cos, degrees, exp, hypot, log, pi, sin, sqrt

import cv2
import numpy as np

from rtface.frame import Face, Float, Frame
from rtface.geometry.transforms import FFHQ_512, apply, compose, display_size, invert, scaling

TEMPLATE_SIZE = 512

# Index in the mesh, x, y, z in a crop of 512 (z away from the camera, mean 0): eye corners, wings and ridge of the
# nose, cheeks, mouth corners, upper lip. Lids, brows, lips and chin are left out because they move.
_RIGID = np.array(
    [
        (33, 169.68, 239.90, 35.35),
        (263, 342.91, 239.90, 35.35),
        (133, 222.54, 243.53, 24.96),
        (362, 290.04, 243.53, 24.96),
        (48, 217.41, 313.39, -18.43),
        (278, 295.18, 313.39, -18.43),
        (98, 220.36, 325.25, -1.94),
        (327, 292.23, 325.25, -1.94),
        (117, 151.80, 271.69, 36.42),
        (346, 360.79, 271.69, 36.42),
        (50, 156.45, 303.10, 24.65),
        (280, 356.14, 303.10, 24.65),
        (205, 172.84, 320.69, 14.74),
        (425, 339.75, 320.69, 14.74),
        (36, 193.80, 305.61, 8.81),
        (266, 318.79, 305.61, 8.81),
        (61, 197.22, 368.05, 30.53),
        (291, 315.37, 368.05, 30.53),
        (168, 256.29, 234.92, -10.16),
        (6, 256.29, 250.16, -18.71),
        (197, 256.29, 264.34, -28.34),
        (195, 256.29, 277.03, -39.04),
        (5, 256.29, 290.66, -50.18),
        (4, 256.29, 307.23, -54.60),
        (1, 256.29, 320.10, -50.03),
        (2, 256.29, 331.83, -18.04),
        (94, 256.29, 330.11, -27.07),
        (164, 256.29, 341.62, -14.01),
    ]
)
RIGID = _RIGID[:, 0].astype(np.int64)
"""Mesh indices of the points that the alignment uses, (28,)."""
RIGID_TEMPLATE: Float = np.ascontiguousarray(_RIGID[:, 1:])
"""Their places in a crop of 512, x, y, z: (28, 3)."""
_CENTRED = RIGID_TEMPLATE - RIGID_TEMPLATE.mean(0)
_UNMIRROR = np.array([1.0, 1.0, -1.0])


def fit(source: Float, target: Float) -> Float:
    """Fits a 2×3 similarity without mirror to points (N, 2), least squares.

    Umeyama 1991, in two dimensions, where it has a closed form without singular values.

    Raises:
        ValueError: all source points coincide.
    """
    a, b = (np.add.reduce(points) / len(points) for points in (source, target))  # `mean` takes three times as long
    p, q = source - a, target - b
    norm = float(np.vdot(p, p))
    if norm < 1e-12:
        raise ValueError("cannot align a face whose points all coincide: pass at least two different points")
    (xx, xy), (yx, yy) = (p.T @ q / norm).tolist()
    c, s, (ax, ay), (bx, by) = xx + yy, xy - yx, a.tolist(), b.tolist()
    return np.array(((c, -s, bx - c * ax + s * ay), (s, c, by - s * ax - c * ay)))


def similarity(points: Float, size: int) -> Float:
    """Returns the 2×3 matrix display → crop of `size` pixels (corner convention). `points`: (5, 2) or (478, 2|3)."""
    scale = size / TEMPLATE_SIZE
    if len(points) == len(FFHQ_512):
        return fit(np.asarray(points[:, :2], np.float64), FFHQ_512 * scale)
    return fit(np.asarray(points.take(RIGID, 0)[:, :2], np.float64), RIGID_TEMPLATE[:, :2] * scale)


def crop_matrix(face: Face, size: int) -> Float:
    """Returns the 2×3 matrix display → crop of `size` pixels. Fits it to the mesh, or else to the five points."""
    return similarity(face.points if face.mesh is None else face.mesh, size)


def move(matrix: Float, points: Float) -> Float:
    """Moves (N, 2|3) points by a 2×3 similarity, which also scales z."""
    (a, b, x), (c, d, y) = matrix.tolist()
    with_z = (a, b, 0.0, x), (c, d, 0.0, y), (0.0, 0.0, hypot(a, c), 0.0)
    return np.asarray(cv2.transform(points[None], matrix if points.shape[1] == 2 else np.array(with_z)), np.float64)[0]


def pose(mesh: Float) -> tuple[float, float, float]:
    """Returns yaw, pitch, roll in degrees of a mesh (478, 3).

    yaw > 0: turned to the frame's right; pitch > 0: looking up; roll > 0: tilted clockwise on the screen. The
    rotation between the rigid points and their (frontal) template is found by Kabsch's method.
    """
    _, u, vt = cv2.SVDecomp(_CENTRED.T @ mesh.take(RIGID, 0))
    r = vt.T @ u.T
    if cv2.determinant(r) < 0:  # it is a mirror, so the least significant axis is flipped
        r = vt.T @ (_UNMIRROR * u).T
    ahead, right = (-r[:, 2]).tolist(), r[:, 0].tolist()
    yaw = degrees(atan2(ahead[0], -ahead[2]))
    pitch = degrees(atan2(-ahead[1], hypot(ahead[0], ahead[2])))
    return yaw, pitch, degrees(atan2(right[1], right[0]))


# The filters work in pixels of the 512 crop. Rotation and scale are converted to the shift that they cause at this
# radius (about the distance from the crop's centre to the corners of the eyes), so that all four parameters share
# constants.
_RADIUS = 130.0
SLACK = 6.0
"""Maximum difference of a smoothed parameter from the measured one, in pixels of the 512 crop."""


@dataclass(slots=True)
class _State:
    time: float
    # The following lists have four values, because NumPy takes longer for so few.
    value: list[float]  # filtered: centre x, y in display pixels; log scale and angle of display → crop
    raw: list[float]  # the same, unfiltered
    # For x, y, scale and angle, in pixels of the 512 crop:
    speed: list[float]  # per second
    step: list[float]  # from frame to frame, unfiltered
    noise: list[float]  # standard deviation of the unfiltered values


# Cutoffs in Hz: for a still face (lower is steadier); added per crop pixel a second (higher follows faster); for the
# speed.
_MIN_CUTOFF, _BETA, _SPEED_CUTOFF = 0.6, 0.08, 3.0


class Aligner:
    """Removes jitter from tracks by One-Euro filters on the similarity's parameters.

    Casiez, Roussel, Vogel, "1 € Filter", CHI 2012, with the frames' real timestamps. The aligner smooths the crop's
    centre, log scale and angle, and then moves the face's points and mesh rigidly onto the smoothed similarity. Blinks
    and speech therefore keep their speed, and `crop_matrix` of the result *is* the smoothed similarity.
    """

    def __init__(self) -> None:
        self._states: dict[int, _State] = {}

    def steady(self, face: Face, time: float) -> Face:
        """Smooths a face's `points`, `mesh` and `box`. `raw_points` are the original points; `time` is in seconds."""
        raw = crop_matrix(face, TEMPLATE_SIZE)
        correction = compose(invert(self._smooth(face.track_id, raw, time)), raw)
        corners = face.box.reshape(2, 2)
        centre = (corners[0] + corners[1]) / 2
        return replace(
            face,
            points=move(correction, face.points),
            raw_points=face.points,
            mesh=None if face.mesh is None else move(correction, face.mesh),
            box=(corners + (apply(correction, centre) - centre)).ravel(),
        )

    def forget(self, track_id: int | None = None) -> None:
        """Drops the state of one track, or of all."""
        if track_id is None:
            self._states.clear()
        else:
            self._states.pop(track_id, None)

    def _smooth(self, track_id: int, raw: Float, time: float) -> Float:
        half, (a, c) = TEMPLATE_SIZE / 2, raw[:, 0].tolist()
        scale = hypot(a, c)
        measured = [*apply(invert(raw), np.array((half, half))).tolist(), log(scale), atan2(c, a)]
        to_crop_px = scale, scale, _RADIUS, _RADIUS
        state = self._states.get(track_id)
        dt = time - state.time if state else 0.0
        if state is None or not 0 < dt < 1:
            self._states[track_id] = _State(time, measured, measured, [0.0] * 4, [0.0] * 4, [0.0] * 4)
            return raw
        steps, errors = (
            [d * unit for d, unit in zip(_difference(measured, old), to_crop_px, strict=True)]
            for old in (state.raw, state.value)
        )
        # A second difference cancels steady movement. For white noise, its mean size is 1.95 standard deviations.
        state.noise = [
            noise + 0.05 * (min(abs(step - last) / 1.95, 4 * noise + 0.1, 3.0) - noise)
            for noise, step, last in zip(state.noise, steps, state.step, strict=True)
        ]
        gain = 1 / (1 + 1 / (2 * pi * _SPEED_CUTOFF * dt))  # weight of the new value in a first-order low pass
        state.speed = [old + gain * (error / dt - old) for old, error in zip(state.speed, errors, strict=True)]
        # Noise alone looks like a speed, which must not raise the cutoff.
        share, speeds = 2.5 / dt * sqrt(gain / (2 - gain)), zip(state.speed, state.noise, strict=True)
        x, y, *others = (max(abs(speed) - share * noise, 0.0) for speed, noise in speeds)
        # The centre's two coordinates share one gain, to keep diagonal movements straight.
        residuals = [
            min(max(error / (1 + 2 * pi * (_MIN_CUTOFF + _BETA * speed) * dt), -SLACK), SLACK) / unit
            for error, speed, unit in zip(errors, (hypot(x, y), hypot(x, y), *others), to_crop_px, strict=True)
        ]
        state.value = [value - residual for value, residual in zip(measured, residuals, strict=True)]
        state.time, state.raw, state.step = time, measured, steps
        x, y, log_scale, angle = state.value
        c, s = exp(log_scale) * cos(angle), exp(log_scale) * sin(angle)
        return np.array(((c, -s, half - c * x + s * y), (s, c, half - s * x - c * y)))


def _difference(a: list[float], b: list[float]) -> list[float]:
    """Returns a − b of parameters, with the angle wrapped to ±π."""
    *d, angle = (x - y for x, y in zip(a, b, strict=True))
    return [*d, (angle + pi) % (2 * pi) - pi]


def as_read(frame: Frame, face: Face) -> tuple[Frame, Face, Float]:
    """Returns the frame before enlargement, its face, and a matrix. The matrix maps the display space of `frame` to
    that of the returned frame."""
    source = frame.source
    if source is None:
        return frame, face, scaling(1.0, 1.0)
    (w, h), (x, y) = (display_size(one.image.width, one.image.height, one.display) for one in (source, frame))
    sx, sy = w / x, h / y

    def smaller(points: Float | None) -> Float | None:
        return None if points is None else points * np.array((sx, sy, sx)[: points.shape[-1]])

    scaled = replace(
        face,
        box=face.box * np.array((sx, sy, sx, sy)),
        points=face.points * np.array((sx, sy)),
        mesh=smaller(face.mesh),
        raw_points=smaller(face.raw_points),
    )
    return source, scaled, scaling(sx, sy)
