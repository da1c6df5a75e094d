"""Networks on NVIDIA GPUs through TensorRT, the full one or TensorRT for RTX.

Needs one of the extras ``rtx`` and ``tensorrt``; what they bring is imported when it is first asked for.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from rtface.device.cuda.gpu import Gpu
from rtface.engine.learned import MARK, shipped_name
from rtface.engine.plan import GoldenResult, PlanIdentity, candidates, gate, open_plan
from rtface.engine.recipe import Recipe, load_recipe
from rtface.engine.recipe_tables import Precision
from rtface.engine.spec import NetworkSpec
from rtface.engine.tensorrt import store
from rtface.engine.tensorrt.builder import BuildProgress, build, prepare, profile
from rtface.engine.tensorrt.execution import Execution
from rtface.engine.tensorrt.library import Capability, LibraryChoice, choose, installed, precisions, sm
from rtface.engine.tensorrt.plan import TensorRtPlan
from rtface.errors import DeviceLost, EngineError, OutOfDeviceMemory, UsageError, log


def open_tensorrt(
    recipe: Recipe, gpu: Gpu, *, progress: BuildProgress | None = None, precision: Precision | None = None
) -> tuple[TensorRtPlan, GoldenResult]:
    """A plan of `recipe` on `gpu` that passed the golden gate, built where there is none kept.

    Args:
        recipe: the engine.
        gpu: current in this thread, as whenever the plan is used.
        progress: told while a plan is built.
        precision: the one to try first, and safer ones after it; fp16 when None.

    Raises:
        MissingComponent: the engine's files, TensorRT or the ``onnx`` package are not there.
        EngineError: no precision can be built, or gives the reference's answers on this GPU.
    """
    recipe.check_weights()
    choice = choose(gpu.capability, installed(), gpu=gpu.name)
    log.info("%s", choice.reason)
    plan, verdict = open_plan(
        recipe, precisions(gpu.capability, precision), lambda p: open_as(recipe, gpu, choice, p, progress), mixed=True
    )
    plan.keep_kernels()
    return plan, verdict


def open_network(network: NetworkSpec, gpu: Gpu, precision: Precision = "f32") -> TensorRtPlan:
    """A plan that no golden crops have judged, of a network that is no engine; who asks for it judges its answers.

    Raises MissingComponent and EngineError as `open_tensorrt`.
    """
    return open_as(network, gpu, choose(gpu.capability, installed(), gpu=gpu.name), precision)


def identify(recipe: NetworkSpec, gpu: Gpu, choice: LibraryChoice, precision: Precision) -> PlanIdentity:
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


def stored(identity: PlanIdentity, choice: LibraryChoice) -> PlanIdentity:
    """What its serialised form is kept under. Compiled for a capability by name, no GPU and no driver had a part in
    it: it may have been built where neither is."""
    return identity if choice.target is None else replace(identity, device=sm(choice.target), driver="")


def open_as(
    recipe: NetworkSpec, gpu: Gpu, choice: LibraryChoice, precision: Precision, progress: BuildProgress | None = None
) -> TensorRtPlan:
    """A plan by that choice, not judged yet. Raises EngineError where library or GPU refuse it, OutOfDeviceMemory,
    DeviceLost."""
    identity = identify(recipe, gpu, choice, precision)
    if isinstance(recipe, Recipe) and recipe.learned is not None:
        return _open_person(recipe, gpu, choice, identity, progress)
    return TensorRtPlan(recipe, identity, _load(recipe, choice, identity, progress), gpu)


def _load(
    recipe: NetworkSpec,
    choice: LibraryChoice,
    identity: PlanIdentity,
    progress: BuildProgress | None,
    refits: bool = False,
) -> Execution:
    """The plan that is kept under that identity, built where there is none or the library refuses it. With the weights
    of a person it is built, and nothing of it is kept; it starts from the kernels that are kept under the identity."""

    def made() -> bytes:
        return build(recipe, identity.precision, choice, progress, refits=refits)

    under, kernels, personal = stored(identity, choice), store.kernels_path(identity), MARK in recipe.name
    blob, kept = (made(), False) if personal else store.fetch(under, made)
    try:
        return Execution(choice.library, blob, kernels, keeps=not personal)
    except (OutOfDeviceMemory, DeviceLost):
        raise
    except EngineError as error:
        if not kept:
            raise EngineError("engine {name}: {why}", code="engine_wrong", name=recipe.name, why=error) from error
        log.info("the kept plan %s cannot be used and is built again: %s", store.plan_path(under), error)
        store.plan_path(under).unlink(missing_ok=True)
        return Execution(choice.library, store.fetch(under, made)[0], kernels)


def _open_person(
    recipe: Recipe, gpu: Gpu, choice: LibraryChoice, identity: PlanIdentity, progress: BuildProgress | None
) -> TensorRtPlan:
    """A plan with the weights of a person.

    The full TensorRT builds for tens of seconds, as it times kernels. So it puts the weights into a plan that was built
    with everybody's and is kept for that; in theirs, which stays as it is, they may be folded and cannot be changed.
    Where that fails or gives other answers, a plan is built whole. TensorRT for RTX does so always: it takes a second,
    while a plan whose weights can be changed needs a GPU to be built (seen with 1.7.1: Myelin's JIT refuses).
    """
    precision, changing = identity.precision, f"{identity.profile}, refittable"
    everybody = replace(load_recipe(recipe.folder / "recipe.toml"), batch=recipe.batch)
    theirs = identify(everybody, gpu, choice, precision)
    if choice.library.kind == "full" and precision != "int8":  # whose scales are made of the weights
        try:
            execution = _load(everybody, choice, replace(theirs, profile=changing), progress, refits=True)
            plan = TensorRtPlan(recipe, replace(identity, profile=changing), execution, gpu)
            try:
                execution.refit(prepare(recipe, precision))
                verdict = gate(recipe, plan)
            except BaseException:
                plan.close()
                raise
            if verdict.passed:
                return plan
            plan.close()
            why = f"{verdict.psnr:.1f} dB against its golden crops"
        except (OutOfDeviceMemory, DeviceLost):
            raise
        except EngineError as error:
            why = str(error)
        log.info("engine %s: its plan is built whole: %s", recipe.name, why)
    return TensorRtPlan(recipe, identity, _load(recipe, choice, theirs, progress), gpu)


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """A plan that is ready for later: what it is remembered by, where it is kept, the seconds until it was, and the
    golden gate's verdict, None where there was no GPU to ask."""

    identity: PlanIdentity
    path: Path
    seconds: float
    verdict: GoldenResult | None = None


def build_on(
    recipe: Recipe, gpu: Gpu, *, precision: Precision | None = None, progress: BuildProgress | None = None
) -> BuiltPlan:
    """Does ahead what `open_tensorrt` does, and raises what it raises; UsageError for a person's weights."""
    _check_kept(recipe)
    start = time.perf_counter()
    plan, verdict = open_tensorrt(recipe, gpu, progress=progress, precision=precision)
    plan.close()
    path = store.plan_path(stored(plan.identity, choose(gpu.capability, installed(), gpu=gpu.name)))
    return _there(BuiltPlan(plan.identity, path, time.perf_counter() - start, verdict))


def build_ahead(
    recipe: Recipe, capability: Capability, *, precision: Precision | None = None, progress: BuildProgress | None = None
) -> BuiltPlan:
    """Builds and keeps a plan for GPUs of that capability, none of which has to be here; so nothing is checked against
    the golden crops before such a GPU opens it.

    Raises MissingComponent and EngineError as `open_tensorrt`, MissingComponent also when the library builds on the
    GPU alone, and UsageError for a precision that the recipe or such a GPU does not have, or for a person's weights.
    """
    _check_kept(recipe)
    recipe.check_weights()
    start = time.perf_counter()
    choice = choose(capability, installed())
    log.info("%s", choice.reason)
    wanted = precisions(capability, precision)[0]
    if precision is None:  # what such a GPU tries first
        wanted = candidates(recipe, precisions(capability), mixed=True)[0]
    elif getattr(recipe.golden.psnr, wanted) is None:
        raise UsageError(
            "engine {name} is not allowed in {precision}: its recipe has no golden.psnr.{precision}",
            code="precision_not_allowed",
            name=recipe.name,
            precision=wanted,
        )
    identity = PlanIdentity.of(
        recipe, choice.library.backend, choice.library.version, sm(capability), wanted, profile=profile(recipe)
    )
    store.fetch(identity, lambda: build(recipe, wanted, choice, progress))
    return _there(BuiltPlan(identity, store.plan_path(identity), time.perf_counter() - start))


def _check_kept(recipe: Recipe) -> None:
    if recipe.learned is not None:
        raise UsageError(
            "no plan of engine {name} is kept, because it has the weights of a person; build one of {shipped}",
            code="plan_person",
            name=recipe.name,
            shipped=shipped_name(recipe.name),
        )


def _there(built: BuiltPlan) -> BuiltPlan:
    if not built.path.exists():
        raise EngineError(
            "engine {name}: the plan cannot be kept: {folder} cannot be written; set RTFACE_CACHE to a folder that can",
            code="plan_folder",
            name=built.identity.engine,
            folder=built.path.parent,
        )
    return built
