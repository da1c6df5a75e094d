"""Maps device names (``--device``) to backends, or explains why none is usable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from rtface.engine.backends import onnx_runtime
from rtface.engine.golden import GoldenResult, candidates, open_plan, recall
from rtface.engine.plan import Plan, PlanIdentity
from rtface.engine.recipe import Recipe
from rtface.engine.recipe_tables import Precision
from rtface.errors import EngineError, MissingComponent, UsageError, log
from rtface.frame import Float32
from rtface.util import parse, plugins


@dataclass(frozen=True, slots=True)
class Backend:
    """A way to run engines on this machine.

    Attributes:
        device: the backend's name for ``--device``, such as "openvino:gpu.1".
        where: the hardware, for messages: "this CPU", "this GPU".
        supported: precisions that the backend computes in, fastest first.
        identify: function that returns the identity of a plan.
        open: function that creates a plan; its last argument is the number of threads. Raises EngineError.
        threads: whether the backend computes on the CPU, so that the number of threads matters.
    """

    device: str
    where: str
    supported: Callable[[], tuple[Precision, ...]]
    identify: Callable[[Recipe, Precision], PlanIdentity]
    open: Callable[[Recipe, Precision, int], Plan]
    threads: bool = False


def check_device(device: str) -> str:
    """Normalises a device name. Raises UsageError, which suggests the nearest name, for an unknown one."""
    return parse.device(device, "device")


def find(device: str) -> Backend:
    """Returns the backend of one device (not "auto"). Raises UsageError and MissingComponent. The latter's message
    lists the missing package and the command that installs it, or the missing device and the available ones."""
    device = check_device(device)
    kind, number = parse.device_kind(device)
    return plugins.load("backend", kind)(device, number)


def why_unusable(name: str) -> str | None:
    """Returns why engines cannot run on a device; None if they can."""
    try:
        find(name)
    except MissingComponent as error:
        return str(error)
    except UsageError:
        pass  # `find` covers only engines that use crops in host memory
    return None


def order(device: str) -> tuple[str, ...]:
    """Lists the devices to try for crops in host memory. For "auto": OpenVINO on the CPU, then ONNX Runtime
    (`rtface.pipeline.runtime` decides whether a run uses a GPU instead)."""
    device = check_device(device)
    return ("cpu", "onnx") if device == "auto" else (device,)


class DeferredPlan:
    """Opens a plan for its first crop (`rtface.engine.plan.Plan`). For plans that are known to pass the gate.

    Args:
        open_now: `open_engine` without `deferred`; if this plan fails, it opens the next one.
    """

    def __init__(self, identity: PlanIdentity, open_now: partial[tuple[Backend, Plan, GoldenResult, str]]) -> None:
        self.identity, self._open_now = identity, open_now
        self._plan: Plan | None = None

    def run(self, inputs: Mapping[str, Float32], outputs: Mapping[str, Float32]) -> None:
        self._plan = self._plan or self._open_now()[1]
        self._plan.run(inputs, outputs)

    def close(self) -> None:
        if self._plan is not None:
            self._plan.close()


def open_engine(
    recipe: Recipe, device: str, threads: int, *, deferred: bool = False
) -> tuple[Backend, Plan, GoldenResult, str]:
    """Opens the first plan for `device` that passes the gate. Also returns the backend, the verdict, and one line about
    the choice. With `deferred`, a plan with a cached verdict is built for its first crop. Raises UsageError and
    MissingComponent; if no plan passes, raises the first plan's EngineError."""
    skipped: list[str] = []
    first_error: EngineError | MissingComponent | None = None
    for name in order(device):
        try:
            backend = find(name)
        except MissingComponent as error:
            first_error = first_error if isinstance(first_error, EngineError) else error
            skipped.append(str(error).split(";")[0])
            continue
        try:
            open_now = partial(open_engine, recipe, device, threads) if deferred else None
            plan, verdict = open_plan(recipe, backend.supported(), partial(_build, backend, recipe, threads, open_now))
        except EngineError as error:
            first_error = first_error if isinstance(first_error, EngineError) else error
            skipped.append(f"device {name} returned no usable answer")
            if device == "auto":
                log.warning("device %s: %s", name, error)
            continue
        return backend, plan, verdict, "; ".join([_why(recipe, plan.identity.precision, backend), *skipped])
    assert first_error is not None
    raise first_error


def _build(
    backend: Backend,
    recipe: Recipe,
    threads: int,
    open_now: partial[tuple[Backend, Plan, GoldenResult, str]] | None,
    precision: Precision,
) -> Plan:
    if open_now and (verdict := recall(identity := backend.identify(recipe, precision))) and verdict.passed:
        return DeferredPlan(identity, open_now)
    return backend.open(recipe, precision, threads)


def _why(recipe: Recipe, precision: Precision, backend: Backend) -> str:
    if precision == "int8":
        return f"{backend.where} computes in int8, and the engine is calibrated for it"
    half_precisions: list[Precision] = [p for p in backend.supported() if p in ("fp16", "bf16")]
    rejected = candidates(recipe, half_precisions) if precision == "f32" else []
    if rejected and recipe.precision.default != "f32":
        return f"its answers in {' and '.join(rejected)} are too far from the reference"
    return f"{backend.where} computes in {precision}"


def cpu_backend(device: str, number: int) -> Backend:
    """Creates the backend for OpenVINO on the CPU."""
    from rtface.engine.backends import openvino  # importing takes 0.2 s

    return Backend(device, "this CPU", openvino.supported, openvino.identify, openvino.OpenVinoPlan, threads=True)


def openvino_backend(device: str, number: int) -> Backend:
    """Creates the backend for OpenVINO on a GPU or NPU."""
    from rtface.engine.backends import openvino  # importing takes 0.2 s

    name = device.removeprefix("openvino:").upper()
    openvino.check_here(name)
    return Backend(
        device,
        f"this {name.split('.')[0]}",
        partial(openvino.supported, name),
        partial(openvino.identify, device=name),
        partial(openvino.OpenVinoPlan, device=name),
    )


def onnx_backend(device: str, number: int) -> Backend:
    """Creates the backend for ONNX Runtime on the CPU."""
    onnx_runtime.runtime()
    return Backend(
        device,
        "ONNX Runtime on this CPU",
        onnx_runtime.supported,
        onnx_runtime.identify,
        onnx_runtime.OnnxPlan,
        threads=True,
    )


def cuda_backend(device: str, number: int) -> NoReturn:
    """Raises an error, because TensorRT uses crops in GPU memory. `find` is for crops in host memory."""
    from rtface.engine.cuda import driver

    driver.check(number)
    raise UsageError(
        "device {device} cannot be used here: its engines need crops in GPU memory, as in rtface.run and "
        "rtface.Enhancer; for crops in the computer's memory, choose cpu or onnx",
        code="device_host_crops",
        device=device,
    )
