"""Runs networks with OpenVINO.

If the engine is calibrated for int8 and the device has int8 instructions, the calibrated convolutions run in int8; on a
CPU, all other operations then run in fp32. Otherwise everything runs in 16 bits if the device supports that (bf16 on a
CPU, fp16 on a GPU or NPU), else in fp32.

Results in fp32, and in int8 with fp32, are bit-identical for one and two threads. In int8 with bf16, they differed by
up to 3 code values. Per crop, int8 with fp32 takes 1.01 to 1.05 times the CPU time of int8 with bf16.

Device names are OpenVINO's: "CPU", "GPU", "GPU.1", "NPU".

Measured on two cores (a 1.7 M parameter U-Net at 512): bf16 takes half the time of fp32. Running single crops in a loop
is as fast per crop as a batch of four, and faster than a graph of dynamic size. Pinning threads to cores does not help,
and slows runs that also decode and encode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import openvino
from openvino import opset13

from rtface.engine.backends.int8 import Calibration, load_calibration
from rtface.engine.plan import PlanIdentity
from rtface.engine.recipe import Recipe
from rtface.engine.recipe_tables import Precision
from rtface.errors import EngineError, MissingComponent
from rtface.frame import Float32
from rtface.util import openvino_core

_EXACT: Precision = "f32"
_HALF: dict[str | None, list[Precision]] = {"bf16": ["bf16"], "f16": ["fp16"], None: []}
_HINTS: dict[Precision, str] = {"fp16": "f16", "bf16": "bf16", "f32": "f32"}


def devices() -> dict[str, str]:
    """Returns the full name of each device, by OpenVINO's short name."""
    core = openvino_core.core()
    return {name: str(core.get_property(name, "FULL_DEVICE_NAME")) for name in core.available_devices}


def check_here(device: str) -> None:
    """Raises MissingComponent if `device` does not exist. The message lists the existing devices."""
    available = devices()
    if device not in available and f"{device}.0" not in available and device.removesuffix(".0") not in available:
        raise MissingComponent(
            "OpenVINO finds no {device} here (is its driver installed?); available: {devices}",
            code="openvino_device",
            device=device,
            devices=", ".join((f"{name} ({full_name})" for name, full_name in available.items())) or "none",
        )


def supported(device: str = "CPU") -> tuple[Precision, ...]:
    """Lists the precisions that a device computes in natively, fastest first."""
    precisions: list[Precision] = []
    if (
        "INT8" in openvino_core.core().get_property(device, "OPTIMIZATION_CAPABILITIES")
        and spare_bits(device) is not None
    ):
        precisions.append("int8")
    precisions += _HALF[openvino_core.halves(device)]
    if device != "NPU":  # an NPU accepts fp32 but computes in fp16
        precisions.append("f32")
    return tuple(precisions)


_AVX2, AVX512_VNNI = 11, 23  # CV_CPU_…, missing in the Python module


def spare_bits(device: str = "CPU") -> int | None:
    """Returns the number of unused bits in int8 weights. None: int8 is no faster on this CPU, although OpenVINO reports
    it. Without VNNI, two products are summed in 16 bits: 2 · 255 · 127 overflows, 2 · 255 · 64 does not."""
    if device != "CPU" or cv2.checkHardwareSupport(AVX512_VNNI):
        return 0
    return 1 if cv2.checkHardwareSupport(_AVX2) else None


def identify(recipe: Recipe, precision: Precision, device: str = "CPU") -> PlanIdentity:
    """Returns the identity of a plan on a device of this machine."""
    name = str(openvino_core.core().get_property(device, "FULL_DEVICE_NAME"))
    if precision == "int8" and spare_bits(device):
        name += " without VNNI"  # another machine with the same CPU name may have VNNI
    return PlanIdentity.of(
        recipe, "openvino", openvino.get_version(), name if device == "CPU" else f"{device}: {name}", precision
    )


def quantise(model: openvino.Model, calibration: Calibration, spare: int = 0) -> None:
    """Makes convolutions of `model` run in int8, in place.

    Adds FakeQuantize operations to their inputs (one range each, from the calibration) and to their weights (a
    symmetric range per output channel, computed here; `spare` of the 8 bits stay unused). OpenVINO turns each such pair
    into an int8 convolution (Jacob et al. 2018, "Quantization and training of neural networks for efficient
    integer-arithmetic-only inference"). Raises EngineError if a calibrated convolution is missing.
    """
    convolutions = {
        op.get_friendly_name().removesuffix("/WithoutBiases"): op
        for op in model.get_ops()
        if op.get_type_name() == "Convolution"
    }
    for convolution in calibration.convolutions:
        op = convolutions.get(convolution.name)
        if op is None:
            raise EngineError(
                "the network has no convolution {name}, for which int8.json lists a range",
                code="int8_convolution",
                name=convolution.name,
            )
        low, high = (
            opset13.constant(np.full((1, 1, 1, 1), v, np.float32)) for v in (convolution.low, convolution.high)
        )
        quantised = opset13.fake_quantize(op.input_value(0), low, high, low, high, 256)
        op.input(0).replace_source_output(quantised.output(0))
        weights = _constant(op.input_value(1))
        limit = np.float32(2**spare) * np.maximum(np.abs(weights).max((1, 2, 3), keepdims=True), np.float32(1e-9))
        low, high = opset13.constant(-limit), opset13.constant(limit)
        rounded = opset13.fake_quantize(opset13.constant(weights), low, high, low, high, 255)
        op.input(1).replace_source_output(rounded.output(0))


def _constant(source: openvino.Output) -> Float32:
    """Returns a weight as float32. It may be stored as fp16 with a conversion."""
    node = source.get_node()
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant":
        raise EngineError(
            "{node} is not a constant, so its convolution cannot run in int8",
            code="int8_constant",
            node=node.get_friendly_name(),
        )
    return np.asarray(node.get_data(), np.float32)


def read_network(recipe: Recipe, precision: Precision, device: str = "CPU") -> openvino.Model:
    """Reads the engine's network for one crop. Raises EngineError, and RuntimeError if OpenVINO cannot read it."""
    model = openvino_core.core().read_model(recipe.network)
    model.reshape({name: [1, *shape] for name, shape in recipe.inputs.items()})
    if precision == "int8":
        calibration = load_calibration(recipe)
        if calibration is None:
            raise EngineError(
                "engine {name} has no int8 ranges for these weights; choose another precision",
                code="int8_ranges",
                name=recipe.name,
            )
        quantise(model, calibration, spare_bits(device) or 0)
    return model


class OpenVinoPlan:
    """A compiled network with one infer request (`rtface.engine.plan.Plan`)."""

    def __init__(self, recipe: Recipe, precision: Precision, threads: int, device: str = "CPU") -> None:
        *_, w, h = recipe.region
        hint = precision
        if precision == "int8":
            hint = _EXACT if device == "CPU" else (*_HALF[openvino_core.halves(device)], _EXACT)[0]
        self.identity = identify(recipe, precision, device)
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS[hint]}
        if device == "CPU":
            options |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        try:
            network = openvino_core.compile_once(
                f"{recipe.name}-{precision}",
                self.identity,
                options,
                lambda: read_network(recipe, precision, device),
                device,
                keep=recipe.learned is None,
            )
            shape = list(network.output(recipe.output.name).shape)
        except RuntimeError as error:  # OpenVINO raises no other class
            raise EngineError(
                "engine {name}: OpenVINO cannot use {file}: {why}",
                code="openvino_load",
                name=recipe.name,
                file=recipe.model_path.name,
                why=str(error).strip().splitlines()[-1],
            ) from error
        if shape != [1, 3, h, w]:
            raise EngineError(
                "engine {name}: output {output} has shape {found} instead of {wanted}",
                code="openvino_output",
                name=recipe.name,
                output=recipe.output.name,
                found=shape,
                wanted=[1, 3, h, w],
            )
        self._name = recipe.name
        self._request: openvino.InferRequest | None = network.create_infer_request()

    def run(self, inputs: Mapping[str, Float32], outputs: Mapping[str, Float32]) -> None:
        request = self._request
        assert request is not None, "the engine is closed"
        try:
            # The tensors are views, so inputs and outputs are not copied.
            for name, value in (*inputs.items(), *outputs.items()):
                request.set_tensor(name, openvino.Tensor(value, shared_memory=True))
            request.infer(share_outputs=True)  # otherwise OpenVINO copies the answers to an unused result
        except RuntimeError as error:
            raise EngineError(
                "engine {name}: OpenVINO failed: {why}",
                code="openvino_failed",
                name=self._name,
                why=str(error).strip().splitlines()[-1],
            ) from error

    def close(self) -> None:
        self._request = None
