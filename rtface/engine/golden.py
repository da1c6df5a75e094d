"""The golden gate for plans, and the choice of their precision.

A plan can be wrong without an error: in a reduced precision, a restorer may return a gray, finite image, so a check for
NaN is not enough. Therefore a new plan restores the recipe's golden crops. If their PSNR is below the recipe's, the
plan is rejected and the next safer precision is tried. The verdict is cached under the plan's identity, so the next
start need not repeat the check.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

import numpy as np

from rtface.engine.backends.int8 import load_calibration
from rtface.engine.crop_runner import CropRunner
from rtface.engine.learned import MARK
from rtface.engine.plan import Plan, PlanIdentity
from rtface.engine.recipe import Recipe
from rtface.engine.recipe_tables import Precision
from rtface.errors import DeviceLost, EngineError, Message, MissingComponent, OutOfDeviceMemory, UsageError, log
from rtface.frame import Float32
from rtface.util.files import write_atomically
from rtface.util.install import reinstall_line
from rtface.util.toml_dataclass import from_table, parse_json

P = TypeVar("P", bound=Plan)


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """A verdict of the golden gate: PSNR in dB of the worst crop, required PSNR, and minimum milliseconds per crop."""

    psnr: float
    required: float
    ms: float

    @property
    def passed(self) -> bool:
        return self.psnr >= self.required


def psnr(a: Float32, b: Float32) -> float:
    """Returns the PSNR of two images (0…1) in dB. Returns -inf for NaN or infinity."""
    error = float(np.mean(np.square(a.astype(np.float64) - b.astype(np.float64))))
    if not math.isfinite(error):
        return -math.inf
    # 200 dB is far beyond float32 and, unlike infinity, survives JSON.
    return min(200.0, -10.0 * math.log10(error)) if error > 0 else 200.0


GOLDEN_STEPS = 510
"""Steps per 0…1 of golden answers that are stored as integers: differences from the crops."""


def load_golden(recipe: Recipe, step: str = "") -> tuple[Float32, Float32]:
    """Loads golden crops and the reference's answers, float32 N×3×S×S, 0…1. For recurrent engines, `step` "next_" loads
    the following frames."""
    try:
        if recipe.golden.sha256 and hashlib.sha256(recipe.golden_path.read_bytes()).hexdigest() != recipe.golden.sha256:
            raise ValueError("they differ from the recipe's (SHA-256)")
        with np.load(recipe.golden_path, allow_pickle=False) as file:
            crops = np.asarray(file[f"{step}crops"]).astype(np.float32).transpose(0, 3, 1, 2) / np.float32(255)
            expected = np.asarray(file[f"{step}restored"])
            if expected.dtype.kind == "i" and expected.shape == crops.shape:  # differences: they compress to a quarter
                expected = crops + expected.astype(np.float32) / np.float32(GOLDEN_STEPS)
            expected = expected.astype(np.float32)
    except FileNotFoundError as error:
        raise MissingComponent(
            "engine {name}: golden crops {path} are missing; repair it with: {repair}",
            code="golden_missing",
            name=recipe.name,
            path=recipe.golden_path,
            repair=reinstall_line(recipe.golden_path),
        ) from error
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise EngineError(
            "engine {name}: golden crops {path} cannot be read: {why}",
            code="golden_unreadable",
            name=recipe.name,
            path=recipe.golden_path,
            why=error,
        ) from error
    shape = (3, recipe.input.size, recipe.input.size)
    if not len(crops) or crops.shape != expected.shape or crops.shape[1:] != shape:
        raise EngineError(
            "engine {name}: golden crops must be N×{wanted}, got {shape} and {outputs}",
            code="golden_shape",
            name=recipe.name,
            wanted="×".join(map(str, shape)),
            shape=crops.shape,
            outputs=expected.shape,
        )
    return np.ascontiguousarray(crops), expected


def judged_golden(recipe: Recipe, precision: Precision) -> tuple[Float32, Float32]:
    """Loads the golden crops that judge plans of a precision. For int8 or a person's weights, loads only the
    crops that the calibration lists because they show faces; there may be none."""
    crops, expected = load_golden(recipe)
    if (precision == "int8" or recipe.learned) and (calibration := load_calibration(recipe)):
        judged = [i for i in calibration.crops if 0 <= i < len(crops)]
        return crops[judged], expected[judged]
    return crops, expected


# The network need not change golden crops whose reference is at least this close to the input.
_UNCHANGED_DB = 60.0


def gate(recipe: Recipe, plan: Plan) -> GoldenResult:
    """Compares a plan's answers for golden crops with the reference's. Also times the plan (minimum of 5 runs or more).

    Every crop must reach the recipe's PSNR. It must also exceed by 6 dB the lowest PSNR of an unchanged crop
    against the reference, so that a plan that does nothing fails. Plans with a person's weights, which have to differ
    from the reference, need only the recipe's PSNR.
    """
    required: float = getattr(recipe.golden.psnr, plan.identity.precision)
    crops, expected = judged_golden(recipe, plan.identity.precision)
    if not len(crops):
        return GoldenResult(-200.0, required, 0.0)
    unchanged = min(psnr(crop, answer) for crop, answer in zip(crops, expected, strict=True))
    if unchanged < _UNCHANGED_DB and recipe.learned is None:
        required = max(required, unchanged + 6.0)
    worst, times = 200.0, list[float]()
    try:
        restorer = CropRunner(replace(recipe, fidelity=None), plan)  # golden crops use the default fidelity
        if recipe.recurrent:
            worst = _second_frames(restorer, crops)
        for i in range(max(6, len(crops))):
            k = i % len(crops)
            start, cpu_time = time.perf_counter(), time.process_time()
            output = restorer.restore(crops[k : k + 1]).pixels[0]
            elapsed, cpu_time = time.perf_counter() - start, time.process_time() - cpu_time
            times.append(min(elapsed, cpu_time) if plan.identity.device == "cpu" else elapsed)
            worst = min(worst, psnr(output, expected[k]))
    except (OutOfDeviceMemory, DeviceLost):  # these errors are not the plan's fault
        raise
    except EngineError:  # an answer with NaN gets the worst verdict, so that the next precision is tried
        return GoldenResult(-200.0, required, 0.0)
    # Other programs can only slow the plan down, so the minimum is the best estimate, and CPU time is an upper bound.
    return GoldenResult(round(max(worst, -200.0), 3), required, round(1e3 * min(times[1:]), 3))


def _second_frames(restorer: CropRunner, crops: Float32) -> float:
    """Returns a recurrent engine's worst PSNR on the frames after golden crops."""
    following, expected = load_golden(restorer.recipe, "next_")
    firsts = {crop.tobytes(): i for i, crop in enumerate(load_golden(restorer.recipe)[0])}
    worst = 200.0
    for crop in crops:
        k = firsts[crop.tobytes()]
        second = restorer.restore(following[k : k + 1], restorer.restore(crop[None]))
        worst = min(worst, psnr(second.pixels[0], expected[k]))
    return worst


def recall(identity: PlanIdentity) -> GoldenResult | None:
    """Returns the cached verdict on a plan; None if there is none."""
    try:
        table = parse_json(identity.path.read_text())
        return from_table(GoldenResult, table["verdict"], "") if table["identity"] == asdict(identity) else None
    except (OSError, ValueError, KeyError, TypeError, UsageError):  # missing or damaged: the gate runs again
        return None


def remember(identity: PlanIdentity, verdict: GoldenResult) -> None:
    """Caches the verdict for the next start. An unwritable cache is only logged, because it only costs time. Nothing
    about a person's weights is cached."""
    if MARK in identity.engine:
        return
    text = json.dumps({"identity": asdict(identity), "verdict": asdict(verdict)}, indent=1)
    try:
        write_atomically(identity.path, text.encode())
    except OSError as error:
        log.info("the result of the engine check cannot be saved in %s: %s", identity.path.parent, error.strerror)


def candidates(recipe: Recipe, supported: Sequence[Precision], mixed: bool = False) -> list[Precision]:
    """Lists precisions that device and recipe allow, in the order to try.

    With `mixed`, the device can keep single nodes in fp32 next to lower precisions, and the order is that of
    `supported`. For other devices it is: int8 if the engine is calibrated; the recipe's default (if it has 16 bits, all
    16-bit precisions of the device); the recipe's fallback; fp32. If nodes should stay in fp32, these devices never use
    fp16. They may use bf16: it has fp32's range, so nothing overflows, and the gate judges the accuracy.
    """
    order: list[Precision] = [recipe.precision.default, recipe.precision.fallback, "f32"]
    if recipe.precision.default != "f32":
        half_precisions: list[Precision] = [p for p in supported if p in ("fp16", "bf16")]
        order = half_precisions + order[1:]
    if "int8" in supported and recipe.golden.psnr.int8 is not None and load_calibration(recipe):
        order.insert(0, "int8")
    if mixed:
        order = [p for p in supported if p != "int8" or p in order]
    elif recipe.precision.fp32_nodes:
        # With int8 convolutions, all other operations run in 16 bits.
        order = [p for p in order if p != "fp16" and not (p == "int8" and "fp16" in supported)]
    return [p for p in dict.fromkeys(order) if p in supported and getattr(recipe.golden.psnr, p) is not None]


def open_plan(
    recipe: Recipe, supported: Sequence[Precision], build: Callable[[Precision], P], mixed: bool = False
) -> tuple[P, GoldenResult]:
    """Builds the first plan that passes the gate. `mixed` is as for `candidates`. Raises EngineError if none passes."""
    rejections: list[str] = []
    first_error: EngineError | None = None
    for precision in candidates(recipe, supported, mixed):
        try:
            plan = build(precision)
        except (OutOfDeviceMemory, DeviceLost):
            raise
        except EngineError as error:
            if precision != "int8" and not mixed:
                raise
            first_error = first_error or error
            rejections.append(f"{precision} cannot be built")
            log.warning("%s; running without %s", error, precision)
            continue
        try:
            verdict = recall(plan.identity)
            if verdict is None:
                verdict = gate(recipe, plan)
                remember(plan.identity, verdict)
        except BaseException:
            plan.close()
            raise
        if verdict.passed:
            return plan, verdict
        plan.close()
        rejections.append(f"{precision} {verdict.psnr:.1f} dB, {verdict.required:.1f} needed")
        log.warning(
            "engine %s: %s against its golden crops; rejected on %s", recipe.name, rejections[-1], plan.identity.device
        )
    if first_error and all("built" in rejection for rejection in rejections):
        raise first_error
    learned = recipe.learned
    remedy = (
        Message("learn {name} again, or leave out {--person}", code="learn_again", name=learned.name)
        if learned
        else Message("try {--device:onnx} or another {--engine}", code="try_onnx")
    )
    raise EngineError(
        "engine {name} does not match its reference's answers on this machine ({found}); {advice}",
        code="golden_machine",
        name=recipe.name,
        found="; ".join(rejections) or Message("none of its precisions is available", code="no_precision"),
        advice=remedy,
    ) from first_error
