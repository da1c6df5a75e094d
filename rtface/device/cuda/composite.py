"""Plans the addition of corrections to native planes on a GPU: the affected samples, and the job."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rtface.device.cpu.composite import Dither, gray_rows, rows
from rtface.device.cpu.crop import from_planes, full_range
from rtface.device.cuda.affine_map import union
from rtface.device.cuda.filtering import Filters, Image
from rtface.device.cuda.kernels import TINT_ROWS, LaunchList, Scratch
from rtface.device.cuda.paste_spots import PasteFace, Spot, faces_of, spot_of
from rtface.device.cuda.staging import SampleMap, grids, plane_shape
from rtface.device.cuda.structs import PASTE_JOB, PATCH, TINT, TINT_COLOURED, TINT_JOB, packed
from rtface.frame import Box, Float, Frame
from rtface.geometry.color_curves import code_range
from rtface.geometry.planes import Layout, Role
from rtface.geometry.transforms import bounds, clip_box, compose, field_parity, invert

_NO_TARGET: tuple[float, ...] = (0,) * 23
"""The values of a `TARGET` that compositing does not use."""
_UNMIXED = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]  # for corrections already mixed by `area`
_COMPONENTS: dict[Role, int] = {"y": 0, "u": 1, "v": 2, "r": 0, "g": 1, "b": 2}


class PastePlan:
    """The corrections of one frame or field (`Device.paste`).

    Args:
        frame, form: the frame and its layout, as for `CropPlan`.
        matrices: N×2×3, display → crop pixels.
        sizes: S of each face.
        supports: per face the box (x0, y0, x1, y1, in crop pixels) outside which its mask is 0; None: the whole crop.
        neutral: function that returns whether all chroma samples of a box are gray (`composite.neutral`). Gray chroma
            stays bit-identical, and RGB stays gray if all boxes are gray. None skips the check.
        probe: whether the GPU checks for gray chroma, for samples that are not on the host.

    Attributes:
        boxes: per component the box of samples that may change, over all faces; empty if no sample can change.
        parts: the boxes of each face, by component.
        scratch: bytes of scratch memory that `job` needs; 0 unless a correction is shrunk.
    """

    def __init__(
        self,
        frame: Frame,
        form: Layout,
        matrices: Float,
        sizes: Sequence[int],
        supports: Sequence[Box | None] | None = None,
        neutral: Callable[[Box], bool] | None = None,
        *,
        probe: bool = False,
    ) -> None:
        self._frame, self._form = frame, form
        self._colourless = form.kind == "rgb" and neutral is not None
        faces, groups = faces_of(matrices, sizes, supports)
        self._spots: list[tuple[tuple[Role, ...], list[Spot]]] = []
        self._tints: list[Box] = []  # boxes of chroma that may be gray
        self.boxes: dict[Role, Box] = {}
        self.parts: list[dict[Role, Box]] = [{} for _ in sizes]
        scratch = Scratch()
        if faces:
            image = frame.image
            places = from_planes(form, frame.color, (image.width, image.height), frame.display, frame.field)
            for roles in grids(form):
                spots = self._spots_on(faces, groups, roles, places[roles[0]], neutral, probe, scratch)
                self._spots.append((roles, spots))
                if spots:
                    self.boxes.update(dict.fromkeys(roles, union(spot.box for spot in spots)))
                for spot in spots:
                    self.parts[spot.face.number].update(dict.fromkeys(roles, spot.box))
        self.scratch = scratch.nbytes
        weights = gray_rows if self._colourless else rows
        self._weights = {role: tuple(row.tolist()) for role, row in weights(form, frame.color).items()}

    def _spots_on(
        self,
        faces: list[PasteFace],
        groups: list[list[int]],
        roles: tuple[Role, ...],
        place: Float,
        neutral: Callable[[Box], bool] | None,
        probe: bool,
        scratch: Scratch,
    ) -> list[Spot]:
        """Returns a grid's spots like `composite.Placement` and `warp_patch`. `place` maps the plane to the display."""
        height, width = plane_shape(self._frame, self._form, roles[0])
        to_parts = [compose(face.m, place) for face in faces]
        boxes: list[Box | None] = []
        for face, to_part in zip(faces, to_parts, strict=True):
            box = clip_box(bounds(invert(to_part), (0.0, 0.0, face.width, face.height), 1.0), width, height)
            boxes.append(box if box[0] < box[2] and box[1] < box[3] else None)
        overlapped, gray_tests = [False] * len(faces), [0] * len(faces)
        for group in groups:
            for n in group:
                overlapped[n] = len(group) > 1
            group_boxes = [box for n in group if (box := boxes[n]) is not None]
            if not group_boxes or "y" in roles:
                continue
            box = union(group_boxes)
            if "r" in roles:
                self._colourless = self._colourless and neutral is not None and neutral(box)
            elif neutral is not None and neutral(box):
                for n in group:
                    boxes[n] = None
            elif probe:
                self._tints.append(box)
                for n in group:
                    gray_tests[n] = len(self._tints)
        return [
            spot_of(face, box, to_part, group, gray_test, len(roles), scratch)
            for face, box, to_part, group, gray_test in zip(faces, boxes, to_parts, overlapped, gray_tests, strict=True)
            if box is not None
        ]

    def job(
        self, surface: SampleMap, base: int, corrections: Sequence[int], masks: Sequence[int], scratch: int = 0
    ) -> LaunchList:
        """Adds the corrections to the samples on the GPU.

        Args:
            surface: map of the frame's samples on the GPU; must contain `boxes`.
            base: address of the samples' block on the GPU.
            corrections: per face the address of its masked correction: float32 3×S×S, RGB, in native units
                (`uncurve_job`). Non-finite values count as 0.
            masks: per face the address of its mask, float32 S×S, 0…1.
            scratch: address of `self.scratch` bytes; a multiple of 256.
        """
        job, filters = LaunchList(), Filters(scratch)
        if not self.boxes:
            return job
        sources = [
            [self._source(spot, roles, corrections[spot.face.number], filters) for spot in spots]
            for roles, spots in self._spots
        ]
        tints_at = self._probe(job, surface, base) if self._tints else 0
        filters.launch(job)
        patches, neighbours = list[bytes](), list[int]()
        for target, ((_, spots), values) in enumerate(zip(self._spots, sources, strict=True)):
            first_patch = len(patches)
            for spot, value in zip(spots, values, strict=True):
                x0, y0, x1, y1 = spot.box
                overlaps = [
                    first_patch + n
                    for n, (a0, b0, a1, b1) in enumerate(other.box for other in spots)
                    if x0 < a1 and a0 < x1 and y0 < b1 and b0 < y1
                ]
                result_at = tints_at + TINT.itemsize * (spot.gray_test - 1) - job.nbytes if spot.gray_test else 0
                patches.append(
                    self._patch(
                        spot, target, value, masks[spot.face.number], (len(neighbours), len(overlaps)), result_at
                    )
                )
                neighbours += overlaps
        first, second = (
            *(self._target(surface, base, roles) if spots else _NO_TARGET for roles, spots in self._spots),
            _NO_TARGET,
        )[:2]
        head = packed(PASTE_JOB, len(patches), 0, *first, *second)
        boxes = [spot.box for _, spots in self._spots for spot in spots]
        extent = max(x1 - x0 for x0, _, x1, _ in boxes), max(y1 - y0 for _, y0, _, y1 in boxes)
        job.add("paste", extent, len(patches), head, *patches, np.array(neighbours, np.int32))
        return job

    def _probe(self, job: LaunchList, surface: SampleMap, base: int) -> int:
        """Adds a check whether chroma boxes are gray. Returns the offset of the first result in the job."""
        form, component = self._form, surface.maps["u"]
        unit = 1 << (form.bits - 8)
        rows = [
            packed(
                TINT,
                *(surface.address(role, base, x0, y0) for role in ("u", "v")),
                component.pitch,
                form.components["u"][2],
                form.dtype.itemsize,
                form.shift,
                x1 - x0,
                y1 - y0,
                127 * unit,
                129 * unit,
                0,
                0,
            )
            for x0, y0, x1, y1 in self._tints
        ]
        first = job.nbytes + TINT_JOB.itemsize + TINT_COLOURED
        extent = (
            max(x1 - x0 for x0, _, x1, _ in self._tints),
            -(-max(y1 - y0 for _, y0, _, y1 in self._tints) // TINT_ROWS),
        )
        job.add("tint", extent, len(rows), packed(TINT_JOB, len(rows), 0), *rows)
        return first

    def _source(
        self, spot: Spot, roles: tuple[Role, ...], correction: int, filters: Filters
    ) -> tuple[int, int, int, int, int, int]:
        """Returns a `PATCH`'s address, plane, pitch, width, height and channels. `correction` is the address of the
        whole crop's correction."""
        face, lowpass = spot.face, spot.lowpass
        size = face.size
        at = correction + 4 * (face.top * size + face.left)
        if lowpass is None:
            return at, size * size, size, face.width, face.height, 3
        addresses = filters.add(
            lowpass,
            [at] * len(roles),
            Image(4 * size, 1, 4, 0, face.width, face.height),
            [self._weights[role] for role in roles],
            plane=4 * size * size,
        )
        to = lowpass.result
        plane = (addresses[1] - addresses[0]) // 4 if len(addresses) > 1 else 0
        return addresses[0], plane, to.pitch // 4, to.width, to.height, len(roles)

    def _patch(
        self,
        spot: Spot,
        target: int,
        source: tuple[int, int, int, int, int, int],
        mask: int,
        neighbours: tuple[int, int],
        result_at: int,
    ) -> bytes:
        """Packs a `PATCH`. `mask` is the address of the whole mask; `neighbours` is start and length in the list of
        overlapping patches; `result_at` is the offset of `tint`'s result, 0 without a check."""
        face, (values, plane, pitch, width, height, channels) = spot.face, source
        weights = [self._weights[role] for role in self._spots[target][0]] if spot.lowpass is None else _UNMIXED
        weights = [*weights, *[(0.0, 0.0, 0.0)] * (3 - len(weights))]
        return packed(
            PATCH,
            values,
            mask + 4 * (face.top * face.size + face.left),
            plane,
            pitch,
            width,
            height,
            channels,
            face.size,
            face.width,
            face.height,
            spot.shared or spot.cubic or spot.spread,
            spot.cubic,
            target,
            *spot.box,
            *neighbours,
            *weights[0],
            *weights[1],
            *weights[2],
            *spot.to_correction,
            *spot.to_mask,
            result_at,
        )

    def _target(self, surface: SampleMap, base: int, roles: tuple[Role, ...]) -> tuple[float, ...]:
        """Returns the values of a `TARGET`."""
        form, frame = self._form, self._frame
        x, y, *_ = self.boxes[roles[0]]
        component, padding = surface.maps[roles[0]], (0,) * (3 - len(roles))
        parity = field_parity(frame.display, frame.field)
        ranges = [code_range(form.bits, full_range(form, frame.color), chroma=role in ("u", "v")) for role in roles]
        dither_x, dither_y = zip(
            *(Dither(frame.pts, 0 if self._colourless else _COMPONENTS[role], parity).offset for role in roles),
            strict=True,
        )
        return (
            *(surface.address(role, base, x, y) for role in roles),
            *padding,
            component.pitch,
            form.components[roles[0]][2],
            form.dtype.itemsize,
            form.shift,
            len(roles),
            x,
            y,
            *dither_x,
            *padding,
            *dither_y,
            *padding,
            *(codes.low for codes in ranges),
            *padding,
            *(codes.high for codes in ranges),
            *padding,
            0,
        )
