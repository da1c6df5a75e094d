"""One OpenVINO network with float32 input and outputs, compiled for few threads and low latency."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov

from rtface.errors import MissingComponent
from rtface.frame import Float32
from rtface.track import models


class Network:
    """A model of `rtface.track.models`, one picture at a time.

    Computed in float32: bfloat16 moves the mesh by up to a pixel of its 256, which is seen as jitter.

    Raises:
        MissingComponent: the model file is damaged, or this OpenVINO cannot read or compile it.
    """

    def __init__(self, name: models.Name, size: int, threads: int) -> None:
        core = ov.Core()
        try:
            model = core.read_model(str(models.path(name)))
            model.reshape([1, size, size, 3])
            compiled = core.compile_model(model, "CPU", {
                "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"})
        except RuntimeError as e:
            reason = str(e).strip().splitlines()[-1]
            raise MissingComponent(f"OpenVINO cannot load the face tracker's {name} ({reason}): "
                                   "pip install --force-reinstall openvino") from e
        self.size = size
        self._input: Float32 = np.zeros((1, size, size, 3), np.float32)
        self._request: Any = compiled.create_infer_request()

    def __call__(self, rgb: Any, scale: float, offset: float) -> list[Float32]:
        """The outputs for uint8 size×size×3, fed as ``rgb * scale + offset``; valid until the next call."""
        np.multiply(rgb, np.float32(scale), out=self._input[0], casting="unsafe")
        if offset:
            self._input += np.float32(offset)
        results = self._request.infer({0: self._input}, share_inputs=True, share_outputs=True)
        return [results[i] for i in range(len(results))]
