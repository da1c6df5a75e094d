"""Adds corrections to native planes and leaves all other samples unchanged.

For each face and component, the correction is converted to code values, low-passed if the map shrinks it, warped to the
plane, dithered, added in float, rounded once, and clipped to the wider of the legal range and the source sample.

Before rounding, dither t is added to the sample at column x, row y of its plane (for a field, of the field's rows):

    t = (T[(y + oy) & 255, (x + ox) & 255] + 0.5) / 128 − 0.5      T[j, i] = mix(i + 256·j) >> 25
    h = mix(mix(pts mod 2³²) + 8·p + component)                    ox = h & 255, oy = (h >> 8) & 255

component is 0, 1, 2 for y, u, v and for r, g, b (0 for all three if the pixels are gray). p is 0 for a whole frame,
and 1 + the field's parity for a field. mix applies MurmurHash3's 32-bit finaliser to its argument + 0x9E3779B9.
|t| < 0.5, so a sample with a correction of 0 rounds to itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from rtface.device.cpu.crop import BLUR_FROM, full_range, lowpass
from rtface.errors import EngineError
from rtface.frame import Box, Bytes, Color, Float, Float32
from rtface.geometry.color_curves import code_range, ycbcr_from_rgb
from rtface.geometry.planes import Layout, Role, Samples
from rtface.geometry.transforms import bounds, clip_box, compose, footprint, invert, scaling, to_cv2, translation

_T = TypeVar("_T", int, NDArray[np.uint64])

SMOOTH_FROM = 2.0  # magnification above which a correction is interpolated bicubically


@dataclass(slots=True)
class Patch:
    """One face's correction, cut to where its mask is above 0.

    Attributes:
        correction: float32 h×w×3, RGB in native code values (1 = full scale), 0 outside the mask.
        mask: float32 h×w.
        support: uint8 h×w, 255 where the mask is above 0.
        matrix: 2×3, display → patch (corner convention).
    """

    correction: Float32
    mask: Float32
    support: Bytes
    matrix: Float

    def display_box(self) -> tuple[float, float, float, float]:
        """Returns the axis-aligned bounding box of the patch in display space."""
        h, w = self.support.shape
        x0, y0, x1, y1 = bounds(invert(self.matrix), (0.0, 0.0, w, h))
        return float(x0), float(y0), float(x1), float(y1)


def cut_patch(correction: Float32, mask: Float32, matrix: Float) -> Patch | None:
    """Cuts a correction (h×w×3) to its mask (h×w). Returns None if it changes nothing.

    Raises:
        EngineError: the correction contains NaN or infinity.
    """
    zero: Any = 0.0  # cv2 accepts a scalar here, but its annotations do not
    support: Any = cv2.compare(mask, zero, cv2.CMP_GT)
    x, y, w, h = cv2.boundingRect(support)
    if w == 0:
        return None
    # A border of one zero sample lets interpolation fade to 0 where the mask does.
    x0, y0, x1, y1 = clip_box((x - 1, y - 1, x + w + 1, y + h + 1), mask.shape[1], mask.shape[0])
    part = correction[y0:y1, x0:x1]
    total = cv2.norm(part, cv2.NORM_L1)
    if not np.isfinite(total):
        raise EngineError("a correction contains NaN or infinity; the frame is unchanged", code="correction_not_finite")
    if total == 0.0:
        return None
    return Patch(part, mask[y0:y1, x0:x1], support[y0:y1, x0:x1], compose(translation(-x0, -y0), matrix))


def overlapping(boxes: Sequence[tuple[float, float, float, float]]) -> list[list[int]]:
    """Groups the indices of overlapping boxes (`Patch.display_box`). Boxes of different groups do not overlap."""
    groups: list[tuple[list[float], list[int]]] = []
    for n, (x0, y0, x1, y1) in enumerate(boxes):
        box = [x0 - 8, y0 - 8, x1 + 8, y1 + 8]  # a subsampled sample covers more than one pixel
        members = [n]
        separate: list[tuple[list[float], list[int]]] = []
        for area, indices in groups:
            if box[0] < area[2] and area[0] < box[2] and box[1] < area[3] and area[1] < box[3]:
                members = indices + members
                box = [min(box[0], area[0]), min(box[1], area[1]), max(box[2], area[2]), max(box[3], area[3])]
            else:
                separate.append((area, indices))
        groups = [*separate, (box, members)]
    return [members for _, members in groups]


def rows(form: Layout, color: Color) -> dict[Role, Float]:
    """Returns three weights per component to convert RGB to codes. 1 = full scale."""
    full = full_range(form, color)
    luma = code_range(form.bits, full, chroma=False).scale
    if form.kind == "rgb":
        return {role: luma * np.eye(3)[i] for i, role in enumerate(("r", "g", "b"))}
    matrix = ycbcr_from_rgb(color.matrix)
    out: dict[Role, Float] = {"y": luma * matrix[0]}
    if form.kind == "yuv":
        chroma = code_range(form.bits, full, chroma=True).scale
        out["u"], out["v"] = chroma * matrix[1], chroma * matrix[2]
    return out


def warp_patch(patch: Patch, values: Samples, to_plane: Float, box: Box) -> tuple[Float32, bool]:
    """Warps one component of a patch (float32 h×w) to its plane's `box`.

    `to_plane` is display → plane. Also returns whether filtering may have spread the correction beyond its mask.
    """
    forward = compose(to_plane, invert(patch.matrix))
    shrink = footprint(invert(forward))
    cubic = min(shrink) < 1.0 / SMOOTH_FROM
    values, undo = lowpass(values, shrink, border=cv2.BORDER_CONSTANT)
    if cubic:  # doubles bicubically, then warps linearly: within 3 % of a bicubic warp, in a third of the time
        values = cv2.resize(values, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        undo = compose(undo, scaling(0.5, 0.5))
    return _warped(values, box, forward, undo), cubic or max(shrink) > BLUR_FROM


def warp_mask(patch: Patch, mask: Samples, to_plane: Float, box: Box) -> Samples:
    """Resamples a mask (or its support) at the samples of `box`. Skips the low-pass, which would enlarge the mask."""
    return _warped(mask, box, to_plane, invert(patch.matrix))


def _warped(values: Samples, box: Box, *matrices: Float) -> Any:
    """Warps samples to `box` by composed matrices; 0 beyond their edge."""
    matrix, size = to_cv2(compose(translation(-box[0], -box[1]), *matrices)), (box[2] - box[0], box[3] - box[1])
    return cv2.warpAffine(values, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0.0)


def patch_box(patch: Patch, to_plane: Float, shape: tuple[int, int]) -> Box | None:
    """Returns the box of samples that a patch can change, or None."""
    h, w = patch.support.shape
    box = clip_box(bounds(compose(to_plane, invert(patch.matrix)), (0.0, 0.0, w, h), margin=1.0), shape[1], shape[0])
    return box if box[2] > box[0] and box[3] > box[1] else None


class Placement:
    """Places a group of patches on one plane. Components on the same grid (u and v) share one placement."""

    def __init__(self, group: list[Patch], to_plane: Float, shape: tuple[int, int]) -> None:
        boxes = [(patch, patch_box(patch, to_plane, shape)) for patch in group]
        self._group, self._to_plane = [(patch, box) for patch, box in boxes if box is not None], to_plane
        x0, y0, x1, y1 = zip(*([box for _, box in self._group] or [(0, 0, 0, 0)]), strict=True)
        self.box: Box = min(x0), min(y0), max(x1), max(y1)
        self._gate: Bytes | None = None
        self._supports: list[Bytes] = []
        self._weight: Float32 | None = None

    @property
    def empty(self) -> bool:
        """True if the patches lie outside the frame."""
        return self.box[2] <= self.box[0]

    def gate(self) -> Bytes:
        """Returns a uint8 map, h×w, above 0 wherever a mask is."""
        if self._gate is None:
            self._gate = np.zeros((self.box[3] - self.box[1], self.box[2] - self.box[0]), np.uint8)
            self._supports = [warp_mask(patch, patch.support, self._to_plane, box) for patch, box in self._group]
            for (_, box), support in zip(self._group, self._supports, strict=True):
                part = self._gate[self._within(box)]
                np.maximum(part, support, out=part)
        return self._gate

    def place(self, row: Float) -> tuple[Float32, Bytes | None]:
        """Returns one component's correction in code values, and its gate.

        A gate of None allows writes wherever the correction is not 0. The sum of overlapping masks is limited to 1:
        d = Σ dᵢ / max(1, Σ mᵢ), so two faces never correct a sample twice as strongly.
        """
        kernel = row.astype(np.float32)[None]
        if len(self._group) == 1:
            patch, _ = self._group[0]
            values, spread = warp_patch(patch, cv2.transform(patch.correction, kernel), self._to_plane, self.box)
            return values, self.gate() if spread else None
        total = np.zeros(self.gate().shape, np.float32)
        for (patch, box), support in zip(self._group, self._supports, strict=True):
            values, _ = warp_patch(patch, cv2.transform(patch.correction, kernel), self._to_plane, box)
            total[self._within(box)] += cv2.copyTo(values, support)
        if self._weight is None:
            self._weight = np.zeros_like(total)
            for patch, box in self._group:
                self._weight[self._within(box)] += warp_mask(patch, patch.mask, self._to_plane, box)
            np.maximum(self._weight, 1.0, out=self._weight)
        return total / self._weight, self.gate()

    def _within(self, box: Box) -> tuple[slice, slice]:
        """Returns the part of `self.box` that a patch's box is."""
        x, y = self.box[:2]
        return slice(box[1] - y, box[3] - y), slice(box[0] - x, box[2] - x)


def gray_rows(form: Layout, color: Color) -> dict[Role, Float]:
    """Returns the weights of `rows` for gray RGB. Each component receives the luma of a correction."""
    luma = code_range(form.bits, full_range(form, color), chroma=False).scale * ycbcr_from_rgb("bt601")[0]
    return {"r": luma, "g": luma, "b": luma}


def neutral_rgb(views: Mapping[Role, Samples], box: Box, form: Layout) -> bool:
    """Returns whether all RGB samples of a box are gray. Tolerates one 8-bit code."""

    def gray(step: int) -> bool:
        r, g, b = (
            (views[role][box[1] : box[3] : step, box[0] : box[2] : step] >> form.shift).astype(np.int32)
            for role in ("r", "g", "b")
        )
        return r.size == 0 or int(max(np.abs(r - g).max(), np.abs(b - g).max())) <= 1 << (form.bits - 8)

    return gray(8) and gray(1)  # a few samples suffice to reject most boxes


def neutral(view: Samples, box: Box, form: Layout) -> bool:
    """Returns whether all chroma samples of a box are gray. Tolerates one 8-bit code."""
    part = view[box[1] : box[3], box[0] : box[2]] >> form.shift
    unit = 1 << (form.bits - 8)
    return bool(part.size == 0 or (part.min() >= 127 * unit and part.max() <= 129 * unit))


def _mix(value: _T) -> _T:
    """Hashes an int or an array of uint64 (see the module's docstring)."""
    x: Any = value
    x = (x + 0x9E3779B9) & 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return x ^ (x >> 16)


@lru_cache(maxsize=8)
def _dither_table(width: int) -> Float32:
    """Repeats the 256×256 tile to 512 rows and at least `width` columns. Values are (k + 0.5)/128 − 0.5."""
    tile = (_mix(np.arange(65536, dtype=np.uint64)) >> 25).astype(np.float32).reshape(256, 256)
    return np.tile((tile + 0.5) / 128.0 - 0.5, (2, width // 256)).astype(np.float32)


class Dither:
    """Rounding offsets of one component of one frame (see the module's docstring).

    Attributes:
        offset: ox and oy.
    """

    def __init__(self, pts: int, component: int, parity: int | None) -> None:
        h = _mix(_mix(pts % (1 << 32)) + 8 * (0 if parity is None else 1 + parity) + component)
        self.offset = h & 255, (h >> 8) & 255

    def of(self, x: int, y: int, width: int, height: int) -> Float32:
        """Returns the offsets from column x and row y: float32 height × width, |t| < 0.5. At most 256 rows."""
        x, y = (x + self.offset[0]) & 255, (y + self.offset[1]) & 255
        # Multiples of 512 keep the number of tables small.
        return _dither_table(((x + width) // 512 + 1) * 512)[y : y + height, x : x + width]


_STRIP_SAMPLES = 65536  # source, sum and result of one strip fit into a core's cache


def write(
    view: Samples,
    box: Box,
    values: Float32,
    gate: Bytes | None,
    dither: Dither | None,
    form: Layout,
    legal: tuple[int, int],
) -> None:
    """Adds `values` to the samples of `box` in place. Skips samples where `gate` is 0. Overwrites `values`."""
    depth = cv2.CV_8U if form.dtype.itemsize == 1 else cv2.CV_16U
    x0, y0, x1, y1 = box
    strip = min(max(_STRIP_SAMPLES // (x1 - x0), 1), 256)
    direct = not form.shift and view.strides[1] == view.itemsize and form.dtype.isnative
    for top in range(y0, y1, strip):
        bottom = min(top + strip, y1)
        target = view[top:bottom, x0:x1]
        source = target if direct else np.ascontiguousarray(target, form.dtype.newbyteorder("="))
        old: Any = source >> form.shift if form.shift else source
        add = values[top - y0 : bottom - y0]
        if dither is not None:
            cv2.add(add, dither.of(x0, top, x1 - x0, bottom - top), dst=add)
        new: Any = cv2.add(old, add, dtype=depth)
        if gate is not None:
            new = cv2.copyTo(new, gate[top - y0 : bottom - y0], old.copy())
        if new.min() < legal[0] or new.max() > legal[1]:
            # cv2 accepts an array with a scalar, but its annotations do not
            low, high = np.array(legal, np.float64)
            cv2.min(new, cv2.max(old, high), dst=new)
            cv2.max(new, cv2.min(old, low), dst=new)
        if form.shift:
            new = source + ((new - old) << form.shift)  # modulo 2¹⁶; preserves the low bits
        target[...] = new
