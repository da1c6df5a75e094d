"""Draws an image with alpha, cached for repeated drawing."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rtface.device.cpu.crop import lowpass
from rtface.frame import Box, Bytes, Color, Float, Float32
from rtface.geometry.planes import Layout, Role, Samples
from rtface.geometry.transforms import bounds, clip_box, compose, footprint, invert, to_cv2, translation
from rtface.stages.draw.blend import blend, codes

Roles = tuple[Role, ...]


class _Placement:
    """Holds a sprite on one sample grid: values to add, and the share of samples to keep."""

    def __init__(self, roles: Roles, box: Box, values: list[Float32], keep: Float32) -> None:
        self.roles, self.box, self.values, self.keep = roles, box, values, keep


class Sprite:
    """Draws an image with alpha.

    Conversions, the last low-pass and the last placement are cached. A sprite that moves without scaling is therefore
    only warped and blended, and a still one only blended.

    Args:
        rgba: uint8 h×w×4, R'G'B' (sRGB) and straight alpha; must not change afterwards.

    Attributes:
        width, height: size of the image in pixels.
    """

    def __init__(self, rgba: Bytes) -> None:
        self._rgba = rgba
        self.height, self.width = rgba.shape[:2]
        self._code_cache: tuple[object, dict[Roles, Float32]] = (None, {})
        self._filter_cache: dict[Roles, tuple[object, Float32, Float]] = {}
        self._placement_cache: tuple[object, list[_Placement]] = (None, [])

    def draw(
        self,
        views: dict[Role, Samples],
        layout: Layout,
        color: Color,
        to_planes: dict[Role, Float],
        place: Float,
        opacity: float,
    ) -> bool:
        """Blends the sprite into the planes of an image. Returns False if it lies outside.

        Args:
            views: `planes.planes` of the image.
            layout, color: how to read the samples.
            to_planes: for each component, the matrix from display space to its samples.
            place: 2×3 matrix, sprite pixels → display space.
            opacity: factor of the sprite's alpha, 0…1.
        """
        shapes = tuple((role, view.shape, to_planes[role].tobytes()) for role, view in views.items())
        key = (layout, color, shapes, place.tobytes(), opacity)
        if self._placement_cache[0] != key:
            values_of = self._code(layout, color)
            placements = [
                self._place(roles, values, compose(to_planes[roles[0]], place), views[roles[0]].shape, opacity)
                for roles, values in values_of.items()
            ]
            self._placement_cache = key, [one for one in placements if one is not None]
        for one in self._placement_cache[1]:
            for role, value in zip(one.roles, one.values, strict=True):
                blend(views[role], one.box, value, one.keep, layout)
        return bool(self._placement_cache[1])

    def _code(self, layout: Layout, color: Color) -> dict[Roles, Float32]:
        """Returns code values times alpha, and alpha, by each grid's components. Each is h×w×(n+1)."""
        key = (layout, color)
        if self._code_cache[0] != key:
            alpha = self._rgba[..., 3:].astype(np.float32) / np.float32(255.0)
            values = codes(self._rgba[..., :3].astype(np.float32) / np.float32(255.0), layout, color)
            grids: dict[tuple[int, int], list[Role]] = {}
            for role in values:
                grids.setdefault(layout.role_subsampling(role), []).append(role)
            self._filter_cache.clear()
            self._code_cache = (
                key,
                {
                    tuple(roles): np.concatenate([*(values[role][..., None] * alpha for role in roles), alpha], axis=2)
                    for roles in grids.values()
                },
            )
        return self._code_cache[1]

    def _place(
        self, roles: Roles, values: Float32, forward: Float, shape: tuple[int, ...], opacity: float
    ) -> _Placement | None:
        """Warps `values` (h×w×n, alpha last) to a plane (`forward`: sprite → plane). Values that shrink are low-pass
        filtered first. Returns None if the sprite lies outside the plane."""
        h, w = values.shape[:2]
        box = clip_box(bounds(forward, (0.0, 0.0, w, h), margin=1.0), shape[1], shape[0])
        if box[2] <= box[0] or box[3] <= box[1]:
            return None
        shrink = footprint(invert(forward))
        key = (round(shrink[0], 2), round(shrink[1], 2))
        if roles not in self._filter_cache or self._filter_cache[roles][0] != key:
            self._filter_cache[roles] = (key, *lowpass(values, key, border=cv2.BORDER_CONSTANT))
        _, values, undo = self._filter_cache[roles]
        to_box = to_cv2(compose(translation(-box[0], -box[1]), forward, undo))
        warped: Any = cv2.warpAffine(
            values,
            to_box,
            (box[2] - box[0], box[3] - box[1]),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=0.0,
        )
        if opacity < 1.0:
            warped *= np.float32(opacity)
        *parts, alpha = cv2.split(warped)
        return _Placement(
            roles,
            box,
            [np.asarray(part, np.float32) for part in parts],
            np.subtract(np.float32(1.0), alpha, dtype=np.float32),
        )
