"""The description of a network that a backend makes a plan of: an engine's, or a tracker's."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from rtface.engine.recipe import Recipe
from rtface.engine.recipe_tables import Batch, Precisions, WeightsFile
from rtface.protocols import ImageNetwork


@dataclass(frozen=True, slots=True)
class ImageNetworkSpec:
    """A tracker's network, with the attributes of `Recipe` that a backend reads: one image at a time, in fp32."""

    image: ImageNetwork
    version: str = ""
    batch: Batch = field(default_factory=lambda: Batch(1, 1, 1))
    precision: Precisions = field(default_factory=Precisions)

    @property
    def name(self) -> str:
        return self.image.name

    @property
    def digest(self) -> str:
        """Its weights' file holds all there is to know."""
        return self.image.sha256

    @property
    def folder(self) -> Path:
        return self.image.path.parent

    @property
    def weights(self) -> WeightsFile:
        return WeightsFile(self.image.path.name, self.image.path.stat().st_size, self.image.sha256, 0)

    @property
    def model_path(self) -> Path:
        return self.image.path

    @property
    def network(self) -> Path:
        return self.image.path

    @property
    def inputs(self) -> dict[str, tuple[int, ...]]:
        size = self.image.size
        return {self.image.input: (size, size, 3) if self.image.layout == "NHWC" else (3, size, size)}

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        return dict(self.image.outputs)


NetworkSpec: TypeAlias = Recipe | ImageNetworkSpec
"""What a backend makes a plan of."""
