"""Shapes an engine's answer for a face into a correction (CPU)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rtface.correct.colour import cells_of, enlarged, luma_of, subtract_low_frequencies
from rtface.correct.controls import Controls, CorrectionState, Measures, decide
from rtface.correct.detail import add_scaled, cell_box, fine, products
from rtface.correct.eyes import iris_means, irises, restore_iris_colour
from rtface.correct.face_region import FaceRegion, face_region_of
from rtface.correct.flecks import hold_spots
from rtface.correct.grain import OwnGrain, OwnTexture, Texture, highpass, sheet_part
from rtface.correct.openings import Opening
from rtface.frame import Box, Float, Float32
from rtface.geometry.transforms import clip_box
from rtface.protocols import ShapingOptions


class CpuShaper:
    """Measures answer r and crop c, then makes one correction. Both are float32 3×S×S and not changed.

    Args:
        still: whether small spots must not become stronger, see `hold_spots`.
    """

    def __init__(self, r: Float32, c: Float32, area: FaceRegion, *, still: bool = False) -> None:
        self._c, self._area = c, area
        self._d: Any = cv2.subtract(r, c)
        if still:
            hold_spots(self._d, c, area)
        self._grain: OwnGrain | None = None
        self._fine: tuple[Float32, Box] | None = None

    def measure(self, options: ShapingOptions) -> Measures:
        """Returns the measurements that `decide` needs for these options."""
        c, d, area = self._c, self._d, self._area
        steps = slice(None, None, area.step)
        cells, crop_cells = cells_of(d), cells_of(c)
        return Measures(
            cells,
            crop_cells,
            np.ascontiguousarray(c[:, steps, steps]),
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
        # Only every `step`-th row is measured, so the high-pass runs along rows.
        area = self._area
        steps = slice(None, None, area.step)
        x0, y0, x1, y1 = area.part
        crop = highpass(luma_of(self._c[:, steps]), area.scale, rows=True)[:, steps]
        change = highpass(luma_of(self._d[:, y0 : y1 : area.step, x0:x1]), area.scale, rows=True)[:, steps]
        return Texture(np.ascontiguousarray(crop), change, self._own_texture)

    def _own_texture(self) -> OwnTexture:
        x0, y0, x1, y1 = self._area.part
        self._grain = OwnGrain(luma_of(self._c[:, y0:y1, x0:x1]), self._area.scale)
        return self._grain.texture(self._area.step)

    def apply(
        self, controls: Controls, mask: Float32, occlusion: Float32 | None = None
    ) -> tuple[Float32, Float32, Box]:
        """Returns the masked correction and its mask in their box.

        Args:
            controls: the decided parameters.
            mask: float32 S×S, the area's mask.
            occlusion: float32 S×S, 1 = something is in front of the face.

        Returns:
            The correction, float32 h×w×3, the mask, float32 h×w, and their box in the crop: the area's box, enlarged
            by one sample on each side if the crop continues there.
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
        total_grain: Any = None
        if grain.crop_share and self._grain is not None:
            total_grain = self._grain.share(grain.crop_share, grain.deviation)
        if grain.synthetic:
            sheet = sheet_part((y1 - y0, x1 - x0), grain.coarseness, grain.at) * np.float32(grain.synthetic)
            total_grain = sheet if total_grain is None else cv2.add(total_grain, sheet, dst=total_grain)
        if total_grain is None:
            return
        for plane in self._d:
            target = plane[y0:y1, x0:x1]
            cv2.add(target, total_grain, dst=target)


def shape_part(
    r: Float32,
    c: Float32,
    mask: Float32,
    state: CorrectionState,
    shaping: ShapingOptions,
    *,
    time: float,
    seed: int = 0,
    scale: float = 1.0,
    occlusion: Float32 | None = None,
    eyes: Float | None = None,
    openings: tuple[Opening, ...] = (),
) -> tuple[Float32, Float32, Box] | None:
    """Shapes a restored crop into the correction for `Device.paste`, on the CPU.

    Args:
        r: float32 3×S×S, the engine's answer; not changed.
        c: float32 3×S×S, the engine's crop; not changed, but stored if `ShapingOptions.keep`.
        mask: float32 S×S, `face_mask(…)`.
        state: state of the face's track; it is changed.
        shaping: the user's settings, including the strength.
        time: seconds, rising within a track.
        seed: number that determines the synthetic grain of this track and frame.
        scale: crop pixels per image pixel, `sqrt(|det W|)`.
        occlusion: float32 S×S, 1 = something is in front of the face; None if the engine does not predict it.
        eyes: `irises(…)`; their hue is preserved. None for the irises of the alignment template.
        openings: `openings_of(…)`, eyes and mouth in which the correction is limited; empty without limits.

    Returns:
        The masked correction, float32 h×w×3, its final mask, h×w, and their box in the crop, x0, y0, x1, y1; both are 0
        outside the box. None without a correction, for example with strength 0.

    Raises:
        EngineError: `r` contains NaN or infinity; `state` is reset.
    """
    size = int(c.shape[1])
    area = face_region_of(mask, size, irises(size) if eyes is None else eyes, scale, openings)
    if shaping.average:
        r = state.average.update(r, c, time, scale, None if area is None else area.box)
    if area is None or shaping.strength <= 0.0:
        return None
    pixels = CpuShaper(r, c, area, still=shaping.still)
    controls = decide(pixels.measure(shaping), area, state, shaping, time=time, seed=seed)
    part = pixels.apply(controls, mask, occlusion)
    if not shaping.keep:
        return part
    full = whole(part, size)
    shaped = state.key.key(c, full, shaping.strength, time, scale, shaping.share)
    return part if shaped is full else (*shaped, (0, 0, size, size))


def whole(part: tuple[Float32, Float32, Box] | None, size: int) -> tuple[Float32, Float32]:
    """Pads the result of `shape_part` with zeros to the whole crop: S×S×3 and S×S."""
    pixels, mask = np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.float32)
    if part is not None:
        x0, y0, x1, y1 = part[2]
        pixels[y0:y1, x0:x1], mask[y0:y1, x0:x1] = part[:2]
    return pixels, mask


def carried(
    c: Float32, state: CorrectionState, shaping: ShapingOptions, *, time: float, scale: float = 1.0
) -> tuple[Float32, Float32]:
    """Moves the last keyframe's correction (`ShapingOptions.keep`) to a crop (`rtface.correct.reproject`). The
    arguments are those of `shape_part`, the result is that of `whole`; without a keyframe, it is 0."""
    if shaping.strength > 0.0 and state.key.ready(time):
        return state.key.carry(c, shaping.strength, time, scale)
    return whole(None, int(c.shape[1]))
