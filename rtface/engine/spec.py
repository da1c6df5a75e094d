"""The description of a network that a backend makes a plan of: an engine's, or a tracker's."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rtface.engine.recipe_tables import Batch, Precisions, WeightsFile
from rtface.protocols import ImageNetwork


class NetworkSpec(Protocol):
    """What a backend needs to know of a network; the attributes are those of `Recipe`."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def weights(self) -> WeightsFile: ...
    @property
    def batch(self) -> Batch: ...
    @property
    def precision(self) -> Precisions: ...
    @property
    def model_path(self) -> Path: ...
    @property
    def inputs(self) -> dict[str, tuple[int, ...]]: ...
    @property
    def outputs(self) -> dict[str, tuple[int, ...]]: ...


@dataclass(frozen=True, slots=True)
class ImageNetworkSpec:
    """A tracker's network (`NetworkSpec`): one image at a time, in fp32."""

    network: ImageNetwork
    version: str = ""
    batch: Batch = field(default_factory=lambda: Batch(1, 1, 1))
    precision: Precisions = field(default_factory=Precisions)

    @property
    def name(self) -> str:
        return self.network.name

    @property
    def digest(self) -> str:
        """Its weights' file holds all there is to know."""
        return self.network.sha256

    @property
    def folder(self) -> Path:
        return self.network.path.parent

    @property
    def weights(self) -> WeightsFile:
        return WeightsFile(self.network.path.name, self.network.path.stat().st_size, self.network.sha256, 0)

    @property
    def model_path(self) -> Path:
        return self.network.path

    @property
    def inputs(self) -> dict[str, tuple[int, ...]]:
        size = self.network.size
        return {self.network.input: (size, size, 3) if self.network.layout == "NHWC" else (3, size, size)}

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        return dict(self.network.outputs)
