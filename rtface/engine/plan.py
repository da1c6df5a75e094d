"""Plans: networks compiled for one device and precision, and their identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from rtface.engine.backends.int8 import load_calibration
from rtface.engine.recipe import Recipe
from rtface.engine.recipe_tables import Precision
from rtface.frame import Float32
from rtface.util.paths import cache_dir


class Plan(Protocol):
    """A compiled network."""

    @property
    def identity(self) -> PlanIdentity: ...

    def run(self, inputs: Mapping[str, Float32], outputs: Mapping[str, Float32]) -> None:
        """Computes `outputs` in place from `inputs`. Both map tensor names to C-contiguous float32 arrays of batch 1;
        images are RGB in the network's value ranges."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class PlanIdentity:
    """Everything that determines a plan's results. Plans with the same identity return the same image."""

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
        """Creates the identity of a recipe on a library, device and precision. `driver` and `profile` (how the network
        was prepared) are used only for GPUs."""
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
        """A file name: the precision, and 20 hex digits of a hash of all fields."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"{self.precision}-{digest[:20]}"

    @property
    def path(self) -> Path:
        """The cache file of the verdict on this plan."""
        return cache_dir() / "engines" / f"{self.engine}-{self.key}.json"
