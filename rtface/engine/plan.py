"""Plans: a network made ready for one device in one precision.

A plan that has not been seen here before restores the recipe's golden crops (`rtface.engine.golden`), and is refused
below the recipe's PSNR; the next safer precision is tried then. What came out is remembered in the cache folder under
the plan's identity, so that a second start does not repeat it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from rtface.engine.backends.int8 import load_calibration
from rtface.engine.golden import GoldenResult, gate
from rtface.engine.learned import MARK
from rtface.engine.recipe import Recipe
from rtface.engine.recipe_tables import Precision
from rtface.errors import DeviceLost, EngineError, Message, OutOfDeviceMemory, UsageError, log
from rtface.frame import Float32
from rtface.util.files import write_atomically
from rtface.util.paths import cache_dir
from rtface.util.toml_dataclass import from_table, parse_json


class Plan(Protocol):
    """A compiled network."""

    @property
    def identity(self) -> PlanIdentity: ...

    def run(self, inputs: Mapping[str, Float32], outputs: Mapping[str, Float32]) -> None:
        """Computes `outputs` (written to) from `inputs`: C-contiguous float32 of batch 1 by tensor name, images
        RGB in the network's own value ranges."""
        ...

    def close(self) -> None: ...


P = TypeVar("P", bound=Plan)


@dataclass(frozen=True, slots=True)
class PlanIdentity:
    """All that decides what a plan computes; two plans with the same identity give the same image."""

    engine: str
    version: str
    recipe: str
    weights: str
    backend: str
    library: str
    device: str
    precision: Precision
    calibration: str = ""
    driver: str = ""
    profile: str = ""

    @staticmethod
    def of(
        recipe: Recipe,
        backend: str,
        library: str,
        device: str,
        precision: Precision,
        *,
        driver: str = "",
        profile: str = "",
    ) -> PlanIdentity:
        """The identity of `recipe` (its digest and weights) on that library, device and precision; of a GPU also its
        driver, and what the network was prepared for."""
        calibration = load_calibration(recipe) if precision == "int8" else None
        return PlanIdentity(
            recipe.name,
            recipe.version,
            recipe.digest,
            recipe.weights.sha256,
            backend,
            library,
            device,
            precision,
            calibration.digest if calibration else "",
            driver,
            profile,
        )

    @property
    def key(self) -> str:
        """A name for files: the precision, and 20 hex digits of a hash over everything."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"{self.precision}-{digest[:20]}"

    @property
    def path(self) -> Path:
        """Where the verdict on this plan is remembered."""
        return cache_dir() / "engines" / f"{self.engine}-{self.key}.json"


def recall(identity: PlanIdentity) -> GoldenResult | None:
    """What an earlier start found about this plan, or None."""
    try:
        table = parse_json(identity.path.read_text())
        return from_table(GoldenResult, table["verdict"], "") if table["identity"] == asdict(identity) else None
    except (OSError, ValueError, KeyError, TypeError, UsageError):  # never written, or damaged: find out again
        return None


def remember(identity: PlanIdentity, verdict: GoldenResult) -> None:
    """Writes the verdict for the next start; a cache that cannot be written costs time only, so it is just logged. Of a
    person's weights nothing is left in the cache."""
    if MARK in identity.engine:
        return
    text = json.dumps({"identity": asdict(identity), "verdict": asdict(verdict)}, indent=1)
    try:
        write_atomically(identity.path, text.encode())
    except OSError as error:
        log.info("the engine check cannot be remembered in %s: %s", identity.path.parent, error.strerror)


def candidates(recipe: Recipe, supported: Sequence[Precision], mixed: bool = False) -> list[Precision]:
    """Precisions that device and recipe allow, in the order to try: int8 where the engine is calibrated for it, the
    recipe's default (for a half one, those of 16 bits that the device has, fastest first), its fallback, fp32.

    `mixed`: the device can keep single nodes in fp32 beside those of lower precision, and has `supported` in the order
    to try; the recipe's default and fallback are for those that cannot. Where nodes have to stay in fp32 these may
    still take bf16, which has fp32's range, so that nothing overflows and the gate can judge the rest; never fp16.
    """
    wanted: list[Precision] = [recipe.precision.default, recipe.precision.fallback, "f32"]
    if recipe.precision.default != "f32":
        halves: list[Precision] = [p for p in supported if p in ("fp16", "bf16")]
        wanted = halves + wanted[1:]
    if "int8" in supported and recipe.golden.psnr.int8 is not None and load_calibration(recipe):
        wanted.insert(0, "int8")
    if mixed:
        wanted = [p for p in supported if p != "int8" or p in wanted]
    elif recipe.precision.fp32_nodes:
        # Beside convolutions in int8 the rest runs in 16 bits.
        wanted = [p for p in wanted if p != "fp16" and not (p == "int8" and "fp16" in supported)]
    return [p for p in dict.fromkeys(wanted) if p in supported and getattr(recipe.golden.psnr, p) is not None]


def open_plan(
    recipe: Recipe, supported: Sequence[Precision], build: Callable[[Precision], P], mixed: bool = False
) -> tuple[P, GoldenResult]:
    """Builds the first plan that passes the gate; `mixed` as for `candidates`. Raises EngineError when none does."""
    found: list[str] = []
    failed: EngineError | None = None
    for precision in candidates(recipe, supported, mixed):
        try:
            plan = build(precision)
        except (OutOfDeviceMemory, DeviceLost):
            raise
        except EngineError as error:
            if precision != "int8" and not mixed:
                raise
            failed = failed or error
            found.append(f"{precision} cannot be built")
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
        found.append(f"{precision} {verdict.psnr:.1f} dB, {verdict.required:.1f} needed")
        log.warning(
            "engine %s: %s against its golden crops; refused on %s", recipe.name, found[-1], plan.identity.device
        )
    if failed and all("built" in what for what in found):
        raise failed
    learned = recipe.learned
    remedy = (
        Message("learn {name} again, or leave out {--person}", code="learn_again", name=learned.name)
        if learned
        else Message("try {--device:onnx} or another {--engine}", code="try_onnx")
    )
    raise EngineError(
        "engine {name} does not give its reference's answers on this machine ({found}); {advice}",
        code="golden_machine",
        name=recipe.name,
        found="; ".join(found) or Message("no precision that it allows", code="no_precision"),
        advice=remedy,
    ) from failed
