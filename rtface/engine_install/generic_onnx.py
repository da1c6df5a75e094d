"""A network in ONNX of the user's own, or converted by somebody else: it is taken as it is, without torch."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtface.engine.crop_runner import Restorer
from rtface.engine.plan import psnr
from rtface.engine.recipe import Recipe
from rtface.engine_install.checkpoint import file_head
from rtface.engine_install.convert import golden_crops
from rtface.engine_install.onnx_file import DOUBLE, FLOAT, OnnxFile, Value, read_onnx
from rtface.errors import InputError

log = logging.getLogger("rtface")

_SIZE = 512  # where the file leaves it open
_LARGEST = 2048  # what golden crops of it are computed for in some GB of memory
_UNLIKE_DB = 10.0


@dataclass(frozen=True, slots=True)
class Network:
    """What such a file holds: picture in and out, both N×3×`size`×`size`, a `control` or None, and the largest batch
    that it takes."""

    file: OnnxFile
    input: Value
    output: Value
    control: Value | None
    size: int
    max_batch: int

    @property
    def control_name(self) -> str | None:
        """What the control is called in the file that `write` makes."""
        if self.control is None:
            return None
        return "rtface_fidelity" if self._adapts else self.control.name

    @property
    def _adapts(self) -> bool:
        return self.control is not None and (self.control.kind, self.control.shape) not in (
            (FLOAT, (None, 1)), (FLOAT, (1, 1)))

    def write(self, target: Path) -> None:
        """Copies it, with the control as every backend takes it and without further outputs."""
        if not self._adapts and len(self.file.outputs) == 1:
            shutil.copyfile(self.file.path, target)
            return
        control = self.control if self._adapts else None
        target.write_bytes(self.file.rewritten(control, self.output, self.control_name or ""))


def inspect(path: Path) -> Network:
    """Raises InputMissing, and InputError for a network that rtface cannot use, with what it takes and gives."""
    file_head(path)
    file = read_onnx(path)
    pictures = [v for v in file.inputs if _picture(v)]
    controls = [v for v in file.inputs if v.kind in (FLOAT, DOUBLE) and _single(v)]
    outputs = [v for v in file.outputs if _picture(v)] or file.outputs[:1]
    if len(pictures) != 1 or len(controls) > 1 or len(pictures) + len(controls) != len(file.inputs) or not outputs:
        there = "; ".join(["takes " + ", ".join(v.shown for v in file.inputs),
                           "gives " + ", ".join(v.shown for v in file.outputs)])
        raise InputError(f"{path} cannot be an engine: rtface needs one input N×3×S×S float32 (S is 512 most often), "
                         f"perhaps one number beside it, and an output of the same shape; this network {there}")
    picture, control = pictures[0], controls[0] if controls else None
    size = picture.shape[2] or _SIZE
    if size % 16 or not 32 <= size <= _LARGEST:
        raise InputError(f"{path} takes pictures of {size}×{size}, and rtface needs a multiple of 16 from 32 to "
                         f"{_LARGEST}")
    open_batch = picture.shape[0] is None and (control is None or (None in control.shape[:1]))
    return Network(file, picture, outputs[0], control, size, 16 if open_batch else 1)


def _picture(value: Value) -> bool:
    shape = value.shape
    return (value.kind == FLOAT and len(shape) == 4 and shape[0] in (None, 1) and shape[1] in (None, 3)
            and shape[2] == shape[3])


def _single(value: Value) -> bool:
    return len(value.shape) <= 2 and all(d in (None, 1) for d in value.shape)


def write_golden(recipe: Recipe, threads: int) -> None:
    """Computes the golden crops' answers by OpenVINO in fp32. Raises EngineError where it cannot run the network."""
    from rtface.engine.backends.openvino import OpenVinoPlan  # takes 0.2 s

    pictures = golden_crops(recipe.input.size)
    crops = pictures.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    plan = OpenVinoPlan(recipe, "f32", threads)
    try:
        answers = Restorer(recipe, plan).restore(crops)
    finally:
        plan.close()
    likeness = min(psnr(crop, answer) for crop, answer in zip(crops, answers, strict=True))
    if likeness < _UNLIKE_DB:
        low, high = recipe.input.range
        log.warning("the answers of %s hardly resemble the crops (%.1f dB): does it restore faces, from values of "
                    "%g…%g?", recipe.name, likeness, low, high)
    np.savez_compressed(recipe.golden_path, crops=pictures, restored=answers.astype(np.float16))
