"""A plan that ONNX Runtime computes where the GPU's memory is the host's: for rehearsals without a GPU."""

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np

from rtface.engine.recipe import Recipe
from tests.device.cuda.gpu_rig import FakePlan


class HostPlan(FakePlan):
    """See the module. What it does is done at once, so no graph can hold it."""

    def __init__(self, recipe: Recipe, gpu: Any) -> None:
        now: Any = SimpleNamespace(name=gpu.name, defer=lambda handle, step: step())
        super().__init__(recipe, now, max_batch=min(8, recipe.batch.max), capturable=False)

    def _array(self, name: str, batch: int) -> np.ndarray:
        _, shape = self.ports[name]
        count = batch * int(np.prod(shape))
        values = (ctypes.c_float * count).from_address(self._buffers[name].address)
        return np.ctypeslib.as_array(values).reshape(batch, *shape)
