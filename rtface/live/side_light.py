"""Evens the light on faces that are lit from one side.

The halves of a face have nearly the same skin, so a difference between mirrored halves is shading. Its logarithm is
fitted with the odd spherical harmonics of the mesh's normals (Basri and Jacobs, "Lambertian reflectance and linear
subspaces", 2003) and removed by a smooth gain, equal for all colours. Light from the front, above or below stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import cv2
import numpy as np

from rtface.device.cpu.crop import full_range
from rtface.device.cpu.device import CpuDevice
from rtface.device.cpu.view import native_image
from rtface.frame import Face, Float, Float32, Frame
from rtface.geometry.color_curves import code_range
from rtface.geometry.planes import Layout, layout, planes
from rtface.geometry.transforms import apply, compose, display_size, plane_matrix, scaling, translation
from rtface.live.gain import multiply, ramp

_LEFT, _RIGHT, _TOP, _CHIN = 234, 454, 10, 152  # mesh points: outer cheeks, top of the forehead, chin
_WIDTH, _HEIGHT = 1.2, 1.5  # extent of the face's map, in half widths of the face, from its middle
_CELLS = 32  # side of the face's map, and half of the side of the gain's map
_EVEN, _UNEVEN = 0.2, 0.42  # root mean square of the shading in stops: none, or all of it, is removed
_FRONTAL, _PROFILE = 25.0, 50.0  # yaw in degrees between which the gain fades out
_UP, _DOWN = 1.4, 0.7  # limits of the gain in stops
_GAMMA, _CHROMA = 2.2, 0.6  # exponents of the coding, and of chroma's gain: skin in shadow is redder
# Seconds: between two fits, also while nothing is removed; time constant of a face in view; hold and time constant of
# a lost one; gap after which all starts anew.
_FIT_S, _IDLE_FIT_S, _SMOOTH_S, _HOLD_S, _FADE_S, _GAP_S = 0.1, 1.0, 0.6, 0.3, 0.1, 2.0
_SMALLEST = 48.0  # face width in pixels
_LUMA = 64  # side of the luma that is read


@dataclass(slots=True)
class _Light:
    """Holds a face's shading at each mesh point, in stops: as fitted last, and as removed."""

    mesh: Float
    fitted: Float
    stops: Float
    fitted_at: float
    seen_at: float


class SideLight:
    """Evens side light in a run's frames, in place."""

    def __init__(self) -> None:
        self._device = CpuDevice()
        self._lights: dict[int, _Light] = {}
        self._time = -math.inf

    @property
    def uneven(self) -> bool:
        """True if a face is clearly lit from one side; thread-safe."""
        return any(float(np.std(light.fitted)) > _UNEVEN for light in list(self._lights.values()))

    def apply(self, frame: Frame, amount: float, faces: Sequence[Face]) -> Frame:
        """Returns the changed frame, or the same object if nothing changes.

        Args:
            frame: any frame. Frames on a GPU, and in pixel formats without native planes, are converted.
            amount: share of the shading to remove, 0…1; 0 returns the input bit for bit.
            faces: faces on this or the previous frame, in display space.
        """
        meshes = {face.track_id: face.mesh for face in faces if face.mesh is not None and face.width >= _SMALLEST}
        self._follow(frame, meshes, _FIT_S if amount else _IDLE_FIT_S)
        active = [light for light in self._lights.values() if amount * float(np.abs(light.stops).max()) >= 0.01]
        if not active:
            return frame
        frame = replace(frame, image=native_image(frame.image), filtered=True, changed=None)
        size = frame.image.width, frame.image.height
        for target in filter(None, (frame, frame.source)):
            target.make_writable()
            grown = scaling(target.image.width / size[0], target.image.height / size[1])
            to_plane = compose(grown, plane_matrix(size, frame.display))
            for light in active:
                _multiply(target, apply(to_plane, light.mesh[:, :2]), -amount * light.stops)
        return frame

    def _follow(self, frame: Frame, meshes: Mapping[int, Float], interval: float) -> None:
        """Updates the light of each face. It fades in and out, also where a face is lost."""
        elapsed, self._time = frame.time - self._time, frame.time
        if frame.cut or not 0.0 <= elapsed < _GAP_S:
            self._lights.clear()
        for number, mesh in meshes.items():
            if number not in self._lights:  # a face that was lost here keeps its light
                here = (one for one in self._lights if one not in meshes and _overlap(self._lights[one].mesh, mesh))
                previous = self._lights.pop(next(here, -1), None)
                stops = np.zeros(len(mesh)) if previous is None else previous.stops
                self._lights[number] = _Light(mesh, stops, stops, -math.inf, frame.time)
            light = self._lights[number]
            light.mesh, light.seen_at = mesh, frame.time
            if not 0.0 <= frame.time - light.fitted_at < interval:
                light.fitted, light.fitted_at = self._shading(frame, mesh), frame.time
        for number, light in list(self._lights.items()):
            lost = not 0.0 <= frame.time - light.seen_at < _HOLD_S
            target, seconds = (0.0, _FADE_S) if lost else (light.fitted, _SMOOTH_S)
            light.stops = light.stops + (1.0 - math.exp(-max(0.0, elapsed) / seconds)) * (target - light.stops)
            if lost and float(np.abs(light.stops).max()) < 0.02:
                del self._lights[number]

    def _shading(self, frame: Frame, mesh: Float) -> Float:
        """Returns the shading to remove at each mesh point, in stops."""
        # The axes of the head: across, down, and into it. `points` has half the face's width as unit.
        across, down = mesh[_RIGHT] - mesh[_LEFT], mesh[_CHIN] - mesh[_TOP]
        across, half = across / np.linalg.norm(across), float(np.linalg.norm(across)) / 2
        down -= (down @ across) * across
        axes = np.stack([across, down / np.linalg.norm(down), np.cross(across, down) / np.linalg.norm(down)])
        points = (mesh - mesh[[_LEFT, _RIGHT, _TOP, _CHIN]].mean(0)) @ axes.T / half
        cells = np.clip((points[:, :2] / (_WIDTH, _HEIGHT) + 1.0) * (_CELLS / 2), 0, _CELLS - 1)

        # Normals of the symmetric part of the depth: a across, b down, c towards the viewer.
        depth, _ = _spread(cells, points[:, 2], np.ones(len(points)), _CELLS, 1.5)
        depth = (depth + depth[:, ::-1]) / 2
        slopes = [cv2.Sobel(depth, -1, 1 - k, k, scale=_CELLS / (16 * (_WIDTH, _HEIGHT)[k])) for k in (0, 1)]
        c = 1.0 / np.sqrt(1.0 + slopes[0] ** 2 + slopes[1] ** 2)
        a, b = slopes[0] * c, slopes[1] * c
        x = np.broadcast_to(np.linspace(-_WIDTH, _WIDTH, _CELLS, dtype=np.float32), a.shape)
        basis = np.stack([a, a * b, a * c, x], -1).reshape(-1, 4)

        # The odd part of log luma, where both halves can be seen.
        low, high = mesh[:, :2].min(0), mesh[:, :2].max(0)
        crop = compose(scaling(*(_LUMA / (high - low))), translation(*-low))
        luma = self._device.view(frame).luma(crop, (_LUMA, _LUMA)).astype(np.float32) / 255.0
        if not full_range(cast(Layout, layout(native_image(frame.image).format.name)), frame.color):
            luma = (luma - 16 / 255) * (255 / 219)
        at = apply(crop, mesh[:, :2]).astype(np.float32) - 0.5
        luma = cv2.remap(luma, at[:, None, 0], at[:, None, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        stops = np.log2(np.maximum(luma[:, 0], 0.0).astype(np.float64) ** _GAMMA + 0.004)
        columns, rows = cells.astype(int).T
        towards = (axes[2, 2] * c - axes[0, 2] * a - axes[1, 2] * b)[rows, columns]
        size = display_size(frame.image.width, frame.image.height, frame.display)
        inside = ((mesh[:, :2] > 0.0) & (mesh[:, :2] < size)).all(1)
        light, weight = _spread(cells, stops, inside * np.clip((towards - 0.45) / 0.3, 1e-3, 1.0), _CELLS, 1.0)
        weight = np.minimum(np.minimum(weight, weight[:, ::-1]), 0.3).reshape(-1)
        odd, robust = (light - light[:, ::-1]).reshape(-1) / 2, weight
        fit = rest = np.zeros_like(odd)
        ridge = (0.02 * float(weight.sum()) + 1e-6) * np.diag([0.01, 0.3, 0.3, 0.1])
        for _ in range(3):
            fit = basis @ np.linalg.solve((basis.T * robust) @ basis + ridge, (basis.T * robust) @ odd)
            rest = odd - fit
            robust = weight / (1.0 + (rest / 0.3) ** 2) ** 2
        around, rest = (
            cv2.GaussianBlur(one.reshape(_CELLS, _CELLS), (0, 0), 3.0).reshape(-1) for one in (robust, robust * rest)
        )
        fit += rest / (around + 0.003)

        rms = math.sqrt(float((weight * fit**2).sum() / (weight.sum() + 1e-6)))
        yaw = math.degrees(math.atan2(abs(across[2]), abs(across[0])))
        share = ramp(rms, _EVEN, _UNEVEN) * (1.0 - ramp(yaw, _FRONTAL, _PROFILE))
        return share * fit.reshape(_CELLS, _CELLS)[rows, columns]


def _multiply(frame: Frame, points: Float, stops: Float) -> None:
    """Multiplies a face by a gain that fades out over hair.

    Args:
        frame: frame with writable samples.
        points: mesh points in the luma plane; float64 (478, 2).
        stops: gain at each point, in stops of linear light.
    """
    pixels = layout(frame.image.format.name)
    assert pixels is not None
    low, high = points.min(0), points.max(0)
    width, height = high - low
    n = 2 * _CELLS
    cell = 2 * math.ceil(max(width * 1.6, height * 1.9) / (2 * n))  # side of a cell of the gain's map, in samples
    neck = 0.35 * (points[_CHIN] - points[_TOP])
    corner = np.floor((low + high - n * cell + 0.9 * neck) / 2).astype(int) // 8 * 8
    cells = np.clip((points - corner) / cell, 0, n - 1)
    limit = np.where(stops > 0.0, _UP, _DOWN)
    gain, weight = _spread(cells, stops / (1.0 + (stops / limit) ** 4) ** 0.25, np.ones(len(stops)), n, 1.5)
    far, _ = _spread(cells, stops, np.ones(len(stops)), n, 6.0)
    gain = (gain * weight + 0.02 * far) / (weight + 0.02)
    hull, mask = cv2.convexHull(cells.astype(np.float32))[:, 0], np.zeros((n, n), np.float32)
    for outline, value in (((hull - hull.mean(0)) * 0.8 + hull.mean(0) + neck / cell, 0.9), (hull, 1.0)):
        cv2.fillConvexPoly(mask, np.rint(outline * 16).astype(np.int32), value, shift=4)
    mask = ramp(cast(Float32, cv2.GaussianBlur(mask, (0, 0), 2.0)), 0.45, 0.9)  # hardly reaches the background
    gain = gain * mask / _GAMMA
    _, _, across, down = bounds = cv2.boundingRect((mask > 0.0).astype(np.uint8))
    part = np.s_[bounds[1] : bounds[1] + down, bounds[0] : bounds[0] + across]
    gains = [np.exp2(exponent * gain[part]).astype(np.float32) for exponent in (1.0, _CHROMA)]
    left, top = corner + np.array(bounds[:2]) * cell
    full = full_range(pixels, frame.color)
    for role, view in planes(frame.image, pixels).items():
        chroma, (nx, ny) = role in ("u", "v"), pixels.role_subsampling(role)
        x, y = left // nx, top // ny
        region = view[max(y, 0) : y + down * cell // ny, max(x, 0) : x + across * cell // nx]
        fine = cv2.resize(gains[chroma], (across * cell // nx, down * cell // ny), interpolation=cv2.INTER_LINEAR)
        fine = cast(Float32, fine[max(-y, 0) :, max(-x, 0) :][: region.shape[0], : region.shape[1]])
        if region.size:
            multiply(region, pixels.shift, code_range(pixels.bits, full, chroma=chroma), fine)


def _spread(cells: Float, values: Float, weights: Float, side: int, sigma: float) -> tuple[Float32, Float32]:
    """Spreads values at points over a square map; also returns its weight."""
    index = cells[:, 1].astype(int) * side + cells[:, 0].astype(int)
    sums = (np.bincount(index, w, side * side).reshape(side, side) for w in (weights * values, weights))
    total, weight = (cast(Float32, cv2.GaussianBlur(one.astype(np.float32), (0, 0), sigma)) for one in sums)
    return cast(Float32, total / (weight + 1e-6)), weight


def _overlap(a: Float, b: Float) -> bool:
    """Returns whether two faces are at the same place."""
    return float(np.linalg.norm((a - b)[:, :2].mean(0))) < 0.5 * float(np.ptp(b[:, 0]))
