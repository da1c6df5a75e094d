"""Prepares stills for enhancement: fills damage (``--repair``), removes fading (``--colour restore``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from rtface.config.options import FaceOptions
from rtface.device.cpu.fading import unfaded
from rtface.errors import Message
from rtface.frame import Bytes, Frame
from rtface.geometry.transforms import display_size
from rtface.media.files.image_names import has_still_name
from rtface.media.read.enlarge import Enlarger
from rtface.pipeline.build import open_tracker
from rtface.pipeline.fading import FadingSearch
from rtface.pipeline.plan import FramePlan
from rtface.repair.mask import as_stored, boxes_of, mask_in, read_mask, upright_size
from rtface.repair.repairer import Repairer

_REACH = 17  # side in samples of what one sample of subsampled chroma changes when an image is enlarged


def open_repairer(options: FaceOptions, stack: ExitStack, threads: int | None = None) -> Repairer:
    """Returns a repairer with its own tracker, which `stack` closes."""
    return Repairer(open_tracker(options, stack), threads)


class StillPreparation:
    """Prepares the stills of a run as its plan says. `stack` closes the trackers."""

    def __init__(self, plan: FramePlan, stack: ExitStack) -> None:
        options = plan.options
        self._source, self.enlarger = options.repair, Enlarger(options.scale)
        self._repairer = open_repairer(options, stack, options.threads) if options.repair else None
        self._fading = FadingSearch(options, stack) if options.colour == "restore" else None

    def steps(self, frame: Frame, path: Path) -> Iterator[tuple[str, Frame]]:
        """Yields the steps that changed a still: name and frame.

        The next step may overwrite a frame.

        Raises:
            UsageError, InputMissing, InputError: the mask cannot be used.
        """
        if self._repairer is not None and (filled := self._fill(frame.source or frame, path, self._repairer)):
            frame = _with_boxes(replace(self.enlarger(filled), before=frame.before))
            yield "damage filled", frame
        if self._fading is not None and (curve := self._fading.curve([frame])) is not None:
            yield "fading removed", unfaded(frame, curve)

    def _fill(self, frame: Frame, path: Path, repairer: Repairer) -> Frame | None:
        if not isinstance(source := self._source, Path):
            return repairer.fill(frame, repairer.propose(frame).mask)
        mask = mask_in(source, path) if source.is_dir() else source
        return None if mask is None else repairer.fill(frame, read_mask(mask, upright_size(frame)))


def _with_boxes(frame: Frame) -> Frame:
    """Adds the boxes of filled samples to a frame's changed boxes."""
    (width, height), mask = display_size(frame.image.width, frame.image.height, frame.display), frame.filled
    assert mask is not None and frame.changed is not None
    boxes = boxes_of(_spread(mask, width), (width / mask.shape[1], height / mask.shape[0]))
    return replace(frame, touched=True, changed=frame.changed + boxes)


def _spread(mask: Bytes, width: float) -> Bytes:
    """Widens an upright mask by the reach of an enlargement's filter."""
    if width == mask.shape[1]:
        return mask
    return np.asarray(cv2.dilate(mask, np.ones((_REACH, _REACH), np.uint8)), np.uint8)


def map_filled(frame: Frame) -> Frame:
    """Marks filled samples as invented in a frame's map."""
    if frame.filled is None:
        return frame
    size = frame.image.width, frame.image.height
    spread = _spread(frame.filled, display_size(*size, frame.display)[0])
    filled = cv2.resize(as_stored(spread, frame.display), size, interpolation=cv2.INTER_LINEAR)
    whole = np.where(filled > 0, np.uint8(255), np.uint8(0))
    return replace(frame, invented=whole if frame.invented is None else np.maximum(frame.invented, whole))


def repair_notes(source: Path | str, stills: Sequence[Path], filled: Sequence[int]) -> Iterator[Message]:
    """Yields notes on a run with ``--repair``.

    Args:
        source: value of the option.
        stills: paths of all stills.
        filled: number of filled pixels of each still that was written.
    """
    count = sum(map(bool, filled))
    values = {"mask": source, "count": count, "all": len(filled), "pixels": sum(filled)}
    line = "{--repair:{mask}}: damage was filled in {count} of {all} images, in {pixels} pixels in total"
    yield Message(line, code="repaired", **values)
    if isinstance(source, Path) and source.is_dir():
        used = {mask_in(source, still) for still in stills}
        if unused := [path.name for path in source.iterdir() if has_still_name(path) and path not in used]:
            line = "{--repair:{mask}}: these masks belong to no image: {names}"
            yield Message(line, code="masks_unused", mask=source, names=", ".join(sorted(unused)))
