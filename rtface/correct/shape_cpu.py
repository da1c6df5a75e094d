"""The full-resolution steps of `shape` on the CPU: measurement and application."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rtface.correct.colour import cells_of, enlarged, luma_of, subtract_low_frequencies
from rtface.correct.controls import Controls, Measures
from rtface.correct.detail import add_scaled, cell_box, fine, products
from rtface.correct.eyes import iris_means, restore_iris_colour
from rtface.correct.face_region import FaceRegion
from rtface.correct.flecks import hold_spots
from rtface.correct.grain import OwnGrain, OwnTexture, Texture, highpass, sheet_part
from rtface.frame import Box, Float32
from rtface.geometry.transforms import clip_box
from rtface.protocols import ShapingOptions


class CpuShaper:
    """One engine's answer r and its crop c (float32 3×S×S, not changed): measured once, then corrected once.

    Args:
        still: no small spot becomes stronger, see `hold_spots`.
    """

    def __init__(self, r: Float32, c: Float32, area: FaceRegion, *, still: bool = False) -> None:
        self._c, self._area = c, area
        self._d: Any = cv2.subtract(r, c)
        if still:
            hold_spots(self._d, c, area)
        self._own: OwnGrain | None = None
        self._fine: tuple[Float32, Box] | None = None

    def measure(self, options: ShapingOptions) -> Measures:
        """The figures that `decide` needs for these options."""
        c, d, area = self._c, self._d, self._area
        every = slice(None, None, area.step)
        cells, crop_cells = cells_of(d), cells_of(c)
        return Measures(
            cells,
            crop_cells,
            np.ascontiguousarray(c[:, every, every]),
            iris_means(c, area.irises),
            iris_means(d, area.irises),
            self._texture() if options.grain != "none" else None,
            self._detail(cells, crop_cells) if options.detail else None,
        )

    def _detail(self, cells: Float32, crop_cells: Float32) -> Float32:
        box = cell_box(self._area.box, self._area.size)
        b = fine(self._d, cells, box)
        self._fine = b, box
        return products(b, self._c, crop_cells, box)

    def _texture(self) -> Texture:
        # Only every `step`-th row is looked at, filtered along itself.
        area = self._area
        every = slice(None, None, area.step)
        x0, y0, x1, y1 = area.part
        crop = highpass(luma_of(self._c[:, every]), area.scale, rows=True)[:, every]
        change = highpass(luma_of(self._d[:, y0 : y1 : area.step, x0:x1]), area.scale, rows=True)[:, every]
        return Texture(np.ascontiguousarray(crop), change, self._own_texture)

    def _own_texture(self) -> OwnTexture:
        x0, y0, x1, y1 = self._area.part
        self._own = OwnGrain(luma_of(self._c[:, y0:y1, x0:x1]), self._area.scale)
        return self._own.texture(self._area.step)

    def apply(
        self, controls: Controls, mask: Float32, occlusion: Float32 | None = None
    ) -> tuple[Float32, Float32, Box]:
        """The masked correction, and the mask that it was multiplied with, where they are not 0.

        Args:
            controls: what was decided.
            mask: float32 S×S, the area's.
            occlusion: float32 S×S, 1 = something lies in front.

        Returns:
            float32 h×w×3, float32 h×w, and which part of the crop that is: the area's box and, as far as the crop
            reaches, one sample more to each side.
        """
        d, size = self._d, controls.size
        x0, y0, x1, y1 = controls.box
        box = x0, y0, x1, y1 = clip_box((x0 - 1, y0 - 1, x1 + 1, y1 + 1), size, size)
        subtract_low_frequencies(d, controls.excess, box)
        restore_iris_colour(d, controls.irises, controls.colours)
        self._add_grain(controls)
        if controls.detail is not None and self._fine is not None:
            add_scaled(d, self._fine[0], controls.detail, self._fine[1])
        final: Any = mask[y0:y1, x0:x1]
        if controls.gate is not None:
            final = cv2.multiply(final, enlarged(controls.gate, size, box))
        if occlusion is not None:
            final = final * (np.float32(1.0) - np.clip(occlusion[y0:y1, x0:x1], 0.0, 1.0))
        planes = [cv2.multiply(plane[y0:y1, x0:x1], final, scale=controls.strength) for plane in d]
        out = np.empty((y1 - y0, x1 - x0, 3), np.float32)
        cv2.mixChannels(planes, [out], [0, 0, 1, 1, 2, 2])
        return out, final, box

    def _add_grain(self, controls: Controls) -> None:
        grain = controls.grain
        if grain is None:
            return
        x0, y0, x1, y1 = controls.part
        added: Any = None
        if grain.own and self._own is not None:
            added = self._own.share(grain.own, grain.deviation)
        if grain.made:
            made = sheet_part((y1 - y0, x1 - x0), grain.coarseness, grain.at) * np.float32(grain.made)
            added = made if added is None else cv2.add(added, made, dst=added)
        if added is None:
            return
        for plane in self._d:
            target = plane[y0:y1, x0:x1]
            cv2.add(target, added, dst=target)
