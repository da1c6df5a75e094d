"""Networks on NVIDIA GPUs through TensorRT, the full one or TensorRT for RTX.

Needs one of the extras ``rtx`` and ``tensorrt``; what they bring is imported when it is first asked for.
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
    """A plan of `recipe` on `gpu` that passed the golden gate, built where there is none kept.

    Args:
        recipe: the engine.
        gpu: current in this thread, as whenever the plan is used.
        precision: the one to try first, and safer ones after it; fp16 when None.

    Raises:
        MissingComponent: the engine's files, TensorRT or the ``onnx`` package are not there.
        EngineError: no precision can be built, or gives the reference's answers on this GPU.
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
    """A plan by that library, not judged yet: the one that is kept, built where there is none or it is refused.
    With the weights of a person it is built at each start, and nothing of it is kept.

    Raises EngineError where library or GPU refuse it, OutOfDeviceMemory, DeviceLost.
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
    kept, kernels = store.plan_path(identity), store.kernels_path(identity)
    if recipe.learned is not None:
        return TensorRtPlan(
            recipe, identity, Execution(library, build(recipe, precision, library, gpu.capability)), gpu
        )
    if (blob := store.recall(kept)) is not None:
        try:
            return TensorRtPlan(recipe, identity, Execution(library, blob, kernels), gpu)
        except (OutOfDeviceMemory, DeviceLost):
            raise
        except EngineError as error:
            log.info("the kept plan %s cannot be used and is built again: %s", kept, error)
    blob = build(recipe, precision, library, gpu.capability)
    store.keep(kept, blob)
    return TensorRtPlan(recipe, identity, Execution(library, blob, kernels), gpu)
