"""Networks on the CPU through OpenVINO, in bf16 where the CPU computes in it, else in fp32.

Measured on two cores (a 1.7 M parameter U-Net at 512): bf16 takes half the time of fp32; a fixed batch of one, run in
a loop, is as fast per crop as a batch of four and faster than a graph of open size; pinning threads to cores gains
nothing alone and loses beside a decoder and an encoder.
"""

from __future__ import annotations

import functools

import openvino

from rtface.engine.plan import PlanIdentity
from rtface.engine.recipe import Precision, Recipe
from rtface.errors import EngineError
from rtface.frame import Float32


@functools.cache
def _core() -> openvino.Core:
    return openvino.Core()


def supported() -> tuple[Precision, ...]:
    """Precisions that this CPU computes in natively, fastest first."""
    capabilities = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("bf16", "f32") if "BF16" in capabilities else ("f32",)


def identify(recipe: Recipe, precision: Precision) -> PlanIdentity:
    """What a plan of `recipe` on this machine's CPU is remembered by."""
    device = str(_core().get_property("CPU", "FULL_DEVICE_NAME"))
    return PlanIdentity.of(recipe, "openvino", openvino.get_version(), device, precision)


class OpenVinoPlan:
    """One compiled network, one infer request; see `rtface.engine.plan.Plan`."""

    def __init__(self, recipe: Recipe, precision: Precision, threads: int) -> None:
        size = recipe.input.size
        core = _core()
        self.identity = identify(recipe, precision)
        try:
            model = core.read_model(recipe.model_path)
            model.reshape({recipe.input.name: [1, 3, size, size]})
            compiled = core.compile_model(model, "CPU", {
                "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads,
                "INFERENCE_PRECISION_HINT": precision, "ENABLE_CPU_PINNING": False})
            shape = list(compiled.output(recipe.output.name).shape)
        except RuntimeError as error:  # everything that OpenVINO raises
            raise EngineError(f"engine {recipe.name}: OpenVINO cannot use {recipe.model_path.name}: "
                              f"{str(error).strip().splitlines()[-1]}") from error
        if shape != [1, 3, size, size]:
            raise EngineError(f"engine {recipe.name}: output {recipe.output.name} is {shape}, "
                              f"not [1, 3, {size}, {size}]")
        self._input, self._output = recipe.input.name, recipe.output.name
        self._name = recipe.name
        self._request: openvino.InferRequest | None = compiled.create_infer_request()

    def run(self, crop: Float32, out: Float32) -> None:
        request = self._request
        if request is None:
            raise EngineError(f"engine {self._name} is closed")
        try:
            # Both tensors are views: nothing is copied on the way in or out.
            request.set_tensor(self._input, openvino.Tensor(crop, shared_memory=True))
            request.set_tensor(self._output, openvino.Tensor(out, shared_memory=True))
            request.infer()
        except RuntimeError as error:
            raise EngineError(f"engine {self._name}: OpenVINO failed: {str(error).strip().splitlines()[-1]}") from error

    def close(self) -> None:
        self._request = None
