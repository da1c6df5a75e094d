"""Proposes masks of photographs' damage, and fills what they mark."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import hypot

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from openvino import InferRequest

from rtface.device.cpu.device import CpuDevice
from rtface.device.cpu.rgb_samples import RgbSamples
from rtface.device.cpu.view import native_image
from rtface.engine.recipe import SHIPPED
from rtface.errors import UsageError
from rtface.frame import Box, Bytes, Color, Face, Float32, Frame
from rtface.geometry.alignment import crop_matrix
from rtface.geometry.transforms import (
    bounds,
    clip_box,
    compose,
    invert,
    sample_to_display,
    scaling,
    to_cv2,
    translation,
)
from rtface.protocols import Tracker, View
from rtface.repair.grain import missing_grain
from rtface.repair.mask import as_stored, upright_size
from rtface.repair.proposal import LONGEST, propose
from rtface.repair.smooth_fill import reduced, smooth_fill
from rtface.util.av_arrays import copy_image
from rtface.util.openvino_core import CompileOptions, open_shipped

FILL = SHIPPED / "repair" / "fill.onnx", "6ad8cbf46d37d42ade0ca0f75cb307a4b52aee7d5c8ef56eb8eb7889f2af7d07"
DAMAGE = SHIPPED / "repair" / "damage.onnx", "c646ab964c4c4ad85bb199e027f92c464a2534cc4e653a50b1e32609a665d1ec"
"""Path and SHA-256 of the networks."""
_SIDE, _FADE = 512, 32  # side of the crops that the network fills; width of the border in which its part fades
_TILE, _MARGIN = 512, 64  # side of the tiles, and what is read around them
_WHOLE = 1_500_000  # most pixels of the reduced picture that is filled as a whole
_LEAST = 8  # mask value from which a pixel is a hole
_MOST_ENLARGED = 4.0  # most crop pixels per pixel of a face that the network fills
_CELL, _FACE, _MOST_MARKED = 64, slice(16, 48), 0.4  # a proposal leaves faces alone of which more would be marked
_RGB = Color("rgb", full_range=True)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Proposal:
    """A proposed mask.

    Attributes:
        mask: uint8 h×w of the upright image, 0 or 255.
        share: share of its pixels that is marked.
        unsure: share of its pixels that may be damaged, but is not marked.
    """

    mask: Bytes
    share: float
    unsure: float


class Repairer:
    """Proposes masks and fills damage. Opens its networks on first use. Not thread-safe.

    Args:
        tracker: finds the faces.
        threads: threads of the networks; None leaves the number to OpenVINO.

    Raises (by its methods):
        MissingComponent: a network is absent or damaged.
        InputError: the photograph's sample format cannot be converted.
    """

    def __init__(self, tracker: Tracker, threads: int | None = None) -> None:
        self._tracker, self._device = tracker, CpuDevice()
        self._compile_options: CompileOptions = {} if threads is None else {"INFERENCE_NUM_THREADS": str(threads)}

    @cached_property
    def _fill_network(self) -> InferRequest:
        return open_shipped("fill", *FILL, self._compile_options)

    @cached_property
    def _damage_network(self) -> InferRequest:
        return open_shipped("damage", *DAMAGE, self._compile_options)

    def propose(self, frame: Frame) -> Proposal:
        """Proposes a mask of a photograph's damage."""
        picture = self._device.view(frame).thumbnail(LONGEST)[0]
        marked, unsure = propose(picture, lambda tile: self._damage_network.infer({"picture": tile})["probability"])
        larger = cv2.resize(marked, upright_size(frame), interpolation=cv2.INTER_LINEAR)
        mask = np.where(larger > 127, np.uint8(255), np.uint8(0))
        unsure += self._withdraw(mask, picture)
        return Proposal(mask, float((mask > 0).mean()), unsure)

    def _withdraw(self, mask: Bytes, picture: Bytes) -> float:
        """Removes marks that would erase a face. Returns their share of the pixels."""
        marked, scale = int((mask > 0).sum()), mask.shape[1] / picture.shape[1]
        if not marked:
            return 0.0
        view = self._device.view(Frame(av.VideoFrame.from_ndarray(picture, "rgb24"), 0, Fraction(1), 1, _RGB))
        for face in self._faces(view):
            to_crop = compose(crop_matrix(face, _CELL), scaling(1 / scale, 1 / scale))
            crop = cv2.warpAffine(mask, to_cv2(to_crop), (_CELL, _CELL))
            if (crop[_FACE, _FACE] > 127).mean() > _MOST_MARKED:
                mask[_part(clip_box(bounds(invert(to_crop), (0, 0, _CELL, _CELL)), *mask.shape[::-1]))] = 0
        return (marked - int((mask > 0).sum())) / mask.size

    def _faces(self, view: View) -> tuple[Face, ...]:
        self._tracker.watchful, self._tracker.sparing, self._tracker.thorough = False, False, True
        return self._tracker.update(view, 0.0, cut=True)

    def fill(self, frame: Frame, mask: Bytes, region: Box | None = None) -> Frame | None:
        """Fills what a mask marks. Returns a frame with a new image, or None if the mask is empty.

        Holes are filled smoothly, at reduced size as a whole and then by tiles. A network corrects this filling in
        faces. Grain is added last.

        Args:
            frame: the photograph, which is not changed.
            mask: uint8 h×w of the upright image: 0 keeps a pixel, 255 fills it, a value between mixes both.
            region: box of the upright image outside of which nothing is filled; None for the whole image.

        Raises:
            UsageError: the mask leaves nothing to fill from.
        """
        original = native_image(frame.image)
        before = RgbSamples(original, frame.color)
        hole = as_stored(mask, frame.display) >= _LEAST
        if hole.all():
            raise UsageError("the mask marks the whole picture, so nothing is left to fill from", code="mask_whole")
        if region is not None:
            whole, mask = mask, np.zeros_like(mask)
            mask[_part(region)] = whole[_part(region)]
        weights = np.where(hole, as_stored(mask, frame.display), 0)
        if not weights.any():
            return None
        if before.subsampling != (1, 1):  # chroma beside a hole contains the damage's
            hole = cv2.dilate(hole.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        image = copy_image(original)
        after = RgbSamples(image, frame.color)
        factor = 1
        while hole.size > _WHOLE * factor**2:
            factor *= 2
        boxes = ((0, y, hole.shape[1], min(y + _TILE, hole.shape[0])) for y in range(0, hole.shape[0], _TILE))
        bands = [reduced(before.read(box).transpose(1, 2, 0), hole[_part(box)], factor) for box in boxes]
        small, small_hole = (np.concatenate(parts) for parts in zip(*bands, strict=True))
        small = smooth_fill(small, small_hole)
        small_change = self._change_faces(small, small_hole, frame)
        for y in range(0, hole.shape[0], _TILE):
            for x in range(0, hole.shape[1], _TILE):
                core = clip_box((x, y, x + _TILE, y + _TILE), *hole.shape[::-1])
                if (weight := weights[_part(core)]).any():
                    new = _filled_tile(before, hole, core, factor, small, small_change)
                    old = before.read(core)
                    after.write(core, (old + weight.astype(np.float32) / 255 * (new - old)).clip(0, 1), weight > 0)
        return replace(frame, image=image, filled=np.where(mask < _LEAST, np.uint8(0), mask))

    def _change_faces(self, picture: Float32, hole: NDArray[np.bool_], frame: Frame) -> Float32:
        """Returns the network's changes to a smoothly filled picture, h×w×3 as stored."""
        change, (height, width) = np.zeros_like(picture), hole.shape
        image = av.VideoFrame.from_ndarray(np.rint(picture.clip(0, 1) * 255).astype(np.uint8), "rgb24")
        view = self._device.view(Frame(image, 0, Fraction(1), 1, _RGB, frame.display))
        from_samples = sample_to_display(width, height, frame.display)
        for face in self._faces(view):
            to_crop = crop_matrix(face, _SIDE)
            matrix, scale = compose(to_crop, from_samples), hypot(*to_crop[:, 0])
            box = clip_box(bounds(invert(matrix), (0, 0, _SIDE, _SIDE)), width, height)
            part = _part(box)
            if scale > _MOST_ENLARGED or not hole[part].any():
                continue
            local, extent = to_cv2(compose(matrix, translation(*box[:2]))), max(1, round(1 / scale))
            share = cv2.blur(hole[part].astype(np.float32), (extent, extent))
            holes = (cv2.warpAffine(share, local, (_SIDE, _SIDE)) > 0.3).astype(np.float32)
            crop = np.asarray(view.rgb(to_crop, (_SIDE, _SIDE)), np.float32)
            answer = self._fill_network.infer({"fill": crop[None], "hole": holes[None, None]})["filled"][0]
            ramp = np.minimum(1, np.minimum(np.arange(1, _SIDE + 1), np.arange(_SIDE, 0, -1)) / np.float32(_FADE))
            correction = ((answer - crop) * (ramp * ramp[:, None])).transpose(1, 2, 0)
            size = box[2] - box[0], box[3] - box[1]
            change[part] += cv2.warpAffine(correction, local, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        return change


def _filled_tile(
    before: RgbSamples, hole: NDArray[np.bool_], core: Box, factor: int, small: Float32, small_change: Float32
) -> Float32:
    """Returns a tile with its holes filled at full size, 3×h×w."""
    x, y = core[0] - _MARGIN, core[1] - _MARGIN
    box = clip_box((x, y, core[2] + _MARGIN, core[3] + _MARGIN), *hole.shape[::-1])
    picture, holes = before.read(box).transpose(1, 2, 0), hole[_part(box)]
    reduced_box = _part((box[0] // factor, box[1] // factor, -(-box[2] // factor), -(-box[3] // factor)))
    start, change = (
        np.asarray(cv2.resize(v[reduced_box], None, fx=factor, fy=factor), np.float32)[
            : holes.shape[0], : holes.shape[1]
        ]
        for v in (small, small_change)
    )
    if factor > 1:
        start = smooth_fill(picture, holes, start=start)
    filled = np.where(holes[..., None], start + change, picture)
    filled += missing_grain(picture @ _LUMA, filled @ _LUMA, holes, core[0] + core[1])[..., None]
    x, y = core[0] - box[0], core[1] - box[1]
    return filled[y : y + core[3] - core[1], x : x + core[2] - core[0]].transpose(2, 0, 1)


def _part(box: Box) -> tuple[slice, slice]:
    return slice(box[1], box[3]), slice(box[0], box[2])
