"""Networks on the CPU through ONNX Runtime, in fp32: the second opinion, and the way where OpenVINO has no build."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from rtface.engine.plan import PlanIdentity
from rtface.engine.recipe import Precision, Recipe
from rtface.errors import EngineError, MissingComponent
from rtface.frame import Float32


def supported() -> tuple[Precision, ...]:
    """ONNX Runtime's CPU kernels gain nothing from bf16."""
    return ("f32",)


def _runtime() -> ModuleType:
    try:
        import onnxruntime  # an extra: loaded when asked for only
    except ImportError as error:
        raise MissingComponent("device onnx needs ONNX Runtime; get it with: pip install 'rtface[onnx]'") from error
    return onnxruntime


def identify(recipe: Recipe, precision: Precision) -> PlanIdentity:
    """What a plan of `recipe` on this machine's CPU is remembered by. Raises MissingComponent."""
    return PlanIdentity.of(recipe, "onnxruntime", str(_runtime().__version__),
                           platform.processor() or platform.machine(), precision)


class OnnxPlan:
    """One session; see `rtface.engine.plan.Plan`."""

    def __init__(self, recipe: Recipe, precision: Precision, threads: int) -> None:
        ort: Any = _runtime()
        self.identity = identify(recipe, precision)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # it writes to stderr by itself; what matters is raised
        # Waiting threads that spin take the cores from the decoder and the encoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = ort.InferenceSession(str(recipe.model_path), options, ["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no base but Exception
            raise EngineError(f"engine {recipe.name}: ONNX Runtime cannot use {recipe.model_path.name}: "
                              f"{str(error).strip().splitlines()[0]}") from error
        self._recipe = recipe

    def run(self, inputs: Mapping[str, Float32], outputs: Mapping[str, Float32]) -> None:
        if self._session is None:
            raise EngineError(f"engine {self._recipe.name} is closed")
        try:
            answers = self._session.run(list(outputs), dict(inputs))
        except Exception as error:
            raise EngineError(f"engine {self._recipe.name}: ONNX Runtime failed: "
                              f"{str(error).strip().splitlines()[0]}") from error
        for (name, out), answer in zip(outputs.items(), answers, strict=True):
            if answer.shape != out.shape:
                raise EngineError(f"engine {self._recipe.name}: output {name} is {answer.shape}, not {out.shape}")
            np.copyto(out, answer)

    def close(self) -> None:
        self._session = None
