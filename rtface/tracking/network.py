"""Runs a small OpenVINO network for uint8 RGB frames, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino.preprocess import PrePostProcessor

from rtface.errors import MissingComponent
from rtface.frame import Bytes, Float, Float32
from rtface.protocols import View
from rtface.tracking import models
from rtface.util.openvino_core import CompileOptions, compile_once, core


class TrackerNetwork:
    """Runs a model of `rtface.tracking.models` on one square frame at a time.

    Args:
        name: file name of the model.
        size: side of the frame in pixels.
        threads: number of cores for one call.
        layout: the model's layout, "NHWC" or "NCHW".
        bgr: whether the model was trained on BGR.
        divisor: number by which samples are divided.
        exact: whether to compute in float32. Otherwise, 16 bits are used if the CPU supports them. That is faster, but
            bfloat16 moves the mesh's points by half a pixel of 256, which is a visible jitter.

    Raises:
        MissingComponent: the model file is damaged, or this OpenVINO cannot read or compile it.
    """

    def __init__(
        self,
        name: str,
        size: int,
        threads: int,
        *,
        layout: str = "NHWC",
        bgr: bool = False,
        divisor: float = 1.0,
        exact: bool = True,
    ) -> None:
        file = models.path(name)
        identity = (models.SHA256[name], size, layout, bgr, divisor)
        try:
            compiled = compile_once(
                Path(name).stem,
                identity,
                _options(threads, exact),
                lambda: _read(file, size, layout, bgr, divisor),
            )
        except RuntimeError as e:
            raise MissingComponent(
                "OpenVINO cannot load the face tracker's {name} ({why}): pip install --force-reinstall openvino",
                code="tracker_load",
                name=name,
                why=str(e).strip().splitlines()[-1],
            ) from e
        self.size = size
        self._request: Any = compiled.create_infer_request()
        self._outputs = [self._request.get_output_tensor(i) for i in range(len(compiled.outputs))]

    def __call__(self, rgb: Bytes) -> list[Float32]:
        """Returns the outputs for a uint8 size×size×3 frame, in the model's order. They are valid until the next
        call."""
        self._request.set_input_tensor(ov.Tensor(np.ascontiguousarray(rgb[None]), shared_memory=True))
        self._request.infer(share_outputs=True)
        return [output.data for output in self._outputs]

    def read(self, view: View, matrix: Float) -> tuple[list[Float32], Bytes]:
        """Returns the outputs for a region of a view, and its pixels. `matrix` maps display to the region."""
        pixels = view.crop(matrix, (self.size, self.size))
        return self(pixels), pixels


def _options(threads: int, exact: bool) -> CompileOptions:
    options: CompileOptions = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    if exact or "BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        options["INFERENCE_PRECISION_HINT"] = "f32"
    return options


def _read(file: Path, size: int, layout: str, bgr: bool, divisor: float) -> ov.Model:
    model = core().read_model(str(file))
    model.reshape([1, size, size, 3] if layout == "NHWC" else [1, 3, size, size])
    steps = PrePostProcessor(model)
    entry = steps.input()
    entry.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    entry.model().set_layout(ov.Layout(layout))
    entry.preprocess().convert_element_type(ov.Type.f32)
    if divisor != 1:
        entry.preprocess().scale(divisor)
    if bgr:
        entry.preprocess().reverse_channels()
    return steps.build()
