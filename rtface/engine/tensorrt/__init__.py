"""Networks on NVIDIA GPUs through TensorRT, the full one or TensorRT for RTX.

Needs one of the extras ``rtx`` and ``tensorrt``; what they bring is imported when it is first asked for.
"""

from __future__ import annotations

from rtface.device.cuda.gpu import Gpu
from rtface.engine.plan import GoldenResult, PlanIdentity, open_plan
from rtface.engine.recipe import Recipe, load_recipe
from rtface.engine.recipe_tables import Precision
from rtface.engine.tensorrt import store
from rtface.engine.tensorrt.builder import build, profile
from rtface.engine.tensorrt.execution import Execution
from rtface.engine.tensorrt.library import LibraryChoice, choose, installed, precisions, sm
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
    choice = choose(gpu.capability, installed(), gpu.name)
    log.info("%s", choice.reason)
    plan, verdict = open_plan(
        recipe, precisions(gpu.capability, precision), lambda p: open_as(recipe, gpu, choice, p), mixed=True
    )
    plan.keep_kernels()
    return plan, verdict


def identify(recipe: Recipe, gpu: Gpu, choice: LibraryChoice, precision: Precision) -> PlanIdentity:
    """What a plan on that GPU, and the verdict on it, is remembered by."""
    how = ", portable" if choice.library.kind == "rtx" and choice.target is None else ""
    return PlanIdentity.of(
        recipe,
        choice.library.backend,
        choice.library.version,
        f"{gpu.name} {sm(choice.capability)}",
        precision,
        driver=gpu.driver,
        profile=profile(recipe) + how,
    )


def open_as(recipe: Recipe, gpu: Gpu, choice: LibraryChoice, precision: Precision) -> TensorRtPlan:
    """A plan by that choice, not judged yet. Raises EngineError where library or GPU refuse it, OutOfDeviceMemory,
    DeviceLost."""
    identity = identify(recipe, gpu, choice, precision)
    return TensorRtPlan(recipe, identity, _load(recipe, gpu, choice, identity), gpu)


def _load(recipe: Recipe, gpu: Gpu, choice: LibraryChoice, identity: PlanIdentity) -> Execution:
    """The plan that is kept under that identity, built where there is none or the library refuses it.

    With the weights of a person it is built at each start, and nothing of it is kept; it only reads the kernels that
    are kept of the engine without them.
    """

    def made() -> bytes:
        return build(recipe, identity.precision, choice)

    if recipe.learned is not None:
        theirs = identify(load_recipe(recipe.folder / "recipe.toml"), gpu, choice, identity.precision)
        return Execution(choice.library, made(), store.kernels_path(theirs), keeps=False)
    kernels = store.kernels_path(identity)
    blob, kept = store.fetch(identity, made)
    try:
        return Execution(choice.library, blob, kernels)
    except (OutOfDeviceMemory, DeviceLost):
        raise
    except EngineError as error:
        if not kept:
            raise EngineError("engine {name}: {why}", code="engine_wrong", name=recipe.name, why=error) from error
        log.info("the kept plan %s cannot be used and is built again: %s", store.plan_path(identity), error)
        store.plan_path(identity).unlink(missing_ok=True)
        return Execution(choice.library, store.fetch(identity, made)[0], kernels)
