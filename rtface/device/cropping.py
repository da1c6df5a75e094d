"""Crops on a card: which samples they are made of, and the job that makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtface.device.filtering import Filters, Lowpass, plan_lowpass
from rtface.device.kernels import CROP_FACE, CROP_JOB, CROP_ROWS, Job, Scratch, affine
from rtface.device.planes import Layout, Role
from rtface.device.sampling import from_planes, full_range, halved, rgb_rows, source_box
from rtface.device.surface import Box, Surface, grids, plane_shape
from rtface.device.transfer import curve_of
from rtface.frame import Float, Frame
from rtface.geometry import compose, footprint, invert, scaling, to_cv2, translation

_KINDS = {"yuv": 0, "rgb": 1, "gray": 2}


@dataclass(frozen=True, slots=True)
class _Cut:
    """One crop on one grid: the box of samples it is made of, and the map from its pixels to what is left of them."""

    box: Box
    lowpass: Lowpass | None
    half: bool
    inside: bool
    to_source: Float


class CropPlan:
    """The crops of one frame or field (`Device.crops`).

    Args:
        frame: its image is in `form`.
        form: a `drawable` layout.
        matrices: N×2×3, display → crop pixels.
        size: S.

    Attributes:
        boxes: per component the samples that crops are made of and that pastes inside them change, over all faces; not
            empty. Fit for `Surface`.
        scratch: bytes of scratch memory that `job` wants; 0 unless a crop shrinks the picture.
    """

    def __init__(self, frame: Frame, form: Layout, matrices: Float, size: int) -> None:
        self._form, self._color, self._size, self._count = form, frame.color, size, len(matrices)
        self.boxes: dict[Role, Box] = {}
        self._cuts: list[tuple[tuple[Role, ...], list[_Cut]]] = []
        scratch = Scratch()
        image = frame.image
        places = from_planes(form, frame.color, (image.width, image.height), frame.display, frame.field)
        for roles in grids(form):
            shape = plane_shape(frame, form, roles[0])
            cuts = [_cut(compose(matrix, places[roles[0]]), size, shape, form, roles, scratch) for matrix in matrices]
            self._cuts.append((roles, cuts))
            if cuts:
                low, high = np.array([cut.box for cut in cuts]).reshape(-1, 2, 2).transpose(1, 0, 2)
                x0, y0, x1, y1 = (*low.min(0).tolist(), *high.max(0).tolist())
                self.boxes.update(dict.fromkeys(roles, (x0, y0, x1, y1)))
        self.scratch = scratch.nbytes

    def job(self, surface: Surface, base: int, pixels: Sequence[int], *, native: Sequence[int] | None = None,
            tables: int = 0, scratch: int = 0) -> Job:
        """Makes N crops, each float32 3×S×S, RGB 0…1.

        Args:
            surface: holds `boxes`.
            base: address of its block on the card.
            pixels: where each crop goes; multiples of 4.
            native: where the same goes with HDR values as they are coded; None: nowhere.
            tables: address of `curve_tables` of the frame's colour.
            scratch: address of `self.scratch` bytes; a multiple of 256.
        """
        job, filters, form = Job(), Filters(scratch), self._form
        faces = np.zeros(self._count, CROP_FACE)
        faces["pixels"] = pixels
        if native is not None:
            faces["native"] = native
        for field, (roles, cuts) in zip(("first", "second"), self._cuts, strict=False):
            for row, cut in zip(faces[field], cuts, strict=True):
                _describe(row, cut, surface, base, roles, filters)
        filters.launch(job)
        head = np.zeros(1, CROP_JOB)
        head["count"], head["size"], head["kind"] = self._count, self._size, _KINDS[form.kind]
        head["rows"] = np.array(rgb_rows(form.kind, form.bits, full_range(form, self._color), self._color.matrix, 1.0))
        curve = curve_of(self._color)
        if curve is not None:
            head["entries"], head["table"] = len(curve.table), tables
            if curve.gamut is not None:
                head["wide"], head["gamut"] = 1, curve.gamut.reshape(9)
        strips = self._size // CROP_ROWS + 1
        job.add("crop", (self._size, strips), self._count, head, faces)
        return job


def _cut(matrix: Float, size: int, shape: tuple[int, int], form: Layout, roles: tuple[Role, ...],
         scratch: Scratch) -> _Cut:
    """As `sampling.sample`; `matrix` leads from the plane to the crop."""
    back = invert(matrix)
    shrink = footprint(back)
    box = source_box(back, (size, size), shape)
    width, height = box[2] - box[0], box[3] - box[1]
    word = 1 if form.dtype.itemsize == 1 else 4
    lowpass = plan_lowpass(shrink, width, height, len(roles), word, scratch)
    forward = compose(matrix, translation(box[0], box[1]))
    if lowpass is not None:
        forward = compose(forward, scaling(*lowpass.factors))
        width, height = lowpass.width, lowpass.height
    half = "u" in roles and halved(shrink, (size, size))
    if half:
        forward = compose(scaling(0.5, 0.5), forward)
    to_source = invert(to_cv2(forward))
    last = (size // 2 if half else size) - 1
    (a, b, x), (c, d, y) = to_source.tolist()
    # With half a sample to spare for what single precision loses.
    inside = (min(a, 0) * last + min(b, 0) * last + x >= 0.5 and min(c, 0) * last + min(d, 0) * last + y >= 0.5
              and max(a, 0) * last + max(b, 0) * last + x <= width - 1.5
              and max(c, 0) * last + max(d, 0) * last + y <= height - 1.5)
    return _Cut(box, lowpass, half, inside, to_source)


def _describe(row: Any, cut: _Cut, surface: Surface, base: int, roles: tuple[Role, ...], filters: Filters) -> None:
    form = surface.form
    x0, y0, x1, y1 = cut.box
    at = [surface.address(role, base, x0, y0) for role in roles]
    lies: dict[str, int] = {
        "pitch": surface.held[roles[0]].pitch, "step": form.components[roles[0]][2], "word": form.dtype.itemsize,
        "shift": form.shift, "width": x1 - x0, "height": y1 - y0}
    if cut.lowpass is not None:
        how = cut.lowpass
        at = filters.add(how, at, (), **lies)
        lies = {"pitch": how.pitch, "step": 1, "word": how.word, "width": how.width, "height": how.height}
    row["at"][:len(at)] = at
    for name, value in lies.items():
        row[name] = value
    row["half"], row["inside"], row["m"] = cut.half, cut.inside, affine(cut.to_source)
