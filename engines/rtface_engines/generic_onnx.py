"""Inspects a user's ONNX file and writes it as an engine's network.

OpenVINO reads the file. The ``onnx`` package is needed only if the file must be rewritten.
"""

from __future__ import annotations

import importlib.util
import math
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtface.engine.crop_runner import CropRunner
from rtface.engine.golden import psnr
from rtface.engine.recipe import Recipe
from rtface.errors import InputError, MissingComponent, log
from rtface.util.install import PIP
from rtface_engines.checkpoint import file_head
from rtface_engines.convert import golden_crops

_DEFAULT_SIZE = 512  # crop size in pixels if the file does not fix it
_MAX_SIZE = 2048  # pixels; golden crops of this size need some GB of memory
_MIN_LIKENESS_DB = 10.0  # PSNR below which a warning is logged
_CONTROL_NAME = "rtface_fidelity"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Name, type (such as "float32") and shape of an input or output. Variable dimensions are None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    @property
    def shown(self) -> str:
        """Text such as "input N×3×512×512 float32". A variable side is shown as "any"."""
        dims = "×".join(str(d) if d is not None else "N" if k == 0 else "any" for k, d in enumerate(self.shape))
        return f"{self.name} {dims or 'a scalar'} {self.dtype}"

    @property
    def is_image(self) -> bool:
        """True if the tensor can contain square RGB crops, N×3×S×S float32."""
        shape = self.shape
        return (
            self.dtype == "float32"
            and len(shape) == 4
            and shape[0] in (None, 1)
            and shape[1] in (None, 3)
            and shape[2] == shape[3]
        )

    @property
    def is_number(self) -> bool:
        """True if the tensor contains one floating-point number, or one per crop."""
        return self.dtype in ("float32", "float64") and len(self.shape) <= 2 and all(d in (None, 1) for d in self.shape)


@dataclass(frozen=True, slots=True)
class GenericNetwork:
    """The network in the ONNX file at `path`.

    Attributes:
        input, output: tensors of the crops, both N×3×`size`×`size`.
        control: input for one number, or None if there is none.
        max_batch: largest possible batch.
        parameters: number of weights.
        outputs: number of outputs in the file.
    """

    path: Path
    input: TensorInfo
    output: TensorInfo
    control: TensorInfo | None
    size: int
    max_batch: int
    parameters: int
    outputs: int

    @property
    def control_name(self) -> str | None:
        """Name of the control input in the file that `write` creates."""
        if self.control is None:
            return None
        return _CONTROL_NAME if self._adapts else self.control.name

    @property
    def rewrites(self) -> bool:
        """True if `write` changes the file. It then needs the onnx package."""
        return self._adapts or self.outputs > 1

    @property
    def _adapts(self) -> bool:
        return self.control is not None and (self.control.dtype, self.control.shape) not in (
            ("float32", (None, 1)),
            ("float32", (1, 1)),
        )

    def write(self, target: Path) -> None:
        """Writes the network with only the image output. A control becomes N×1 float32."""
        if not self.rewrites:
            shutil.copyfile(self.path, target)
            return
        import onnx  # an optional dependency

        try:
            model: Any = onnx.load(str(self.path))
            for value in [value for value in model.graph.output if value.name != self.output.name]:
                model.graph.output.remove(value)
            if self._adapts:
                _adapt(onnx, model.graph, self.control)
            data = model.SerializeToString()
        except Exception as error:  # the only common base class of protobuf's errors
            raise InputError(
                "{path} cannot be rewritten: {why}",
                code="onnx_rewrite",
                path=self.path,
                why=str(error).strip().splitlines()[0],
            ) from error
        target.write_bytes(data)


def _adapt(onnx: Any, graph: Any, control: Any) -> None:
    """Replaces `control` by an N×1 float32 input, which new nodes convert."""
    kind = onnx.TensorProto.DOUBLE if control.dtype == "float64" else onnx.TensorProto.FLOAT
    reshaped, shape = f"{_CONTROL_NAME}_reshaped", f"{_CONTROL_NAME}_shape"
    dims = np.array([-1 if d is None else d for d in control.shape], np.int64)
    (old,) = (value for value in graph.input if value.name == control.name)
    graph.input.remove(old)
    graph.input.append(onnx.helper.make_tensor_value_info(_CONTROL_NAME, onnx.TensorProto.FLOAT, ["n", 1]))
    graph.initializer.append(onnx.numpy_helper.from_array(dims, shape))
    graph.node.insert(0, onnx.helper.make_node("Cast", [reshaped], [control.name], name="rtface/Cast", to=kind))
    graph.node.insert(0, onnx.helper.make_node("Reshape", [_CONTROL_NAME, shape], [reshaped], name="rtface/Reshape"))


def inspect(path: Path) -> GenericNetwork:
    """Reads inputs and outputs of the network in an ONNX file.

    Raises:
        InputMissing: there is no such file.
        InputError: the file is not ONNX, is damaged, has external weights, or its network cannot be an engine.
        MissingComponent: rewriting the file needs the onnx package.
    """
    file_head(path)
    inputs, outputs, parameters = _read(path)
    images = [v for v in inputs if v.is_image]
    controls = [v for v in inputs if v.is_number]
    results = [v for v in outputs if v.is_image] or outputs[:1]
    if len(images) != 1 or len(controls) > 1 or len(images) + len(controls) != len(inputs) or not results:
        input_texts, output_texts = (", ".join(v.shown for v in values) for values in (inputs, outputs))
        raise InputError(
            "{path} cannot be an engine: rtface needs one input N×3×S×S float32 (S is usually 512), at most one "
            "number, and an output of the same shape; this network's inputs are {takes}, its outputs {gives}",
            code="onnx_shape",
            path=path,
            takes=input_texts,
            gives=output_texts,
        )
    image, control = images[0], controls[0] if controls else None
    size = image.shape[2] or _DEFAULT_SIZE
    if size % 16 or not 32 <= size <= _MAX_SIZE:
        raise InputError(
            "{path} expects images of {size}×{size}, but rtface needs a multiple of 16 from 32 to {most}",
            code="onnx_size",
            path=path,
            size=size,
            most=_MAX_SIZE,
        )
    open_batch = image.shape[0] is None and (control is None or None in control.shape[:1])
    network = GenericNetwork(path, image, results[0], control, size, 16 if open_batch else 1, parameters, len(outputs))
    if network.rewrites and importlib.util.find_spec("onnx") is None:
        raise MissingComponent(
            "{path} has more than one output, or a control of a shape or type that rtface does not support; the onnx "
            "package can rewrite such files; install it with: {repair} onnx",
            code="onnx_control",
            path=path,
            repair=PIP,
        )
    return network


def _read(path: Path) -> tuple[list[TensorInfo], list[TensorInfo], int]:
    """Returns a network's inputs, outputs and number of weights. Raises InputError if the file is unreadable."""
    from openvino.frontend import FrontEndManager  # importing takes 0.2 s

    with _isolated(path) as file:
        try:
            reader = FrontEndManager().load_by_framework("onnx")
            graph = reader.load(str(file))
            inputs, outputs = (
                [_info(graph, tensor) for tensor in tensors] for tensors in (graph.get_inputs(), graph.get_outputs())
            )
        except MemoryError:
            raise
        except Exception as error:  # the only common base class of errors of OpenVINO's readers
            if "external" in str(error):
                raise InputError(
                    "{path} has its weights in other files; combine the files first: python -c 'import onnx; "
                    'onnx.save(onnx.load("in.onnx"), "one.onnx")\'',
                    code="onnx_external",
                    path=path,
                ) from error
            raise InputError(
                "{path} is damaged or not an ONNX file; download it again", code="onnx_none", path=path
            ) from error
        try:
            constants = [op.output(0) for op in reader.convert(graph).get_ops() if op.get_type_name() == "Constant"]
        except MemoryError:
            raise
        except Exception as error:
            raise InputError(
                "OpenVINO cannot use {path}: {why}",
                code="onnx_openvino",
                path=path,
                why=str(error).strip().splitlines()[-1],
            ) from error
    weights = [math.prod(c.get_shape()) for c in constants if c.get_element_type().is_real()]
    if not inputs and not outputs:
        raise InputError("{path} is damaged or not an ONNX file; download it again", code="onnx_none", path=path)
    return inputs, outputs, sum(count for count in weights if count > 1)


@contextmanager
def _isolated(path: Path) -> Generator[Path]:
    """Yields a copy or link, alone in a folder. Otherwise, OpenVINO would read weights files next to it."""
    with tempfile.TemporaryDirectory(prefix="rtface-") as folder:
        file = Path(folder) / "model.onnx"
        try:
            file.symlink_to(path.absolute())
        except OSError:  # on Windows, most users may not create links
            shutil.copyfile(path, file)
        yield file


def _info(graph: Any, tensor: Any) -> TensorInfo:
    kind, shape = graph.get_element_type(tensor), graph.get_partial_shape(tensor)
    try:
        dtype = str(kind.to_dtype().name)
    except (RuntimeError, ValueError):
        dtype = str(kind.get_type_name())
    dims = (
        ()
        if shape.rank.is_dynamic
        else tuple(d.get_length() if d.is_static and d.get_length() > 0 else None for d in shape)
    )
    return TensorInfo(tensor.get_names()[0], dtype, dims)


def write_golden(recipe: Recipe, threads: int) -> None:
    """Computes and writes golden outputs, with OpenVINO in fp32. Raises EngineError if the network cannot run."""
    from rtface.engine.backends.openvino import OpenVinoPlan  # importing takes 0.2 s

    images = golden_crops(recipe.input.size)
    crops = images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    plan = OpenVinoPlan(recipe, "f32", threads)
    try:
        answers = CropRunner(recipe, plan).restore(crops).pixels
    finally:
        plan.close()
    likeness = min(psnr(crop, answer) for crop, answer in zip(crops, answers, strict=True))
    if likeness < _MIN_LIKENESS_DB:
        low, high = recipe.input.range
        log.warning(
            "the outputs of %s hardly resemble the crops (%.1f dB): does it restore faces, with input values of %g…%g?",
            recipe.name,
            likeness,
            low,
            high,
        )
    np.savez_compressed(recipe.golden_path, crops=images, restored=answers.astype(np.float16))
