"""Corrections into native planes on a GPU: which samples may change, and the job that changes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtface.device.cpu.composite import SMOOTH_FROM, Dither, overlapping, rows
from rtface.device.cpu.crop import BLUR_FROM, from_planes, full_range
from rtface.device.cuda.affine_batch import Boxes, between_centres, footprints, inverse, joined, reach, union
from rtface.device.cuda.filtering import Filters, Image, Lowpass, plan_lowpass
from rtface.device.cuda.kernels import (
    PASTE_JOB,
    PATCH,
    TINT,
    TINT_COLOURED,
    TINT_JOB,
    TINT_ROWS,
    LaunchList,
    Scratch,
    Struct,
)
from rtface.device.cuda.staging import SampleMap, grids, plane_shape
from rtface.frame import Box, Float, Frame
from rtface.geometry.color_curves import code_range
from rtface.geometry.planes import Layout, Role
from rtface.geometry.transforms import field_parity

_COMPONENTS: dict[Role, int] = {"y": 0, "u": 1, "v": 2, "r": 0, "g": 1, "b": 2}


@dataclass(frozen=True, slots=True)
class _Faces:
    """The parts of the crops that may be written: under the mask, and one sample of zeros around it.

    Attributes:
        index: which of the caller's faces.
        size: S of each.
        low, sides: N×2, where a part begins in its crop, and its width and height.
        matrices: display → part.
        groups: numbers of faces whose parts meet.
    """

    index: NDArray[np.int64]
    size: NDArray[np.int64]
    low: NDArray[np.int64]
    sides: NDArray[np.int64]
    matrices: Float
    groups: list[list[int]]


@dataclass(frozen=True, slots=True)
class _Spots:
    """The faces that meet one grid: their numbers, what is done to each, and their rows but for addresses."""

    roles: tuple[Role, ...]
    faces: NDArray[np.int64]
    lowpass: list[Lowpass | None]
    rows: Struct


class PastePlan:
    """The corrections of one frame or field (`Device.paste`).

    Args:
        frame, form: as for `CropPlan`.
        matrices: N×2×3, display → crop pixels.
        sizes: S of each face.
        supports: per face x0, y0, x1, y1 in crop pixels outside of which its mask is 0; None for the whole crop.
        neutral: says of a box of chroma samples whether all of it is gray (`composite.neutral`): chroma stays bit for
            bit there. None: it is not asked for.
        ask: have the GPU find that out by itself, for samples that the host does not have.

    Attributes:
        boxes: per component the samples that may change, over all faces; none where nothing can.
        parts: the same for each face.
        scratch: bytes of scratch memory that `job` wants; 0 unless a correction is shrunk.
    """

    def __init__(self, frame: Frame, form: Layout, matrices: Float, sizes: Sequence[int],
                 supports: Sequence[Box | None] | None = None, neutral: Callable[[Box], bool] | None = None, *,
                 ask: bool = False) -> None:
        self._frame, self._form = frame, form
        self._weights = rows(form, frame.color)
        self._faces = faces = _faces(np.asarray(matrices, np.float64).reshape(-1, 2, 3), sizes, supports)
        self._spots: list[_Spots] = []
        self._tints: list[Box] = []  # of chroma that may be gray
        self.boxes: dict[Role, Box] = {}
        self.parts: list[dict[Role, Box]] = [{} for _ in sizes]
        scratch = Scratch()
        if len(faces.index):
            image = frame.image
            places = from_planes(form, frame.color, (image.width, image.height), frame.display, frame.field)
            for target, roles in enumerate(grids(form)):
                spots = self._meet(target, roles, places[roles[0]], neutral, ask, scratch)
                self._spots.append(spots)
                if len(spots.faces):
                    self.boxes.update(dict.fromkeys(roles, union(spots.rows["box"])))
                    chosen = faces.index[spots.faces].tolist()
                    for face, (x0, y0, x1, y1) in zip(chosen, spots.rows["box"].tolist(), strict=True):
                        self.parts[face].update(dict.fromkeys(roles, (x0, y0, x1, y1)))
        self.scratch = scratch.nbytes

    def _meet(self, target: int, roles: tuple[Role, ...], place: Float, neutral: Callable[[Box], bool] | None,
              ask: bool, scratch: Scratch) -> _Spots:
        """As `composite.Placement`, `warp_patch` and `warp_mask`; `place` leads from the plane to the display."""
        faces, form = self._faces, self._form
        back = joined(faces.matrices, place)
        height, width = plane_shape(self._frame, form, roles[0])
        boxes = reach(inverse(back), faces.sides, 1.0)
        boxes = np.concatenate([np.maximum(boxes[:, :2], 0), np.minimum(boxes[:, 2:], (width, height))], axis=1)
        wanted = np.logical_and(boxes[:, 0] < boxes[:, 2], boxes[:, 1] < boxes[:, 3])
        shared, tint = np.zeros(len(wanted), bool), np.zeros(len(wanted), np.int64)
        for group in faces.groups:
            shared[group] = len(group) > 1
            inside = [n for n in group if wanted[n]]
            if not inside or "u" not in roles:
                continue
            box = union(boxes[inside])
            if neutral is not None and neutral(box):
                wanted[inside] = False
            elif ask:
                self._tints.append(box)
                tint[inside] = len(self._tints)
        chosen = np.flatnonzero(wanted)
        back, boxes, sides = back[chosen], boxes[chosen], faces.sides[chosen].copy()
        shrink = footprints(back)
        cubic = np.less(shrink.min(1), 1.0 / SMOOTH_FROM)
        spread = np.greater(shrink.max(1), BLUR_FROM)
        factors = np.ones((len(chosen), 2))
        lowpass: list[Lowpass | None] = [None] * len(chosen)
        out = np.zeros(len(chosen), PATCH)
        out["pitch"] = out["mask_pitch"] = faces.size[chosen]
        out["plane"], out["channels"] = faces.size[chosen] ** 2, 3
        out["weights"][:, :len(roles)] = [self._weights[role] for role in roles]
        for n in (n for n, found in enumerate(spread.tolist()) if found):
            wide, high = sides[n].tolist()
            how = plan_lowpass(shrink[n].tolist(), wide, high, len(roles), 4, scratch, mixed=True)
            if how is not None:
                to = how.result
                factors[n], sides[n], lowpass[n] = how.factors, (to.width, to.height), how
                out["pitch"][n], out["plane"][n], out["channels"][n] = to.pitch // 4, 0, len(roles)
                out["weights"][n] = np.eye(3)
        origin = np.zeros((len(chosen), 2))
        out["width"], out["height"] = sides.T
        out["mask_width"], out["mask_height"] = faces.sides[chosen].T
        out["gated"], out["cubic"], out["target"] = shared[chosen] | cubic | spread, cubic, target
        out["box"] = boxes
        out["coloured"] = tint[chosen]  # counted from 1; `job` knows the place
        out["m"] = between_centres(back, origin, boxes[:, :2], np.where(cubic, 2.0, 1.0)[:, None] / factors)
        out["k"] = between_centres(back, origin, boxes[:, :2], np.ones((len(chosen), 2)))
        return _Spots(roles, chosen, lowpass, out)

    def job(self, surface: SampleMap, base: int, corrections: Sequence[int], masks: Sequence[int],
            scratch: int = 0) -> LaunchList:
        """Adds the corrections to the samples on the GPU.

        Args:
            surface: holds `boxes`.
            base: address of its block on the GPU.
            corrections: per face the address of float32 3×S×S, RGB, already masked, native units (`uncurve_job`); what
                is not finite counts as 0.
            masks: per face the address of float32 S×S, 0…1.
            scratch: address of `self.scratch` bytes; a multiple of 256.
        """
        job, filters = LaunchList(), Filters(scratch)
        if not self.boxes:
            return job
        head = np.zeros(1, PASTE_JOB)
        for target, spots in enumerate(self._spots):
            self._describe(spots, np.array(corrections, np.int64), np.array(masks, np.int64), filters)
            if len(spots.faces):
                self._aim(head["targets"][0][target], surface, base, spots.roles)
        # Not np.concatenate, which compares their types field by field.
        patches = np.frombuffer(bytearray().join(spots.rows.tobytes() for spots in self._spots), PATCH)
        found = self._ask(job, surface, base) if self._tints else np.zeros(1, np.int64)
        head["count"] = len(patches)
        near, patches["nears"] = _meetings(patches["box"], patches["target"])
        patches["near"] = np.cumsum(patches["nears"]) - patches["nears"]
        filters.launch(job)
        patches["coloured"] = np.where(patches["coloured"] > 0, found[patches["coloured"]] - job.nbytes, 0)
        extent = (patches["box"][:, 2:] - patches["box"][:, :2]).max(0).tolist()
        job.add("paste", (extent[0], extent[1]), len(patches), head, patches, near.astype(np.int32))
        return job

    def _ask(self, job: LaunchList, surface: SampleMap, base: int) -> NDArray[np.int64]:
        """Has the GPU find out which boxes of chroma have colour; where in the job it says so, from 1 on."""
        form, component = self._form, surface.maps["u"]
        unit = 1 << (form.bits - 8)
        head, rows = np.zeros(1, TINT_JOB), np.zeros(len(self._tints), TINT)
        head["count"] = len(rows)
        for row, (x0, y0, x1, y1) in zip(rows, self._tints, strict=True):
            row["at"] = [surface.address(role, base, x0, y0) for role in ("u", "v")]
            row["pitch"], row["step"] = component.pitch, form.components["u"][2]
            row["word"], row["shift"] = form.dtype.itemsize, form.shift
            row["width"], row["height"], row["low"], row["high"] = x1 - x0, y1 - y0, 127 * unit, 129 * unit
        first = job.nbytes + TINT_JOB.itemsize + TINT_COLOURED
        job.add("tint", (int(rows["width"].max()), -(-int(rows["height"].max()) // TINT_ROWS)), len(rows), head, rows)
        return first + TINT.itemsize * np.arange(-1, len(rows))

    def _describe(self, spots: _Spots, corrections: NDArray[np.int64], masks: NDArray[np.int64],
                  filters: Filters) -> None:
        faces = self._faces
        size, low = faces.size[spots.faces], faces.low[spots.faces]
        offset = 4 * (low[:, 1] * size + low[:, 0])
        index = faces.index[spots.faces]
        values = corrections[index] + offset
        spots.rows["values"], spots.rows["mask"] = values, masks[index] + offset
        weights = [tuple(self._weights[role].tolist()) for role in spots.roles]
        for n, how in enumerate(spots.lowpass):
            if how is not None:
                side = int(size[n])
                wide, high = faces.sides[spots.faces[n]].tolist()
                found = filters.add(how, [int(values[n])] * len(weights), Image(4 * side, 1, 4, 0, wide, high), weights,
                                    plane=4 * side * side)
                spots.rows["values"][n] = found[0]
                if len(found) > 1:
                    spots.rows["plane"][n] = (found[1] - found[0]) // 4

    def _aim(self, row: Any, surface: SampleMap, base: int, roles: tuple[Role, ...]) -> None:
        form, frame = self._form, self._frame
        x, y, *_ = self.boxes[roles[0]]
        component = surface.maps[roles[0]]
        row["pitch"], row["step"], row["word"] = component.pitch, form.components[roles[0]][2], form.dtype.itemsize
        row["shift"], row["parts"], row["x"], row["y"] = form.shift, len(roles), x, y
        parity = field_parity(frame.display, frame.field)
        for n, role in enumerate(roles):
            legal = code_range(form.bits, full_range(form, frame.color), chroma=role in ("u", "v"))
            row["at"][n] = surface.address(role, base, x, y)
            row["dither_x"][n], row["dither_y"][n] = Dither(frame.pts, _COMPONENTS[role], parity).offset
            row["low"][n], row["high"][n] = legal.low, legal.high


def _faces(matrices: Float, sizes: Sequence[int], supports: Sequence[Box | None] | None) -> _Faces:
    """As `composite.cut_patch` and `overlapping`; faces without a mask are left out."""
    size = np.array(sizes, np.int64)
    given = [(support if supports else None) or (0, 0, s, s)
             for s, support in zip(sizes, supports or [None] * len(sizes), strict=True)]
    box = np.array(given, np.int64).reshape(-1, 4)
    low = np.maximum(box[:, :2] - 1, 0)
    high = np.minimum(box[:, 2:] + 1, size[:, None])
    index = np.flatnonzero((box[:, :2] < box[:, 2:]).all(1) & (low < high).all(1))
    low, sides, maps = low[index], (high - low)[index], matrices[index].copy()
    maps[:, :, 2] -= low
    seen = reach(inverse(maps), sides, 0.0).tolist() if len(index) else []
    return _Faces(index, size[index], low, sides, maps, overlapping(seen))


def _meetings(boxes: Boxes, targets: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each patch those on the same grid whose boxes meet its own, itself among them, in order; and how many."""
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    meet = (low < high.transpose(1, 0, 2)).all(2) & (low.transpose(1, 0, 2) < high).all(2)
    meet &= targets[:, None] == targets
    return np.nonzero(meet)[1], meet.sum(1)
