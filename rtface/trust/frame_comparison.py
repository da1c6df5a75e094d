"""Compares an output's frames with the input's, outside the changed areas."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from itertools import product
from statistics import median
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from rtface.frame import Box, Frame
from rtface.geometry.transforms import clip_box
from rtface.trust.check_result import CheckResult
from rtface.util.av_arrays import plane_rows, sample_bytes
from rtface.util.text import counted

# Limits for errors of H.264, H.265, VP9 and MPEG-2 encoders. At their coarsest, the worst frame had 24.7 dB, and a
# block's mean was off by 23 levels (at usual qualities: 6), or by 6.1 times the third quartile of the blocks' errors.
# Frames larger than 1080p mix coarse and fine blocks.
_FLOOR_DB, _EQUAL_DB = 22.0, 100.0
_BLOCK, _LEVELS, _LARGE_LEVELS, _TIMES_TYPICAL = 16, 12.0, 28.0, 8.0
_LARGE = 1920 * 1088
# Largest error of a plane's mean, in levels (measured: 2.5). With block errors of `_COARSE` levels, nothing is proved.
_SHIFT, _COARSE = 4.0, 4.0
# RGB formats with four bytes per pixel, one of which is padding.
_PADDED = ("0rgb", "rgb0", "0bgr", "bgr0")


class FrameComparison:
    """Compares frames in order, and counts the results.

    Args:
        changed: by frame number or file name: the changed boxes, or the reason why the whole frame counts as changed.
        whole: reason why every frame counts as changed entirely; empty if only boxes are changed.
        lossless: whether the output keeps every sample.
    """

    def __init__(self, changed: Mapping[Any, list[Box] | str], whole: str = "", *, lossless: bool) -> None:
        self._changed, self._whole, self._lossless = changed, whole, lossless
        self._count = self._copied = 0
        self._shares, self._errors = list[float](), list[float]()
        self._problems, self._gaps = list[str](), Counter[str]()

    def frame(self, name: Any, new: Frame, old: Frame, *, copied: bool = False) -> None:
        """Compares the next frames of output and input. `copied` tells whether the packet was copied."""
        areas = self._whole or self._changed.get(name, [])
        if isinstance(areas, str):
            self._gaps[f"changed as a whole ({areas})"] += 1
            return
        a, b = (
            image.reformat(format="rgb24", threads=1) if image.format.name in _PADDED else image
            for image in (new.image, old.image)
        )
        if a.format.name != b.format.name and a.format.is_rgb and _kind(a) == _kind(b):
            b = b.reformat(format=a.format.name, threads=1)  # only the order of the values changes
        if _kind(a) != _kind(b) or [(p.width, p.height) for p in a.planes] != [(p.width, p.height) for p in b.planes]:
            self._gaps["of another size or sample format than the input's"] += 1
            return
        size = a.width, a.height
        boxes = [clip_box(box, *size) for box in areas]
        pairs = [(x, y, _outside(x.shape, size, boxes)) for x, y in zip(_planes(a), _planes(b), strict=True)]
        if self._lossless or copied:
            count = sum(int(np.count_nonzero((x != y) & mask)) for x, y, mask in pairs)
            difference = f"differs from the input outside the boxes ({counted(count, 'sample')})" if count else ""
        else:
            scale = np.float32(255 / ((1 << a.format.components[0].bits) - 1))
            difference = self._beyond_encoder(
                [(np.where(mask, x * scale - y * scale, np.float32(0)), mask) for x, y, mask in pairs], size
            )
            if difference is None:
                self._gaps["coded too coarsely"] += 1
                return
        if difference:
            self._problems.append(f"frame {name}: {difference}")
        self._copied += copied
        self._count += 1
        if boxes:
            self._shares.append(1 - float(pairs[0][2].mean()))

    def _beyond_encoder(
        self, planes: list[tuple[NDArray[np.float32], NDArray[np.bool_]]], size: tuple[int, int]
    ) -> str | None:
        """Describes deviations beyond an encoder's error, by PSNR and block means. Returns "" if there is none, and
        None if the encoding is too coarse to tell.

        Args:
            planes: error of each plane in levels of 255, with the mask of the samples to compare.
            size: width and height of the frame.
        """
        limit = typical = 0.0
        for number, (error, mask) in enumerate(planes):
            step = max(1, _BLOCK * error.shape[0] // size[1]), max(1, _BLOCK * error.shape[1] // size[0])
            weights = mask.astype(np.float32)
            samples, sums = (_sums(values, step) for values in (weights, error))
            valid = samples >= step[0] * step[1] / 4
            if not valid.any():
                break
            if not number:
                squares = _sums(np.square(error), step)
                mean = float(squares.sum() / samples.sum())
                self._errors.append(10 * math.log10(255**2 / mean) if mean else _EQUAL_DB)
                if self._errors[-1] < _FLOOR_DB:
                    return f"outside the boxes it has {self._errors[-1]:.1f} dB (PSNR)"
                texture = squares[valid] / samples[valid] - np.square(sums[valid] / samples[valid])
                typical = float(np.sqrt(np.quantile(np.maximum(texture, 0), 0.75)))
                minimum = _LARGE_LEVELS if size[0] * size[1] > _LARGE else _LEVELS
                limit = max(minimum, min(_TIMES_TYPICAL * typical, _LARGE_LEVELS))
            shift, worst, place = abs(float(sums.sum() / samples.sum())), 0.0, ""
            # Three grids of blocks: they start at the origin, at half a block, or such that they end with the plane.
            for y, x in product(
                *(
                    {0, min(block, n) // 2, max(0, n - block) % block}
                    for n, block in zip(error.shape, step, strict=True)
                )
            ):
                count = _sums(weights[y:, x:], step)
                errors = np.abs(_sums(error[y:, x:], step)) / np.maximum(count, 1) * (count >= step[0] * step[1] / 4)
                if float(errors.max()) > worst:
                    worst, (row, column) = float(errors.max()), divmod(int(errors.argmax()), errors.shape[1])
                    at = f"x {(column + x / step[1]) * _BLOCK:.0f}, y {(row + y / step[0]) * _BLOCK:.0f}"
                    place = f"{worst:.0f} of 255 levels around {at}"
            if worst > limit or shift > _SHIFT:
                place = place if worst > limit else f"{shift:.0f} of 255 levels throughout"
                return None if typical >= _COARSE else f"outside the boxes it differs by {place}"
        return ""

    def end(self, result: CheckResult) -> None:
        """Adds the findings to `result`."""
        result.gaps += [f"{counted(count)} {why}: not compared" for why, count in self._gaps.items()]
        result.problems += self._problems[:3]
        if len(self._problems) > 3:
            result.problems.append(f"{len(self._problems)} frames differ from the input's")
        if self._problems or not self._count:
            return
        boxes = f", {len(self._shares)} with boxes, which cover {max(self._shares, default=0.0):.0%} of a frame at most"
        error = "every sample outside the boxes equals the input's"
        if self._errors:
            middle, worst = median(self._errors), min(self._errors)
            psnr = f"PSNR {middle:.1f} dB median, {worst:.1f} dB at worst" if worst < _EQUAL_DB else "equal"
            error = f"outside the boxes they equal the input's within an encoder's error ({psnr})"
            error += f", {counted(self._copied)} copied without change" if self._copied else ""
        result.proofs.append(f"{counted(self._count)}{boxes * bool(self._shares)}: {error}")


def _kind(image: av.VideoFrame) -> tuple[Any, ...]:
    """Returns values that are equal for images with comparable samples."""
    return image.width, image.height, image.format.is_rgb, [c.bits for c in image.format.components]


def _planes(image: av.VideoFrame) -> list[NDArray[Any]]:
    wide = np.dtype(">u2" if image.format.is_big_endian else "<u2")
    kind = wide if max(c.bits for c in image.format.components) > 8 else np.dtype(np.uint8)
    return [
        plane_rows(plane)[: plane.height, : plane.width * sample_bytes(image, plane)].view(kind)
        for plane in image.planes
    ]


def _outside(shape: tuple[int, ...], size: tuple[int, int], boxes: list[Box]) -> NDArray[np.bool_]:
    """Returns a plane's mask outside of boxes. `shape` is (rows, values in a row); boxes are in luma samples."""
    out = np.ones(shape, np.bool_)
    across, down = shape[1] / size[0], shape[0] / size[1]
    for x0, y0, x1, y1 in boxes:
        out[math.floor(y0 * down) : math.ceil(y1 * down), math.floor(x0 * across) : math.ceil(x1 * across)] = False
    return out


def _sums(values: NDArray[np.float32], step: tuple[int, int]) -> NDArray[np.float32]:
    """Returns the sum of each block of a plane."""
    rows = np.add.reduceat(values, np.arange(0, values.shape[0], step[0]), axis=0)
    return np.add.reduceat(rows, np.arange(0, values.shape[1], step[1]), axis=1)
