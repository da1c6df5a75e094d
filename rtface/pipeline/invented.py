"""What was invented: for each sample of a frame, how far what is shown may be from the truth (`--invented`).

The map is made from the frame before and after its corrections were added, so it is about what is shown: strength,
masks, gates, colour lock and rounding are in it. It is 0 where the output has the input's sample bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from rtface.correct import face_mask
from rtface.correct.colour import LUMA
from rtface.correct.expected_error import CALIBRATIONS, bound, chance_of_worse, check_calibrated
from rtface.device.cpu.crop import full_range
from rtface.device.cpu.device import native_image
from rtface.engine.engine_set import recipe_named
from rtface.engine.recipe import find_recipes, load_recipe
from rtface.enhance.tasks import FaceTask
from rtface.errors import UsageError
from rtface.frame import Box, Bytes, Float, Float32, Frame
from rtface.geometry.color_curves import code_range
from rtface.geometry.planes import Layout, Role, Samples, layout, planes
from rtface.geometry.transforms import (
    bounds,
    clip_box,
    compose,
    field_parity,
    invert,
    plane_matrix,
    scaling,
    to_cv2,
    translation,
)
from rtface.pipeline.plan import FramePlan, wants_map
from rtface.protocols import Runtime
from rtface.shots.settings import ShotList
from rtface.util.av_arrays import copy_image

AROUND = 5
"""Side in samples of the square over which change and contrast are taken."""

CropRegion = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class ChangedFace:
    """One face's part of a frame, before and after.

    Attributes:
        engine: that answered.
        box: of the samples, on the stored rows of the frame or field.
        log_scale: float32 h×w, the engine's expected error, as in `Restored`.
        before, after: float32 h×w, luma of 255.
        changed: bool h×w, where any component differs.
        strength: that was applied, 0…1.5.
        scale: crop pixels per frame pixel.
    """

    engine: str
    box: Box
    log_scale: Float32
    before: Float32
    after: Float32
    changed: Any
    strength: float
    scale: float

    def features(self) -> tuple[Float32, Float32, float]:
        """Change, contrast and mean change, as `bound` takes them."""
        change: Any = np.abs(self.after - self.before) / np.float32(self.strength)
        side = (AROUND, AROUND)
        mean = cv2.blur(self.after, side)
        variance = cv2.blur(self.after * self.after, side) - mean * mean
        overall = float(change[self.changed].mean()) if self.changed.any() else 0.0
        around: Any = cv2.blur(change, side)
        return around, np.sqrt(np.maximum(variance, np.float32(0.0))), overall

    def within(self) -> Float32:
        """`bound` of every sample, float32 h×w, of 255."""
        change, contrast, overall = self.features()
        return bound(self.engine, self.log_scale, change, contrast, overall=overall, scale=self.scale)


class InventedMaps:
    """Makes the map of each frame on which a face was corrected (`rtface.enhance.corrector.InventedMeter`).

    Args:
        regions: of the engines that say how large they expect their error to be, the part of the crop that they answer
            for: x, y, width, height.
    """

    def __init__(self, regions: Mapping[str, CropRegion]) -> None:
        self.regions = regions

    @classmethod
    def installed(cls) -> InventedMaps:
        """For the calibrated engines."""
        return cls({name: recipe_named(name).region for name in CALIBRATIONS})

    def original(self, frame: Frame) -> Any:
        """A copy of the frame's image, before anything is written to it."""
        return copy_image(frame.image)

    def measured(self, frame: Frame, original: Any, faces: Sequence[FaceTask]) -> Frame:
        """The frame with its map, whose faces' tracks have counted the share that was invented.

        Args:
            frame: with the corrections of `faces`; or one field of it.
            original: its image before.
            faces: with the engines' answers.
        """
        form = layout(frame.image.format.name)
        assert form is not None
        if original.format.name != frame.image.format.name:  # was converted for the correction
            original = native_image(original)
        parity = field_parity(frame.display, frame.field)
        views = planes(original, form, parity), planes(frame.image, form, parity)
        size = frame.image.width, frame.image.height
        whole = np.zeros((size[1], size[0]), np.uint8)
        out = whole if parity is None else whole[parity::2]
        to_plane = plane_matrix(size, frame.display, field=frame.field)
        for task in faces:
            forward = compose(to_plane, invert(task.crops.matrices[0]))
            if (face := self.changed_face(task, forward, views, form, frame)) is None:
                continue
            within, (x0, y0, x1, y1) = face.within(), face.box
            values = np.where(face.changed, np.clip(np.rint(within), 1, 255), 0).astype(np.uint8)
            np.maximum(out[y0:y1, x0:x1], values, out=out[y0:y1, x0:x1])
            if not frame.lead_in:
                task.track.figures.note(frame.time).invented = _share(task, face, within, forward)
        self._mark_others(views, form, out, frame)
        return replace(frame, invented=whole)

    def _mark_others(
        self, views: tuple[dict[Role, Samples], dict[Role, Samples]], form: Layout, out: Bytes, frame: Frame
    ) -> None:
        """Marks samples that the first stage changed where no engine did by their change: no error is predicted for
        single ones there."""
        box = (0, 0, out.shape[1], out.shape[0])
        before, after = (_luma(view, box, form, frame) for view in views)
        change: Any = np.clip(np.rint(np.abs(after - before)), 1, 255).astype(np.uint8)
        np.copyto(out, change, where=(out == 0) & _differs(views, box, form))

    def changed_face(
        self,
        task: FaceTask,
        forward: Float,
        views: tuple[dict[Role, Samples], dict[Role, Samples]],
        form: Layout,
        frame: Frame,
    ) -> ChangedFace | None:
        """What became of one face (`forward`: crop → samples); None where it lies outside the frame or unchanged."""
        restored, engine = task.restored, task.engine.name
        if task.strength.applied <= 0.0 or restored is None:
            return None
        assert isinstance(restored.log_scale, np.ndarray)  # `check_invented` refused other engines and devices
        log_scale = restored.log_scale[0]
        (x, y, w, h), (rows, columns) = self.regions[engine], log_scale.shape
        onto = compose(forward, translation(x, y), scaling(w / columns, h / rows))
        height, width = next(iter(views[0].values())).shape
        box = clip_box(bounds(onto, (0.0, 0.0, columns, rows), margin=1.0), width, height)
        if box[2] <= box[0] or box[3] <= box[1]:
            return None
        before, after = (_luma(view, box, form, frame) for view in views)
        return ChangedFace(
            engine,
            box,
            _warped(log_scale, onto, box, cv2.BORDER_REPLICATE),
            before,
            after,
            _differs(views, box, form),
            task.strength.applied,
            task.scale,
        )


def _warped(values: Float32, onto: Float, box: Box, border: int) -> Float32:
    """Values (`onto`: their pixels → samples) on the samples of a box."""
    matrix = to_cv2(compose(translation(-box[0], -box[1]), onto))
    out: Any = cv2.warpAffine(
        values, matrix, (box[2] - box[0], box[3] - box[1]), flags=cv2.INTER_LINEAR, borderMode=border
    )
    return out


def _luma(view: Mapping[Role, Samples], box: Box, form: Layout, frame: Frame) -> Float32:
    """Luma of the samples of a box, of 255; by its distance to black, where the range is limited."""
    x0, y0, x1, y1 = box
    unit = np.float32(255.0 / code_range(form.bits, full_range(form, frame.color), chroma=False).scale)
    weights: Mapping[Role, float] = {"r": LUMA[0], "g": LUMA[1], "b": LUMA[2]} if form.kind == "rgb" else {"y": 1.0}
    out = np.zeros((y1 - y0, x1 - x0), np.float32)
    for role, weight in weights.items():
        out += (view[role][y0:y1, x0:x1] >> form.shift).astype(np.float32) * (unit * np.float32(weight))
    return out


def _differs(views: tuple[dict[Role, Samples], dict[Role, Samples]], box: Box, form: Layout) -> Any:
    """Where any component of the samples of a box differs, bool h×w."""
    x0, y0, x1, y1 = box
    out = np.zeros((y1 - y0, x1 - x0), bool)
    for role, after in views[1].items():
        sx, sy = form.role_subsampling(role)
        part = np.s_[y0 // sy : -(-y1 // sy), x0 // sx : -(-x1 // sx)]
        differs = (views[0][role][part] != after[part]).repeat(sy, axis=0).repeat(sx, axis=1)
        top, left = y0 % sy, x0 % sx
        out |= differs[top : top + y1 - y0, left : left + x1 - x0]
    return out


def _share(task: FaceTask, face: ChangedFace, within: Float32, forward: Float) -> float:
    """The share of the face's samples that are expected to be farther from the truth than the input's."""
    mask = face_mask(task.crops.size, task.mesh, task.shaping.region)
    inside = _warped(mask, forward, face.box, cv2.BORDER_CONSTANT) > 0.5
    chance = chance_of_worse(np.abs(face.after - face.before), within)
    return float(chance[inside].mean()) if inside.any() else 0.0


def measure_invented(runtime: Runtime, plan: FramePlan, shots: ShotList) -> InventedMaps | None:
    """What makes maps of what was invented; None unless the plan asks for them.

    Raises:
        UsageError: an engine of the run does not say how large its error may be, its network is another than the one
            that was calibrated, or the run is on a GPU.
    """
    if not wants_map(plan.options):
        return None
    if runtime.device.name != "cpu":
        raise UsageError("the map of what was invented is made on the CPU; add {--device:cpu}", code="map_cpu")
    if learnt := plan.learnt:
        raise UsageError(
            "the map of what was invented is measured for the weights for everybody; leave out {--person:{name}}, "
            "or the map",
            code="map_person",
            name=learnt[0],
        )
    named = {runtime.engines.pick(width).name for width in (1.0, 1e4)} | set(shots.engines)
    for name in sorted(named | set(plan.treatments.engines)):
        engine = runtime.engines.named(name).name
        recipe = find_recipes().get(engine)
        check_calibrated(engine, load_recipe(recipe).weights.sha256 if recipe else "")
    return InventedMaps.installed()
