"""One small OpenVINO network that takes a uint8 RGB picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino as ov
from openvino.preprocess import PrePostProcessor

from rtface.compiled import compile_once
from rtface.errors import MissingComponent
from rtface.frame import Bytes, Float32
from rtface.track import models


class Network:
    """A model of `rtface.track.models` on the CPU, one square picture at a time.

    Args:
        name: the model's file.
        size: side of the picture in pixels.
        threads: cores that one call may use.
        layout: the model's own, "NHWC" or "NCHW".
        bgr: whether the model was trained on BGR.
        divisor: what the samples are divided by.
        exact: compute in float32. Else in bfloat16 where the CPU has it, which is quicker, but moves the points of
            the mesh by half a pixel of its 256: that is seen as tremble.

    Raises:
        MissingComponent: the model file is damaged, or this OpenVINO cannot read or compile it.
    """

    def __init__(self, name: str, size: int, threads: int, *, layout: str = "NHWC", bgr: bool = False,
                 divisor: float = 1.0, exact: bool = True) -> None:
        core = ov.Core()
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        if exact or "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            options["INFERENCE_PRECISION_HINT"] = "f32"
        file = models.path(name)
        identity = (models.SHA256[name], size, layout, bgr, divisor)
        try:
            compiled = compile_once(core, Path(name).stem, identity, options,
                                    lambda: _read(core, file, size, layout, bgr, divisor))
        except RuntimeError as e:
            reason = str(e).strip().splitlines()[-1]
            raise MissingComponent(f"OpenVINO cannot load the face tracker's {name} ({reason}): "
                                   "pip install --force-reinstall openvino") from e
        self.size = size
        self._outputs = len(compiled.outputs)
        self._request: Any = compiled.create_infer_request()

    def __call__(self, rgb: Bytes) -> list[Float32]:
        """The outputs for a uint8 size×size×3 picture, in the model's order; valid until the next call."""
        results = self._request.infer({0: rgb[None]}, share_inputs=True, share_outputs=True)
        return [results[i] for i in range(self._outputs)]


def _read(core: ov.Core, file: Path, size: int, layout: str, bgr: bool, divisor: float) -> ov.Model:
    model = core.read_model(str(file))
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
