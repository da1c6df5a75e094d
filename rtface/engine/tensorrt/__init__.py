"""Runs networks on NVIDIA GPUs with TensorRT or TensorRT for RTX.

Needs one of the extras ``rtx`` and ``tensorrt``, whose packages are imported on first use.
"""

from __future__ import annotations

from rtface.device.cuda.gpu import Gpu
from rtface.engine.golden import GoldenResult, open_plan
from rtface.engine.plan import PlanIdentity
from rtface.engine.recipe import Recipe
from rtface.engine.recipe_tables import Precision
from rtface.engine.tensorrt import store
from rtface.engine.tensorrt.builder import build, profile
from rtface.engine.tensorrt.execution import Execution
from rtface.engine.tensorrt.library import Library, choose, installed, precisions, sm
from rtface.engine.tensorrt.plan import TensorRtPlan
from rtface.errors import DeviceLost, EngineError, OutOfDeviceMemory, log


def open_tensorrt(recipe: Recipe, gpu: Gpu, *, precision: Precision | None = None) -> tuple[TensorRtPlan, GoldenResult]:
    """Opens a cached plan that passed the golden gate, or builds one.

    Args:
        recipe: recipe of the engine.
        gpu: the GPU; must be current in this thread, now and whenever the plan is used.
        precision: the first precision to try, before safer ones; None for fp16.

    Raises:
        MissingComponent: the engine's files, TensorRT or the ``onnx`` package are missing.
        EngineError: no precision can be built, or none matches the reference on this GPU.
    """
    recipe.check_weights()
    library = choose(gpu.capability, installed(), gpu.name)
    log.info("%s: %s (%s)", library.name, gpu.name, sm(gpu.capability))
    plan, verdict = open_plan(
        recipe, precisions(gpu.capability, precision), lambda p: open_as(recipe, gpu, library, p), mixed=True
    )
    plan.keep_kernels()
    return plan, verdict


def open_as(recipe: Recipe, gpu: Gpu, library: Library, precision: Precision) -> TensorRtPlan:
    """Opens a plan without judging it. Builds it if there is no cached plan that the library accepts. A plan with a
    person's weights is built at each start and never cached.

    Raises EngineError if the library rejects the network or plan, OutOfDeviceMemory, DeviceLost.
    """
    identity = PlanIdentity.of(
        recipe,
        "tensorrt-rtx" if library.kind == "rtx" else "tensorrt",
        library.version,
        f"{gpu.name} {sm(gpu.capability)}",
        precision,
        driver=gpu.driver,
        profile=profile(recipe),
    )
    path, kernels = store.plan_path(identity), store.kernels_path(identity)
    if recipe.learned is not None:
        return TensorRtPlan(
            recipe, identity, Execution(library, build(recipe, precision, library, gpu.capability)), gpu
        )
    if (blob := store.recall(path)) is not None:
        try:
            return TensorRtPlan(recipe, identity, Execution(library, blob, kernels), gpu)
        except (OutOfDeviceMemory, DeviceLost):
            raise
        except EngineError as error:
            log.info("the cached plan %s cannot be used and will be built again: %s", path, error)
    blob = build(recipe, precision, library, gpu.capability)
    store.keep(path, blob)
    return TensorRtPlan(recipe, identity, Execution(library, blob, kernels), gpu)
