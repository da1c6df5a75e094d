"""Maps how far a frame's samples may be from the truth (`--invented`).

The map compares the frame before and after its corrections. So it accounts for everything that affects the result:
strength, masks, gates, colour lock and rounding. It is 0 where output and input are bit-identical.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from rtface.config.look import LOOKS
from rtface.correct.colour import LUMA
from rtface.correct.expected_error import CALIBRATIONS, bound, check_calibrated
from rtface.device.cpu.crop import full_range
from rtface.device.cpu.view import native_image
from rtface.engine.engine_set import recipe_named
from rtface.engine.recipe import find_recipes, load_recipe
from rtface.enhance.tasks import FaceTask
from rtface.errors import UsageError
from rtface.frame import Bytes, Float, Float32, Frame
from rtface.geometry.color_curves import code_range
from rtface.geometry.planes import Layout, Role, Samples, layout, planes
from rtface.geometry.transforms import (
    bounds,
    clip_box,
    compose,
    field_parity,
    invert,
    plane_matrix,
    sample_to_display,
    scaling,
    to_cv2,
    translation,
)
from rtface.pipeline.plan import FramePlan
from rtface.protocols import Item, Runtime
from rtface.stages.draw import Canvas, Sprite
from rtface.util.av_arrays import copy_image

AROUND = 5
"""Side in samples of the square over which change and contrast are averaged."""


@dataclass(frozen=True, slots=True)
class ChangedFace:
    """One face's part of a frame, before and after correction.

    Attributes:
        engine: name of the engine.
        part: rows and columns in the stored frame or field.
        log_scale: float32 h×w, the engine's expected error, as in `Restored`.
        before, after: float32 h×w, luma in 0…255.
        changed: bool h×w, True where any component was changed.
        strength: the applied strength, 0…1.5.
        scale: crop pixels per frame pixel.
    """

    engine: str
    part: tuple[slice, slice]
    log_scale: Float32
    before: Float32
    after: Float32
    changed: Any
    strength: float
    scale: float

    def features(self) -> tuple[Float32, Float32, float]:
        """Returns change, contrast and mean change for `bound`."""
        change: Any = np.abs(self.after - self.before) / np.float32(self.strength)
        side = (AROUND, AROUND)
        mean = cv2.blur(self.after, side)
        variance = cv2.blur(self.after * self.after, side) - mean * mean
        overall = float(change[self.changed].mean()) if self.changed.any() else 0.0
        local_change: Any = cv2.blur(change, side)
        return local_change, np.sqrt(np.maximum(variance, np.float32(0.0))), overall

    def within(self) -> Float32:
        """Returns `bound` of every sample, float32 h×w, of 255."""
        change, contrast, overall = self.features()
        return bound(self.engine, self.log_scale, change, contrast, overall=overall, scale=self.scale)


class InventedMaps:
    """Makes the maps of frames with corrected faces (`rtface.enhance.corrector.InventedMeter`)."""

    def __init__(self) -> None:
        # For each calibrated engine, the part of the crop that its output covers: x, y, width, height.
        self.regions = {name: recipe_named(name).region for name in CALIBRATIONS}

    def original(self, frame: Frame) -> Any:
        """Returns a copy of the frame's image. Called before anything is written to it."""
        return copy_image(frame.image)

    def measured(self, frame: Frame, original: Any, faces: Sequence[FaceTask]) -> Frame:
        """Returns the frame with its map.

        Args:
            frame: the frame, or a field of it, with the corrections of `faces`.
            original: the frame's image before the corrections.
            faces: the faces, with the engines' answers.
        """
        plane_layout = layout(frame.image.format.name)
        assert plane_layout is not None
        if original.format.name != frame.image.format.name:  # the correction changed the pixel format
            original = native_image(original)
        parity, size = field_parity(frame.display, frame.field), (frame.image.width, frame.image.height)
        views = planes(original, plane_layout, parity), planes(frame.image, plane_layout, parity)
        before, after = (_luma(view, plane_layout, frame) for view in views)
        changed = _changed_samples(views, plane_layout)
        values = np.zeros((size[1], size[0]), np.uint8)
        out = values if parity is None else values[parity::2]
        to_plane = plane_matrix(size, frame.display, field=frame.field)
        for task in faces:
            forward = compose(to_plane, invert(task.crops.matrices[0]))
            if (face := self.changed_face(task, forward, before, after, changed)) is not None:
                out[face.part] = np.maximum(out[face.part], _map_values(face.within(), face.changed))
        # For samples that only the first stage changed, no error is predicted, so the map shows the change.
        np.maximum(out, _map_values(np.abs(after - before), changed & (out == 0)), out=out)
        return replace(frame, invented=values)

    def changed_face(
        self, task: FaceTask, forward: Float, before: Float32, after: Float32, changed: Any
    ) -> ChangedFace | None:
        """Returns a face's part; None if outside or unchanged. `forward`: matrix crop → samples."""
        restored, engine = task.restored, task.engine.name
        if task.strength.applied <= 0.0 or restored is None:
            return None
        assert isinstance(restored.log_scale, np.ndarray)  # `measure_invented` rejected other engines and devices
        log_scale = restored.log_scale[0]
        (x, y, w, h), (rows, columns) = self.regions[engine], log_scale.shape
        warp = compose(forward, translation(x, y), scaling(w / columns, h / rows))
        height, width = before.shape
        box = clip_box(bounds(warp, (0.0, 0.0, columns, rows), margin=1.0), width, height)
        if box[2] <= box[0] or box[3] <= box[1]:
            return None
        matrix, size = to_cv2(compose(translation(-box[0], -box[1]), warp)), (box[2] - box[0], box[3] - box[1])
        warped: Any = cv2.warpAffine(log_scale, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        part, strength = np.s_[box[1] : box[3], box[0] : box[2]], task.strength.applied
        return ChangedFace(engine, part, warped, before[part], after[part], changed[part], strength, task.scale)


def _map_values(errors: Float32, where: Any) -> Bytes:
    """Encodes errors as map values: 1…255 where samples changed, else 0."""
    return np.where(where, np.clip(np.rint(errors), 1, 255), 0).astype(np.uint8)


def _luma(view: Mapping[Role, Samples], pixels: Layout, frame: Frame) -> Float32:
    """Returns luma of all samples in 0…255. In limited range, the offset of black remains."""
    scale = np.float32(255.0 / code_range(pixels.bits, full_range(pixels, frame.color), chroma=False).scale)
    weights: Mapping[Role, float] = {"r": LUMA[0], "g": LUMA[1], "b": LUMA[2]} if pixels.kind == "rgb" else {"y": 1.0}
    luma: Any = sum(
        (view[role] >> pixels.shift).astype(np.float32) * (scale * np.float32(w)) for role, w in weights.items()
    )
    return luma


def _changed_samples(views: tuple[dict[Role, Samples], dict[Role, Samples]], plane_layout: Layout) -> Any:
    """Returns where any component of a sample differs, bool h×w."""
    height, width = next(iter(views[0].values())).shape
    out = np.zeros((height, width), bool)
    for role, after in views[1].items():
        sx, sy = plane_layout.role_subsampling(role)
        out |= (views[0][role] != after).repeat(sy, axis=0).repeat(sx, axis=1)[:height, :width]
    return out


def measure_invented(runtime: Runtime, plan: FramePlan) -> InventedMaps | None:
    """Returns the meter that makes maps. Returns None without a map.

    Raises:
        UsageError: an engine of the run predicts no error, its network is not the calibrated one, or the run is on a
            GPU.
    """
    if plan.options.invented is None:
        return None
    if runtime.device.name != "cpu":
        raise UsageError("the map of invented detail can only be made on the CPU; add {--device:cpu}", code="map_cpu")
    if learnt := plan.learnt:
        raise UsageError(
            "the errors in the map of invented detail were measured for the general weights only; omit "
            "{--person:{name}} or the map",
            code="map_person",
            name=learnt[0],
        )
    for engine in sorted({runtime.engines.pick(width).name for width in (1.0, 1e4)}):
        recipe = find_recipes().get(engine)
        check_calibrated(engine, load_recipe(recipe).weights.sha256 if recipe else "")
    return InventedMaps()


FULL_COLOUR_VALUE = 40
"""Map value, of 255, from which on the colour does not change."""
_OPACITY = 0.8
_WHITE = (255, 255, 255, 255)


@lru_cache(maxsize=1)
def colours() -> Bytes:
    """Returns the Cividis colours by map value, uint8 256×3 RGB. Their order is visible with any colour vision."""
    steps = np.clip(np.arange(256) * 255.0 / FULL_COLOUR_VALUE, 0, 255).astype(np.uint8)[None]
    table: Any = cv2.applyColorMap(steps, cv2.COLORMAP_CIVIDIS)
    return np.ascontiguousarray(table[0, :, ::-1])


def show_invented(items: Iterable[Item], look: str) -> Iterator[Item]:
    """Yields the items, with each frame's map drawn over it. Samples with value 0 are not covered."""
    for item in items:
        yield with_map(item, look) if isinstance(item, Frame) else item


def with_map(frame: Frame, look: str) -> Frame:
    """Returns the frame with its map and the legend of a look."""
    frame = replace(frame, image=native_image(frame.image))
    canvas = Canvas(frame)
    values = frame.invented
    if values is not None and values.any():
        x, y, w, h = cv2.boundingRect(values)
        part = values[y : y + h, x : x + w]
        rgba = np.dstack([colours()[part], np.where(part > 0, np.uint8(255), np.uint8(0))])
        place = compose(sample_to_display(frame.image.width, frame.image.height, frame.display), translation(x, y))
        canvas.draw(Sprite(rgba), place, _OPACITY)
    legend = Sprite(legend_image(look))
    width, bottom = min(0.5 * canvas.width, float(legend.width)), canvas.height - 8.0
    canvas.draw(legend, (8.0, bottom - width * legend.height / legend.width, 8.0 + width, bottom))
    return replace(canvas.frame, changed=None)


@lru_cache(maxsize=len(LOOKS))
def legend_image(look: str) -> Bytes:
    """Draws the legend, uint8 RGBA 64×384×4: a colour bar, its meaning above, figures below.

    The bound was measured with the look "faithful", and is only an estimate with other looks."""
    image = np.zeros((64, 384, 4), np.uint8)
    image[..., 3] = 190
    bar = colours()[np.linspace(0, FULL_COLOUR_VALUE, 360).round().astype(int)]
    image[24:40, 12:372] = np.dstack([np.tile(bar[None], (16, 1, 1)), np.full((16, 360), 255, np.uint8)])
    meaning = "may be off by (of 255, 90 %)" if look == "faithful" else f"an estimate (of 255; look: {look})"
    cv2.putText(image, f"invented: {meaning}", (12, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.46, _WHITE, 1, cv2.LINE_AA)
    for value in range(0, FULL_COLOUR_VALUE + 1, 10):
        text = f"{value}+" if value == FULL_COLOUR_VALUE else str(value)
        (text_width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.46, 1)
        left = round(np.clip(12 + 360 * value / FULL_COLOUR_VALUE - text_width / 2, 12, 372 - text_width))
        cv2.putText(image, text, (left, 57), cv2.FONT_HERSHEY_SIMPLEX, 0.46, _WHITE, 1, cv2.LINE_AA)
    return image
