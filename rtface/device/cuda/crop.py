"""Plans crops on a GPU: the samples they need, and the job that cuts them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from rtface.device.cpu.crop import BLUR_FROM, from_planes, full_range, halved, rgb_rows
from rtface.device.cuda.affine_map import Map, between_centres
from rtface.device.cuda.filtering import Filters, Image, Lowpass, plan_lowpass
from rtface.device.cuda.kernels import CROP_COLUMNS, CROP_ROWS, LaunchList, Scratch
from rtface.device.cuda.staging import SampleMap, grids, plane_shape
from rtface.device.cuda.structs import CROP_FACE, CROP_JOB, packed
from rtface.frame import Box, Float, Frame
from rtface.geometry.color_curves import curve_of
from rtface.geometry.planes import Layout, Role
from rtface.geometry.transforms import bounds, compose, footprint, invert, scaling

_KINDS = {"yuv": 0, "rgb": 1, "gray": 2}
_NO_SOURCE = (0,) * 17
"""The values of a `SOURCE` that a crop does not use."""


class _Cut(NamedTuple):
    """One crop on one grid: the box of its samples, and the map from its pixels to these samples after low-pass and
    halving."""

    box: Box
    lowpass: Lowpass | None
    half: bool
    inside: bool
    m: Map


class CropPlan:
    """The crops of one frame or field (`Device.crops`).

    Args:
        frame: the frame or field; its image has layout `form`.
        form: layout of the frame's image.
        matrices: N×2×3, display → crop pixels.
        size: S, the side of the crops.

    Attributes:
        parts: for each face and component, the box of samples that the crop reads and compositing changes; never empty.
        scratch: bytes of scratch memory that `job` needs; 0 unless a crop shrinks the frame.
    """

    def __init__(self, frame: Frame, form: Layout, matrices: Float, size: int) -> None:
        self._form, self._color, self._size, self._count = form, frame.color, size, len(matrices)
        self.parts: list[dict[Role, Box]] = [{} for _ in matrices]
        self._cuts: list[tuple[tuple[Role, ...], list[_Cut]]] = []
        scratch = Scratch()
        if len(matrices):
            image = frame.image
            places = from_planes(form, frame.color, (image.width, image.height), frame.display, frame.field)
            for roles in grids(form):
                place, (height, width) = places[roles[0]], plane_shape(frame, form, roles[0])
                to_planes = [invert(compose(matrix, place)) for matrix in matrices]
                cuts = [_cut(to_plane, size, width, height, form, roles, scratch) for to_plane in to_planes]
                self._cuts.append((roles, cuts))
                for part, cut in zip(self.parts, cuts, strict=True):
                    part.update(dict.fromkeys(roles, cut.box))
        self.scratch = scratch.nbytes

    def job(
        self,
        surface: SampleMap,
        base: int,
        pixels: Sequence[int],
        *,
        native: Sequence[int] | None = None,
        tables: int = 0,
        scratch: int = 0,
    ) -> LaunchList:
        """Cuts N crops, each float32 3×S×S, RGB 0…1.

        Args:
            surface: map of the frame's samples on the GPU; must contain `parts`.
            base: address of the samples' block on the GPU, 0 for a frame in GPU memory.
            pixels: addresses of the crops; multiples of 8.
            native: addresses of the same crops in coded HDR values, if needed.
            tables: address of `curve_tables` of the frame's colour.
            scratch: address of `self.scratch` bytes; a multiple of 256.
        """
        job, filters, form = LaunchList(), Filters(scratch), self._form
        sources = [[_source(cut, roles, surface, base, filters) for cut in cuts] for roles, cuts in self._cuts]
        if len(sources) == 1:
            sources.append([_NO_SOURCE] * self._count)
        faces = (
            [
                packed(CROP_FACE, *first, *second, crop, coded)
                for first, second, crop, coded in zip(*sources, pixels, native or [0] * self._count, strict=True)
            ]
            if sources
            else []
        )
        filters.launch(job)
        curve = curve_of(self._color)
        entries, gamut = (0, None) if curve is None else (len(curve.table), curve.gamut)
        rows = rgb_rows(form.kind, form.bits, full_range(form, self._color), self._color.matrix, 1.0)
        head = packed(
            CROP_JOB,
            self._count,
            self._size,
            _KINDS[form.kind],
            entries,
            tables if entries else 0,
            gamut is not None,
            0,
            *rows[0],
            *rows[1],
            *rows[2],
            *(gamut.reshape(9).tolist() if gamut is not None else (0.0,) * 9),
            0.0,
        )
        extent = -(-self._size // CROP_COLUMNS), self._size // CROP_ROWS + 1
        job.add("crop", extent, self._count, head, *faces)
        return job


def _cut(
    to_plane: Float, size: int, width: int, height: int, form: Layout, roles: tuple[Role, ...], scratch: Scratch
) -> _Cut:
    """Plans a crop like `device.cpu.crop.sample`. `to_plane` maps the crop to a plane (`width` × `height`)."""
    shrink = footprint(to_plane)
    max_shrink = max(shrink)
    x0, y0, x1, y1 = bounds(to_plane, (0, 0, size, size), 2.0 * max(max_shrink, 1.0) + 1.0)
    x0, y0 = min(max(x0, 0), width - 1), min(max(y0, 0), height - 1)  # a region outside the plane shows its edge
    x1, y1 = max(min(x1, width), x0 + 1), max(min(y1, height), y0 + 1)
    wide, high = x1 - x0, y1 - y0
    factors, lowpass = (1, 1), None
    if max_shrink > BLUR_FROM:
        lowpass = plan_lowpass(shrink, wide, high, len(roles), 1 if form.dtype.itemsize == 1 else 4, scratch)
        if lowpass is not None:
            factors, wide, high = lowpass.factors, lowpass.result.width, lowpass.result.height
    half = "u" in roles and halved((max_shrink, max_shrink), (size, size))
    if half:
        to_plane = compose(to_plane, scaling(2.0, 2.0))
    m = between_centres(to_plane, (x0, y0), (0.0, 0.0), (1.0 / factors[0], 1.0 / factors[1]))
    # The margin of half a sample allows for rounding to single precision.
    last = (size // 2 if half else size) - 1
    inside = all(
        first + last * (min(i, 0.0) + min(j, 0.0)) >= 0.5 and first + last * (max(i, 0.0) + max(j, 0.0)) <= side - 1.5
        for i, j, first, side in ((*m[:3], wide), (*m[3:], high))
    )
    return _Cut((x0, y0, x1, y1), lowpass, half, inside, m)


def _source(cut: _Cut, roles: tuple[Role, ...], surface: SampleMap, base: int, filters: Filters) -> tuple[Any, ...]:
    """Returns the values of a `SOURCE`."""
    form, component = surface.form, surface.maps[roles[0]]
    x0, y0, x1, y1 = cut.box
    image = Image(component.pitch, form.components[roles[0]][2], form.dtype.itemsize, form.shift, x1 - x0, y1 - y0)
    at, shift = [surface.address(role, base, x0, y0) for role in roles], image.shift
    if cut.lowpass is not None:
        at = filters.add(cut.lowpass, at, image)
        image = cut.lowpass.result
    return (
        *at,
        *(0,) * (3 - len(at)),
        image.pitch,
        image.step,
        image.word,
        shift,
        image.width,
        image.height,
        cut.half,
        cut.inside,
        *cut.m,
    )
