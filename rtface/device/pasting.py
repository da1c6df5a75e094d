"""Corrections into native planes on a card: which samples may change, and the job that changes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtface.device.composite import SMOOTH_FROM, Dither, Patch, Placement, overlapping, patch_box, rows
from rtface.device.filtering import Filters, Lowpass, plan_lowpass
from rtface.device.kernels import PASTE_JOB, PATCH, Job, Scratch, affine
from rtface.device.planes import Layout, Role
from rtface.device.sampling import BLUR_FROM, full_range
from rtface.device.surface import Box, Surface, grids, plane_shape
from rtface.device.transfer import code_range
from rtface.frame import Float, Frame
from rtface.geometry import (
    clip_box,
    compose,
    field_parity,
    footprint,
    invert,
    plane_matrix,
    scaling,
    to_cv2,
    translation,
)

_COMPONENTS: dict[Role, int] = {"y": 0, "u": 1, "v": 2, "r": 0, "g": 1, "b": 2}


@dataclass(frozen=True, slots=True)
class _Face:
    """One face's part of a crop that may be written."""

    index: int
    size: int
    cut: Box
    outline: Patch


@dataclass(frozen=True, slots=True)
class _Spot:
    """One face on one grid."""

    face: _Face
    target: int
    box: Box
    lowpass: Lowpass | None
    cubic: bool
    gated: bool
    to_values: Float
    to_mask: Float


class PastePlan:
    """The corrections of one frame or field (`Device.composite`).

    Args:
        frame, form: as for `CropPlan`.
        matrices: N×2×3, display → crop pixels.
        sizes: S of each face.
        supports: per face x0, y0, x1, y1 in crop pixels outside of which its mask is 0; None for the whole crop.
        neutral: says of a box of chroma samples whether all of it is gray (`composite.neutral`): chroma stays bit for
            bit there. None: it is not asked for.

    Attributes:
        boxes: per component the samples that may change, over all faces; none where nothing can.
        scratch: bytes of scratch memory that `job` wants; 0 unless a correction is shrunk.
    """

    def __init__(self, frame: Frame, form: Layout, matrices: Float, sizes: Sequence[int],
                 supports: Sequence[Box | None] | None = None, neutral: Callable[[Box], bool] | None = None) -> None:
        self._frame, self._form = frame, form
        self._rows = rows(form, frame.color)
        self._grids = grids(form)
        self.boxes: dict[Role, Box] = {}
        self._spots: list[_Spot] = []
        scratch = Scratch()
        image = frame.image
        to_planes = [plane_matrix((image.width, image.height), frame.display, field=frame.field,
                                  subsampling=form.role_subsampling(roles[0]), siting=frame.color.siting)
                     for roles in self._grids]
        faces = [_face(n, sizes[n], matrix, supports[n] if supports else None) for n, matrix in enumerate(matrices)]
        known = {id(face.outline): face for face in faces if face is not None}
        for group in overlapping([face.outline for face in known.values()]):
            for target, (roles, to_plane) in enumerate(zip(self._grids, to_planes, strict=True)):
                shape = plane_shape(frame, form, roles[0])
                placement = Placement(group, to_plane, shape)
                if placement.empty or ("u" in roles and neutral is not None and neutral(placement.box)):
                    continue
                for outline in group:
                    box = patch_box(outline, to_plane, shape)
                    if box is not None:
                        self._spots.append(_spot(known[id(outline)], target, to_plane, box, len(roles),
                                                 len(group) > 1, scratch))
        self._spots.sort(key=lambda spot: (spot.target, spot.face.index))
        for target, roles in enumerate(self._grids):
            boxes = np.array([spot.box for spot in self._spots if spot.target == target])
            if len(boxes):
                x0, y0, x1, y1 = (*boxes[:, :2].min(0).tolist(), *boxes[:, 2:].max(0).tolist())
                self.boxes.update(dict.fromkeys(roles, (x0, y0, x1, y1)))
        self.scratch = scratch.nbytes

    def job(self, surface: Surface, base: int, corrections: Sequence[int], masks: Sequence[int],
            scratch: int = 0) -> Job:
        """Adds the corrections to the samples on the card.

        Args:
            surface: holds `boxes`.
            base: address of its block on the card.
            corrections: per face the address of float32 3×S×S, RGB, already masked, native units (`uncurve_job`); what
                is not finite counts as 0.
            masks: per face the address of float32 S×S, 0…1.
            scratch: address of `self.scratch` bytes; a multiple of 256.
        """
        job, filters = Job(), Filters(scratch)
        if not self._spots:
            return job
        patches = np.zeros(len(self._spots), PATCH)
        for row, spot in zip(patches, self._spots, strict=True):
            self._describe(row, spot, corrections[spot.face.index], masks[spot.face.index], filters)
        lists = _meetings(patches["box"], patches["target"])
        patches["nears"] = [len(near) for near in lists]
        patches["near"] = np.cumsum([0, *patches["nears"][:-1]])
        head = np.zeros(1, PASTE_JOB)
        head["count"] = len(patches)
        for target, roles in enumerate(self._grids):
            if roles[0] in self.boxes:
                self._aim(head["targets"][0][target], surface, base, roles)
        filters.launch(job)
        extent = (patches["box"][:, 2:] - patches["box"][:, :2]).max(0).tolist()
        job.add("paste", (extent[0], extent[1]), len(patches), head, patches,
                np.concatenate(lists).astype(np.int32))
        return job

    def _describe(self, row: Any, spot: _Spot, correction: int, mask: int, filters: Filters) -> None:
        size, roles = spot.face.size, self._grids[spot.target]
        x0, y0, x1, y1 = spot.face.cut
        offset = 4 * (y0 * size + x0)
        at, wide, high, how = correction + offset, x1 - x0, y1 - y0, spot.lowpass
        weights = [self._rows[role] for role in roles]
        if how is None:
            row["values"], row["plane"], row["channels"] = at, size * size, 3
            row["pitch"], row["width"], row["height"] = size, wide, high
            row["weights"][:len(roles)] = weights
        else:
            found = filters.add(how, [at] * len(roles), [w.tolist() for w in weights], plane=4 * size * size,
                                pitch=4 * size, step=1, word=4, width=wide, height=high, zeros=1)
            row["values"], row["channels"] = found[0], len(roles)
            row["plane"] = (found[1] - found[0]) // 4 if len(found) > 1 else 0
            row["pitch"], row["width"], row["height"] = how.pitch // 4, how.width, how.height
            row["weights"] = np.eye(3)
        row["mask"], row["mask_pitch"], row["mask_width"], row["mask_height"] = mask + offset, size, wide, high
        row["gated"], row["cubic"], row["target"], row["box"] = spot.gated, spot.cubic, spot.target, spot.box
        row["m"], row["k"] = affine(spot.to_values), affine(spot.to_mask)

    def _aim(self, row: Any, surface: Surface, base: int, roles: tuple[Role, ...]) -> None:
        form, frame = self._form, self._frame
        x, y, *_ = self.boxes[roles[0]]
        held = surface.held[roles[0]]
        row["pitch"], row["step"], row["word"] = held.pitch, form.components[roles[0]][2], form.dtype.itemsize
        row["shift"], row["parts"], row["x"], row["y"] = form.shift, len(roles), x, y
        parity = field_parity(frame.display, frame.field)
        for n, role in enumerate(roles):
            legal = code_range(form.bits, full_range(form, frame.color), chroma=role in ("u", "v"))
            row["at"][n] = surface.address(role, base, x, y)
            row["dither_x"][n], row["dither_y"][n] = Dither(frame.pts, _COMPONENTS[role], parity).offset
            row["low"][n], row["high"][n] = legal.low, legal.high


def _face(index: int, size: int, matrix: Float, support: Box | None) -> _Face | None:
    """As `composite.cut_patch`: what lies under the mask, and one sample of zeros around it."""
    x0, y0, x1, y1 = support or (0, 0, size, size)
    cut = clip_box((x0 - 1, y0 - 1, x1 + 1, y1 + 1), size, size)
    if x1 <= x0 or y1 <= y0 or cut[2] <= cut[0] or cut[3] <= cut[1]:
        return None
    shape = np.broadcast_to(np.zeros(1, np.uint8), (cut[3] - cut[1], cut[2] - cut[0]))
    nothing = np.zeros(0, np.float32)
    return _Face(index, size, cut, Patch(nothing, nothing, shape, compose(translation(-cut[0], -cut[1]), matrix)))


def _spot(face: _Face, target: int, to_plane: Float, box: Box, components: int, shared: bool,
          scratch: Scratch) -> _Spot:
    """As `composite.warp_patch` and `warp_mask`."""
    forward = compose(to_plane, invert(face.outline.matrix))
    shrink = footprint(invert(forward))
    cubic = min(shrink) < 1.0 / SMOOTH_FROM
    height, width = face.outline.support.shape
    lowpass = plan_lowpass(shrink, width, height, components, 4, scratch)
    forward = compose(translation(-box[0], -box[1]), forward)
    undone = forward if lowpass is None else compose(forward, scaling(*lowpass.factors))
    if cubic:
        undone = compose(undone, scaling(0.5, 0.5))
    return _Spot(face, target, box, lowpass, cubic, shared or cubic or max(shrink) > BLUR_FROM,
                 invert(to_cv2(undone)), invert(to_cv2(forward)))


def _meetings(boxes: np.ndarray[Any, Any], targets: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """For each patch those on the same grid whose boxes meet its own, itself among them, in order."""
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    meet = (low < high.transpose(1, 0, 2)).all(2) & (low.transpose(1, 0, 2) < high).all(2)
    return [np.flatnonzero(row) for row in meet & (targets[:, None] == targets)]
