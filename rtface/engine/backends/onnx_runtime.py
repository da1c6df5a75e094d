"""Networks through ONNX Runtime: on the CPU in fp32 (the second opinion, and the way where OpenVINO has no build), on
Apple's chips through CoreML and on any GPU of Windows through DirectML.

The execution providers of the last two take the nodes that they know; ONNX Runtime computes the others on the CPU, in
the same session. Both want shapes that do not change, so the network is read for one crop. They compute in the
precision that the network is written in, and ours are in fp32.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from rtface.engine.plan import PlanIdentity
from rtface.engine.recipe import Recipe
from rtface.engine.recipe_tables import Precision
from rtface.errors import EngineError, Message, MissingComponent
from rtface.frame import Float32
from rtface.util.install import extra_line


@dataclass(frozen=True, slots=True)
class Provider:
    """An execution provider.

    Attributes:
        name: ONNX Runtime's.
        what: it computes with, for messages.
        system: where it is built for, as `platform.system` says it; "" for everywhere.
        repair: the line that brings it.
        options: of the provider.
    """

    name: str
    what: str
    system: str = ""
    repair: str = field(default_factory=lambda: extra_line("onnx"))
    options: dict[str, str] = field(default_factory=dict[str, str])


CPU = Provider("CPUExecutionProvider", "ONNX Runtime on this CPU")
COREML = Provider(
    "CoreMLExecutionProvider",
    "CoreML",
    "Darwin",
    "pip install --force-reinstall onnxruntime",
    {"ModelFormat": "MLProgram", "MLComputeUnits": "ALL", "RequireStaticInputShapes": "1"},
)
# Both wheels put the same folder into site-packages.
DIRECTML = Provider(
    "DmlExecutionProvider",
    "DirectML",
    "Windows",
    "pip uninstall -y onnxruntime && pip install onnxruntime-directml",
    {"device_id": "0"},
)
# For --device torch:cuda only; TF32 would round fp32 convolutions to 10 bits.
CUDA = Provider(
    "CUDAExecutionProvider",
    "ONNX Runtime's CUDA provider",
    repair=Message(
        "pip uninstall -y onnxruntime && pip install onnxruntime-gpu, or choose {--device:cuda} or cpu",
        code="onnx_gpu_repair",
    ),
    options={"use_tf32": "0"},
)

_SYSTEMS = {"Darwin": "macOS"}


def supported() -> tuple[Precision, ...]:
    """ONNX Runtime's CPU kernels gain nothing from bf16, and the other providers have no switch for 16 bits."""
    return ("f32",)


def runtime() -> ModuleType:
    """The package. Raises MissingComponent."""
    try:
        import onnxruntime  # an extra: loaded when asked for only
    except ImportError as error:
        raise MissingComponent(
            "ONNX Runtime is not installed, which device onnx needs; get it with: {repair}",
            code="onnx_missing",
            repair=extra_line("onnx"),
        ) from error
    return onnxruntime


def check_here(provider: Provider) -> None:
    """Raises MissingComponent when this machine's ONNX Runtime has no such provider."""
    system = _SYSTEMS.get(provider.system, provider.system)
    if provider.system not in ("", platform.system()):
        raise MissingComponent(
            "{what} is part of {system}, and this is {this}",
            code="provider_system",
            what=provider.what,
            system=system,
            this=platform.system(),
        )
    try:
        here: list[str] = runtime().get_available_providers()
    except MissingComponent as error:
        raise MissingComponent(
            "ONNX Runtime is not installed, which {what} needs; get it with: {repair}",
            code="onnx_missing_for",
            what=provider.what,
            repair=provider.repair,
        ) from error
    if provider.name not in here:
        raise MissingComponent(
            "this ONNX Runtime has no {name} (only {here}); get one that has: {repair}",
            code="provider_missing",
            name=provider.name,
            here=", ".join(here),
            repair=provider.repair,
        )


def identify(recipe: Recipe, precision: Precision, provider: Provider = CPU) -> PlanIdentity:
    """What a plan of `recipe` on this machine is remembered by. Raises MissingComponent."""
    ort = runtime()
    device = platform.processor() or platform.machine()
    if provider is not CPU:
        device = f"{provider.what} on {_gpus(ort, provider) or device}, {platform.platform()}"
    return PlanIdentity.of(recipe, "onnxruntime", str(ort.__version__), device, precision)


def _gpus(ort: Any, provider: Provider) -> str:
    """What the provider runs on, as far as ONNX Runtime knows."""
    found: list[str] = [
        str(d.device.metadata.get("Description", d.device.vendor))
        for d in ort.get_ep_devices()
        if d.ep_name == provider.name
    ]
    return ", ".join(found)


class OnnxPlan:
    """One session; see `rtface.engine.plan.Plan`."""

    def __init__(self, recipe: Recipe, precision: Precision, threads: int, provider: Provider = CPU) -> None:
        ort: Any = runtime()
        self.identity = identify(recipe, precision, provider)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # it writes to stderr by itself; what matters is raised
        # Waiting threads that spin take the cores from the decoder and the encoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers: list[Any] = [CPU.name]
        try:
            if provider is not CPU:
                providers.insert(0, (provider.name, dict(provider.options)))
                for name, size in open_sizes(ort, recipe).items():
                    options.add_free_dimension_override_by_name(name, size)
                # DirectML refuses both; CoreML gains from neither.
                options.enable_mem_pattern = False
                options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
            self._session: Any = ort.InferenceSession(_given(recipe), options, providers, enable_fallback=0)
        except Exception as error:  # ONNX Runtime's exceptions share no base but Exception
            raise EngineError(
                "engine {name}: ONNX Runtime cannot use {file}: {why}",
                code="onnx_load",
                name=recipe.name,
                file=recipe.model_path.name,
                why=str(error).strip().splitlines()[0],
            ) from error
        if provider.name not in self._session.get_providers():
            raise EngineError(
                "engine {name}: ONNX Runtime left out {provider} and would run on the CPU",
                code="onnx_left_out",
                name=recipe.name,
                provider=provider.name,
            )
        self._recipe = recipe

    def run(self, inputs: Mapping[str, Float32], outputs: Mapping[str, Float32]) -> None:
        if self._session is None:
            raise EngineError("engine {name} is closed", code="engine_closed", name=self._recipe.name)
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
                    "engine {name}: output {output} is {found}, not {wanted}",
                    code="onnx_output",
                    name=self._recipe.name,
                    output=name,
                    found=result.shape,
                    wanted=out.shape,
                )
            np.copyto(out, result)

    def close(self) -> None:
        self._session = None


def _given(recipe: Recipe) -> str | bytes:
    network = recipe.network
    return network if isinstance(network, bytes) else str(network)


def open_sizes(ort: Any, recipe: Recipe) -> dict[str, int]:
    """The dimensions that the network leaves open, by name, each with its size for one crop."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # only the names are wanted
    session = ort.InferenceSession(_given(recipe), options, [CPU.name])
    wanted, sizes = recipe.inputs, dict[str, int]()
    for port in session.get_inputs():
        for written, size in zip(port.shape, (1, *wanted.get(port.name, ())), strict=False):
            if isinstance(written, str):
                sizes[written] = size
    return sizes
