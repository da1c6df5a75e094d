"""Crops on a GPU: which samples they are made of, and the job that makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtface.device.cpu.crop import BLUR_FROM, from_planes, full_range, halved, rgb_rows
from rtface.device.cuda.affine_batch import Boxes, between_centres, footprints, inverse, joined, reach
from rtface.device.cuda.filtering import Filters, Image, Lowpass, plan_lowpass
from rtface.device.cuda.kernels import CROP_COLUMNS, CROP_FACE, CROP_JOB, CROP_ROWS, LaunchList, Scratch
from rtface.device.cuda.staging import SampleMap, grids, plane_shape
from rtface.frame import Box, Float, Float32, Frame
from rtface.geometry.color_curves import curve_of
from rtface.geometry.planes import Layout, Role

_KINDS = {"yuv": 0, "rgb": 1, "gray": 2}


@dataclass(frozen=True, slots=True)
class _Cuts:
    """All crops on one grid: the boxes of samples they are made of, and the maps from their
    pixels to the samples after low-pass and halving."""

    roles: tuple[Role, ...]
    boxes: Boxes
    lowpass: list[Lowpass | None]
    half: np.ndarray[Any, np.dtype[np.bool_]]
    inside: np.ndarray[Any, np.dtype[np.bool_]]
    m: Float32


class CropPlan:
    """The crops of one frame or field (`Device.crops`).

    Args:
        frame: its image is in `form`.
        form: a `drawable` layout.
        matrices: N×2×3, display → crop pixels.
        size: S.

    Attributes:
        parts: for each face, per component the samples that its crop is made of and that a paste inside it changes; not
            empty.
        scratch: bytes of scratch memory that `job` wants; 0 unless a crop shrinks the frame.
    """

    def __init__(self, frame: Frame, form: Layout, matrices: Float, size: int) -> None:
        self._form, self._color, self._size, self._count = form, frame.color, size, len(matrices)
        self.parts: list[dict[Role, Box]] = [{} for _ in matrices]
        self._cuts: list[_Cuts] = []
        scratch = Scratch()
        if len(matrices):
            image = frame.image
            places = from_planes(form, frame.color, (image.width, image.height), frame.display, frame.field)
            for roles in grids(form):
                forward = joined(np.asarray(matrices, np.float64), places[roles[0]])
                cuts = _cuts(forward, size, plane_shape(frame, form, roles[0]), form, roles, scratch)
                self._cuts.append(cuts)
                for part, (x0, y0, x1, y1) in zip(self.parts, cuts.boxes.tolist(), strict=True):
                    part.update(dict.fromkeys(roles, (x0, y0, x1, y1)))
        self.scratch = scratch.nbytes

    def job(self, surface: SampleMap, base: int, pixels: Sequence[int], *, native: Sequence[int] | None = None,
            tables: int = 0, scratch: int = 0) -> LaunchList:
        """Makes N crops, each float32 3×S×S, RGB 0…1.

        Args:
            surface: holds `parts`.
            base: address of its block on the GPU, 0 for a frame in GPU memory.
            pixels: where each crop goes; multiples of 8.
            native: where the same goes with HDR values as they are coded; None: nowhere.
            tables: address of `curve_tables` of the frame's colour.
            scratch: address of `self.scratch` bytes; a multiple of 256.
        """
        job, filters, form = LaunchList(), Filters(scratch), self._form
        faces = np.zeros(self._count, CROP_FACE)
        faces["pixels"] = pixels
        if native is not None:
            faces["native"] = native
        for field, cuts in zip(("first", "second"), self._cuts, strict=False):
            _describe(faces[field], cuts, surface, base, filters)
        filters.launch(job)
        head = np.zeros(1, CROP_JOB)
        head["count"], head["size"], head["kind"] = self._count, self._size, _KINDS[form.kind]
        head["rows"] = rgb_rows(form.kind, form.bits, full_range(form, self._color), self._color.matrix, 1.0)
        curve = curve_of(self._color)
        if curve is not None:
            head["entries"], head["table"] = len(curve.table), tables
            if curve.gamut is not None:
                head["wide"], head["gamut"] = 1, curve.gamut.reshape(9)
        extent = -(-self._size // CROP_COLUMNS), self._size // CROP_ROWS + 1
        job.add("crop", extent, self._count, head, faces)
        return job


def _cuts(forward: Float, size: int, shape: tuple[int, int], form: Layout, roles: tuple[Role, ...],
          scratch: Scratch) -> _Cuts:
    """As `device.cpu.crop.sample`; `forward` leads from the plane to the crops."""
    back = inverse(forward)
    shrink = footprints(back)
    most = shrink.max(1)
    boxes = reach(back, np.full((len(back), 2), size), 2.0 * np.maximum(most, 1.0) + 1.0)
    last = np.array([shape[1] - 1, shape[0] - 1])
    low = np.clip(boxes[:, :2], 0, last)  # a region wholly outside still shows the nearest edge
    high = np.maximum(np.minimum(boxes[:, 2:], last + 1), low + 1)
    sides, factors = high - low, np.ones((len(back), 2))
    lowpass: list[Lowpass | None] = [None] * len(back)
    for n in (n for n, found in enumerate(most.tolist()) if found > BLUR_FROM):
        width, height = sides[n].tolist()
        how = plan_lowpass(shrink[n].tolist(), width, height, len(roles), 1 if form.dtype.itemsize == 1 else 4, scratch)
        if how is not None:
            factors[n], sides[n], lowpass[n] = how.factors, (how.result.width, how.result.height), how
    half = np.array(["u" in roles and halved((reached, reached), (size, size)) for reached in most.tolist()])
    stretched = back.copy()
    stretched[half, :, :2] *= 2.0
    m = between_centres(stretched, low, np.zeros((len(back), 2)), 1.0 / factors)
    # With half a sample to spare for what single precision loses.
    ends = (np.where(half, size // 2, size) - 1)[:, None]
    steps = m.reshape(-1, 2, 3)[:, :, :2] * ends[:, :, None]
    inside = ((m[:, 2::3] + np.minimum(steps, 0.0).sum(2) >= 0.5)
              & (m[:, 2::3] + np.maximum(steps, 0.0).sum(2) <= sides - 1.5)).all(1)
    return _Cuts(roles, np.concatenate([low, high], axis=1), lowpass, half, inside, m)


def _describe(rows: Any, cuts: _Cuts, surface: SampleMap, base: int, filters: Filters) -> None:
    form, component = surface.form, surface.maps[cuts.roles[0]]
    step, item = form.components[cuts.roles[0]][2], form.dtype.itemsize
    sides = cuts.boxes[:, 2:] - cuts.boxes[:, :2]
    rows["pitch"], rows["step"], rows["word"], rows["shift"] = component.pitch, step, item, form.shift
    rows["width"], rows["height"] = sides.T
    for k, role in enumerate(cuts.roles):
        start = surface.address(role, base, 0, 0)
        rows["at"][:, k] = start + cuts.boxes[:, 1] * component.pitch + cuts.boxes[:, 0] * step * item
    for n, how in enumerate(cuts.lowpass):
        if how is not None:
            width, height = sides[n].tolist()
            found = filters.add(how, rows["at"][n][:len(cuts.roles)].tolist(),
                                Image(component.pitch, step, item, form.shift, width, height))
            rows["at"][n][:len(found)] = found
            to = how.result
            for name in ("pitch", "step", "word", "width", "height"):
                rows[name][n] = getattr(to, name)
    rows["half"], rows["inside"], rows["m"] = cuts.half, cuts.inside, cuts.m
