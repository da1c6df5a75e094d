"""Runs networks with ONNX Runtime on the CPU in fp32: an alternative to OpenVINO."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from rtface.engine.plan import PlanIdentity
from rtface.engine.recipe import Recipe
from rtface.engine.recipe_tables import Precision
from rtface.errors import EngineError, MissingComponent
from rtface.frame import Float32
from rtface.util.install import extra_line


def supported() -> tuple[Precision, ...]:
    """Returns only fp32. On CPUs, ONNX Runtime is no faster in bf16."""
    return ("f32",)


def runtime() -> ModuleType:
    """Imports the package. Raises MissingComponent."""
    try:
        import onnxruntime  # an optional package, imported on demand
    except ImportError as error:
        raise MissingComponent(
            "device onnx needs ONNX Runtime, which is not installed; get it with: {repair}",
            code="onnx_missing",
            repair=extra_line("onnx"),
        ) from error
    return onnxruntime


def identify(recipe: Recipe, precision: Precision) -> PlanIdentity:
    """Returns the identity of a plan on this machine. Raises MissingComponent."""
    device = platform.processor() or platform.machine()
    return PlanIdentity.of(recipe, "onnxruntime", str(runtime().__version__), device, precision)


class OnnxPlan:
    """An ONNX Runtime session (`rtface.engine.plan.Plan`)."""

    def __init__(self, recipe: Recipe, precision: Precision, threads: int) -> None:
        ort: Any = runtime()
        self.identity = identify(recipe, precision)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # no errors on stderr, because they are raised anyway
        # Spinning threads would take cores from the decoder and the encoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        network = recipe.network
        try:
            self._session: Any = ort.InferenceSession(
                network if isinstance(network, bytes) else str(network), options, ["CPUExecutionProvider"]
            )
        except Exception as error:  # the only common base class of ONNX Runtime's exceptions
            raise EngineError(
                "engine {name}: ONNX Runtime cannot use {file}: {why}",
                code="onnx_load",
                name=recipe.name,
                file=recipe.model_path.name,
                why=str(error).strip().splitlines()[0],
            ) from error
        self._recipe = recipe

    def run(self, inputs: Mapping[str, Float32], outputs: Mapping[str, Float32]) -> None:
        try:
            results = self._session.run(list(outputs), dict(inputs))
        except Exception as error:
            raise EngineError(
                "engine {name}: ONNX Runtime failed: {why}",
                code="onnx_failed",
                name=self._recipe.name,
                why=str(error).strip().splitlines()[0],
            ) from error
        for (name, out), result in zip(outputs.items(), results, strict=True):
            if result.shape != out.shape:
                raise EngineError(
                    "engine {name}: output {output} has shape {found} instead of {wanted}",
                    code="onnx_output",
                    name=self._recipe.name,
                    output=name,
                    found=result.shape,
                    wanted=out.shape,
                )
            np.copyto(out, result)

    def close(self) -> None:
        self._session = None
