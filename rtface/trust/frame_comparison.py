"""Compares frames of an output with those of the input that it was made of, outside the corrected faces."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median
from typing import Any

import av
import cv2
import numpy as np
from av.video.frame import PictureType
from numpy.typing import NDArray

from rtface.device.cpu.fading import unfaded
from rtface.frame import Box, FadingCurve, Frame
from rtface.geometry.transforms import clip_box
from rtface.trust.check_boxes import FaceBoxes
from rtface.trust.check_order import FrameOrder
from rtface.trust.check_sidecar import Checked
from rtface.util.av_arrays import plane_rows, sample_bytes
from rtface.util.text import counted

# A frame that nothing was changed on is no copy of the input's where it is this far below the middle of such frames,
# and below the last in any case: of H.264, H.265, VP9 and MPEG-2 at their coarsest the worst frame had 24.7 dB.
_OUTLIER_DB, _SURELY_DB, _FLOOR_DB = 12.0, 40.0, 22.0
_FLOOR = 255**2 / 10 ** (_FLOOR_DB / 10)
# Nor is it where the mean of a block, of so many luma samples in each direction, is off by so many of 255 levels, and
# by so many times the error that three quarters of its blocks have at most. (At most 6.1 times at the coarsest; below
# 6 levels at usual qualities.) From so many levels on, fewer times are enough: whoever blurs a film could hide another
# face in it. (At most 23.3 levels were seen; 2 times where the error is as large.)
_BLOCK, _LEVELS, _TIMES_USUAL = 16, 12.0, 8.0
_MOST_LEVELS, _TIMES_COARSE = 28.0, 3.0
# An encoder's error is bounded by its quantiser, whatever other blocks and frames have. A block's error (root mean
# square) is at most so many times the step of the frame, or of one since the last intra frame, which it may repeat
# (0.9 times were seen), and that of its mean so much of it (0.29 times were seen); that of chroma so many times as
# much (1.4 and 0.48 times the step). The frame's own step is not that many times finer (3.5 times an error was seen).
# Steps of JPEG are those of low frequencies, and finer (2.2 times were seen). Rounding adds up to a level.
_STEPS, _OF_MEAN, _OF_CHROMA, _FINER, _JPEG, _ROUNDING = 1.5, 0.4, 1.5, 6.0, 2.2, 1.0
# Where each block has its own step, the mean of a part, of so many luma samples in each direction, is off by no more
# than so many times the frame's, or the largest of the blocks around it since the last intra frame (0.75 times were
# seen): what a quantiser leaves of small shapes is less than of noise.
_PART, _OF_PART = 4, 1.2
# Encoders err more where there is more texture: the middle is that of frames with at least a quarter of it (mean
# squares). What the texture of its blocks does not explain is no encoder's where it is this far below the middle of the
# whole film, too, and below this. (31.2 dB were seen at the coarsest, in films that are mostly black.)
_LIKE, _UNEXPLAINED_DB = 4.0, 31.0
# A correction changes the mean of one of 8×8 parts of its box by no more than so many of 255 levels (2.0 were seen, and
# at least 18 where another person's face was put in).
_PARTS, _ALIKE = 8, 12.0


class FrameComparison:
    """Compares frames with those of the input, and counts."""

    def __init__(
        self,
        found: Checked,
        changed: dict[Any, Any],
        *,
        lossless: bool,
        known: bool,
        curves: Mapping[str, FadingCurve] | None = None,
    ) -> None:
        self._curves = curves or {}
        self.found, self.known, self._changed, self._lossless = found, known, changed, lossless
        self._whole = self._outside = self._anywhere = self._covered = self._other_format = 0
        self._differ: list[tuple[Any, int]] = []
        self._errors: list[tuple[Any, float, float, int]] = []  # PSNR, that of its unexplained part, class of texture
        self._places: list[tuple[Any, str]] = []  # where a frame differs by more than an encoder's error
        self._faces: FaceBoxes | None = None
        self._faceless: list[Any] = []  # frames with a box that no face is in
        self._unlike: list[Any] = []  # frames with a box in which the picture is another
        self._shares: list[float] = []  # of the frame that boxes cover
        self._order = FrameOrder()
        self._large = False  # a frame whose coarsest blocks are not known, and may be coarser than elsewhere
        self._coarsest = 0.0  # error by the quantisers since the last intra frame
        self._steps: NDArray[np.float32] | None = None  # of blocks, the largest since then
        self._side = 0  # of these blocks

    def frame(self, name: Any, new: Frame, old: Frame, *, exact: bool = False) -> None:
        """Takes the next frame of the output, and that of the input; `exact` where its codec adds no error."""
        if (curve := self._curves.get(str(name), self._curves.get(""))) is not None:
            old = unfaded(old, curve)
        boxes: list[Box] | None = self._changed.get(name, [])
        step = 0.0 if exact else self._step(new)
        # Of four bytes a sample one says nothing, and is not kept.
        padded = "0rgb", "rgb0", "0bgr", "bgr0"
        a, b = (
            image.reformat(format="rgb24", threads=1) if image.format.name in padded else image
            for image in (new.image, old.image)
        )
        if a.format.name != b.format.name and a.format.is_rgb and _kind(a) == _kind(b):
            b = b.reformat(format=a.format.name, threads=1)  # the same values in another order
        if _kind(a) != _kind(b) or [(p.width, p.height) for p in a.planes] != [(p.width, p.height) for p in b.planes]:
            self._other_format += 1
            self._order.gap()
            return
        if boxes is None:
            self._anywhere += 1
            self._order.gap()
            return
        if boxes:
            boxes = [clip_box(box, a.width, a.height) for box in boxes]
            outside = float(_outside((a.height, a.width), (a.width, a.height), boxes).mean())
            self._shares.append(1 - outside)
            self._faces = self._faces or FaceBoxes()
            if self._faces.without_face(old, boxes, alone=not isinstance(name, int)):
                self._faceless.append(name)
            elif not all(_resembles(a, b, box) for box in boxes):
                self._unlike.append(name)
            if not outside:
                self._covered += 1
                self._order.gap()
                return
        if self._lossless:
            self._exactly(name, a, b, boxes)
        else:
            self._roughly(name, a, b, boxes, step)

    def _exactly(self, name: Any, a: av.VideoFrame, b: av.VideoFrame, boxes: list[Box]) -> None:
        count = 0
        for mine, theirs in zip(_planes(a), _planes(b), strict=True):
            apart = mine != theirs
            if apart.any():
                count += int(np.count_nonzero(apart & _outside(apart.shape, (a.width, a.height), boxes)))
        if count:
            self._differ.append((name, count))
        elif boxes:
            self._outside += 1
        else:
            self._whole += 1

    def _step(self, frame: Frame) -> float:
        """By how many of 255 levels a block may be off by what the frame's quantiser leaves; infinite if unknown."""
        own, of = math.inf, frame.quantisers
        # Of large frames there is one step, which with these is that of the first block only.
        self._large = of is not None and of.steps.size == 1 and of.codec in ("h264", "mpeg4")
        if of is not None and not self._large:
            own = float(np.sqrt(np.square(of.steps).mean())) * _STEPS * (_JPEG if of.codec in ("jpeg", "mjpeg") else 1)
        first = frame.image.pict_type == PictureType.I
        self._coarsest = own if first else max(own, self._coarsest)
        if of is not None and of.steps.size > 1 and of.codec not in ("jpeg", "mjpeg"):
            last = of.steps if first or self._steps is None else self._steps
            self._steps, self._side = np.maximum(of.steps, last) if last.shape == of.steps.shape else of.steps, of.block
        return min(self._coarsest, _FINER * own)

    def _roughly(self, name: Any, a: av.VideoFrame, b: av.VideoFrame, boxes: list[Box], coded: float) -> None:
        scale, limit = np.float32(255 / ((1 << a.format.components[0].bits) - 1)), _LEVELS
        for plane, (mine, theirs) in enumerate(zip(_planes(a), _planes(b), strict=True)):
            outside = _outside(mine.shape, (a.width, a.height), boxes)
            own, source = mine.astype(np.float32), theirs.astype(np.float32)
            apart = np.where(outside, own - source, np.float32(0)) * scale
            step = _BLOCK * mine.shape[0] // a.height or 1, _BLOCK * mine.shape[1] // a.width or 1
            samples = _sums(outside.astype(np.float32), step)
            enough = samples >= step[0] * step[1] / 4
            samples, sums, squares = np.maximum(samples, 1), _sums(apart, step), _sums(np.square(apart), step)
            if not plane:
                source *= scale
                if isinstance(name, int):
                    self._order.frame(name, own * scale, source, outside)
                area, means = int(outside.sum()), np.square(sums) / samples
                texture = _texture(source, outside, samples, step)
                rest = means + np.maximum(squares - means - np.minimum(texture, _FLOOR * samples), 0)
                like = int(math.log(1 + max(0.0, float(texture.sum()) / area), _LIKE))
                self._errors.append((name, _psnr(squares, area), _psnr(rest, area), like))
                usual = float(np.quantile(np.sqrt(squares / samples)[enough], 0.75)) if enough.any() else 0.0
                limit = max(
                    _MOST_LEVELS if self._large else _LEVELS,
                    min(_TIMES_USUAL * usual, max(_MOST_LEVELS, _TIMES_COARSE * usual)),
                )
            mean, error = np.abs(sums) / samples, np.sqrt(squares / samples)
            room = coded * _OF_CHROMA if plane else coded
            allowed: list[tuple[Any, Any, int]] = [
                (np.where(enough, mean, 0), min(limit, room * _OF_MEAN + _ROUNDING), _BLOCK),
                (np.where(enough, error, 0), room + _ROUNDING, _BLOCK),
            ]
            if not plane and self._steps is not None and math.isfinite(coded):
                parts = np.abs(_sums(apart, (_PART, _PART))) / _PART**2
                wide, side = 2 * max(1, _BLOCK // self._side) + 1, self._side
                most = cv2.dilate(np.maximum(self._steps, np.float32(coded / _STEPS)), np.ones((wide, wide)))
                places = (np.arange(n) * _PART // side for n in parts.shape)
                rows, columns = (np.minimum(at, n - 1) for at, n in zip(places, most.shape, strict=True))
                tops = most[np.ix_(rows, columns)] * _OF_PART + _ROUNDING
                allowed.append((parts, tops, _PART))
            for values, top, size in allowed:
                if (over := values - top).max() > 0:
                    row, column = place = np.unravel_index(int(over.argmax()), over.shape)
                    said = f"{values[place]:.0f} of 255 levels round x {column * size}, y {row * size}"
                    self._places.append((name, f"{said} (at most {values[place] - over[place]:.0f} there)"))
                    return

    def end(self) -> None:
        """Says what came out."""
        if self._faces is not None:
            self._faces.close()
        found = self.found
        if self._other_format:
            found.gaps.append(
                f"{counted(self._other_format, 'frame is', 'frames are')} of another size or sample format than the "
                "input's: they cannot be compared sample for sample"
            )
        if self._anywhere:
            found.gaps.append(
                f"on {counted(self._anywhere)} something was drawn, which may be anywhere: they are not compared"
            )
        if self._faceless:
            found.gaps.append(
                f"on {counted(len(self._faceless))} the sidecar names a box in which the input shows no "
                f"face, or none as large (the first: {self._faceless[0]}): what lies in it is not "
                "compared"
            )
        if self._unlike:
            found.gaps.append(
                f"on {counted(len(self._unlike))} the picture in a box is further from the input's than a "
                f"correction makes it (the first: {self._unlike[0]})"
            )
        if not self.known:
            total = self._whole + len(self._differ)
            if self._differ:
                found.gaps.append(
                    f"{self._whole} of {counted(total)} have every sample of the input's; where the "
                    "others may differ only a sidecar says (--sidecar)"
                )
            elif total:
                found.proofs.append(f"{counted(total)}: every sample is the input's")
            return
        if self._whole:
            found.proofs.append(f"{counted(self._whole)} without a correction: every sample is the input's")
        if self._outside:
            found.proofs.append(
                f"{counted(self._outside)} with corrections: every sample outside the faces is the "
                f"input's{self._covering()}"
            )
        if self._covered:
            found.proofs.append(f"{counted(self._covered)} filled by a face of the input, with nothing outside of it")
        for name, count in self._differ[:3]:
            found.problems.append(f"frame {name}: {count} samples outside the faces are not the input's")
        if len(self._differ) > 3:
            found.problems.append(f"{len(self._differ) - 3} more frames differ outside the faces")
        self._say_errors()

    def _covering(self) -> str:
        return (
            (
                f" (their boxes cover {median(self._shares):.0%} of the frame in the middle, {max(self._shares):.0%} "
                "at most)"
            )
            if self._shares
            else ""
        )

    def _say_errors(self) -> None:
        if not self._errors:
            return
        values = [error for _, error, *_ in self._errors]
        middle = median(values)
        usual = {k: median(e for _, e, _, like in self._errors if like >= k - 1) for k in {k for *_, k in self._errors}}
        bad = dict[Any, str]()
        alone = list[Any]()
        for name, error, rest, like in self._errors:
            for worst, expected, surely in ((error, usual[like], _SURELY_DB), (rest, middle, _UNEXPLAINED_DB)):
                if error < _FLOOR_DB or worst < min(expected - _OUTLIER_DB, surely):
                    bad[name] = f"{error:.1f} dB outside the faces, where {expected:.1f} dB are usual in this film"
                    break
            else:
                if error < min(middle - _OUTLIER_DB, _SURELY_DB):
                    alone.append(name)
        if alone:
            more = f" and {len(alone) - 1} more" if alone[1:] else ""
            self.found.gaps.append(
                f"frame {alone[0]}{more}: finer than most of the film, with an error that can be the encoder's or "
                "another picture's"
            )
        for name, which in self._order.moved:
            bad.setdefault(name, f"it is more like the frame {which} it there")
        for name, where in self._places:
            bad.setdefault(name, f"outside the faces it differs by {where}")
        for name, what in list(bad.items())[:3]:
            self.found.problems.append(f"frame {name} is not the input's: {what}")
        if len(bad) > 3:
            self.found.problems.append(f"{counted(len(bad))} are not the input's")
        if not bad:
            worst = min(values)
            shown = "equal" if math.isinf(worst) else f"PSNR {middle:.1f} dB in the middle, {worst:.1f} dB at worst"
            self.found.proofs.append(
                f"{counted(len(values))} are the input's outside the faces{self._covering()} "
                f"within the encoder's error ({shown}); the output is lossy, so more cannot be "
                "proven"
            )


def _kind(image: av.VideoFrame) -> tuple[Any, ...]:
    """What two images have in common whose samples can be compared."""
    return image.width, image.height, image.format.is_rgb, [c.bits for c in image.format.components]


def _planes(image: av.VideoFrame) -> list[NDArray[Any]]:
    wide = np.dtype(">u2" if image.format.is_big_endian else "<u2")
    kind = wide if max(c.bits for c in image.format.components) > 8 else np.dtype(np.uint8)
    return [
        plane_rows(plane)[: plane.height, : plane.width * sample_bytes(image, plane)].view(kind)
        for plane in image.planes
    ]


def _resembles(a: av.VideoFrame, b: av.VideoFrame, box: Box) -> bool:
    """Whether the picture in a box (luma samples) is about the other's: the means of 8×8 parts of each plane of it, or
    of each channel."""
    limit = _ALIKE * ((1 << a.format.components[0].bits) - 1) / 255
    return all(
        _parts_apart(mine[rows, first::each], theirs[rows, first::each], columns) <= limit
        for mine, theirs in zip(_planes(a), _planes(b), strict=True)
        for rows, columns, each in [_part_of(mine.shape, (a.width, a.height), box)]
        for first in range(each)
    )


def _part_of(shape: tuple[int, ...], size: tuple[int, int], box: Box) -> tuple[slice, slice, int]:
    """Rows and columns of a plane in which a box of luma samples lies, and the values of one sample in a row."""
    each = max(1, shape[1] // size[0])
    down, across = shape[0] / size[1], shape[1] / each / size[0]
    x0, y0, x1, y1 = box
    return (
        slice(math.floor(y0 * down), math.ceil(y1 * down)),
        slice(math.floor(x0 * across), math.ceil(x1 * across)),
        each,
    )


def _parts_apart(mine: NDArray[Any], theirs: NDArray[Any], columns: slice) -> float:
    """By how much the means of 8×8 parts differ at most."""
    apart = mine[:, columns].astype(np.float32) - theirs[:, columns]
    if not apart.size:
        return 0.0
    step = max(1, -(-apart.shape[0] // _PARTS)), max(1, -(-apart.shape[1] // _PARTS))
    return float((np.abs(_sums(apart, step)) / _sums(np.ones_like(apart), step)).max())


def _outside(shape: tuple[int, ...], size: tuple[int, int], boxes: list[Box]) -> NDArray[np.bool_]:
    """Where a plane (rows, values in a row) lies outside of boxes in luma samples."""
    out = np.ones(shape, np.bool_)
    across, down = shape[1] / size[0], shape[0] / size[1]
    for x0, y0, x1, y1 in boxes:
        out[math.floor(y0 * down) : math.ceil(y1 * down), math.floor(x0 * across) : math.ceil(x1 * across)] = False
    return out


def _psnr(squares: NDArray[np.floating[Any]], samples: int) -> float:
    """PSNR by sums of squared errors, of 255 levels."""
    mean = float(squares.sum()) / samples
    return math.inf if not mean else 10 * math.log10(255 * 255 / mean)


def _texture(
    level: NDArray[np.float32], outside: NDArray[np.bool_], samples: NDArray[np.float32], step: tuple[int, int]
) -> NDArray[np.floating[Any]]:
    """Sums of squares of each block around its mean."""
    level = np.where(outside, level - 128, np.float32(0))
    return _sums(np.square(level), step) - np.square(_sums(level, step)) / samples


def _sums(values: NDArray[np.float32], step: tuple[int, int]) -> NDArray[np.float32]:
    """The sum of every block of a plane."""
    rows = np.add.reduceat(values, np.arange(0, values.shape[0], step[0]), axis=0)
    return np.add.reduceat(rows, np.arange(0, values.shape[1], step[1]), axis=1)
