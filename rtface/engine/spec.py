"""The description of a network that a backend makes a plan of: an engine's, or a tracker's."""

from __future__ import annotations

from typing import TypeAlias

from rtface.engine.recipe import Recipe
from rtface.engine.recipe_tables import Batch, Precisions, WeightsFile
from rtface.protocols import ImageNetwork


class ImageNetworkSpec:
    """A tracker's network, with the attributes of `Recipe` that a backend reads: one image at a time, in fp32."""

    version = ""

    def __init__(self, image: ImageNetwork) -> None:
        self.name, self.digest = image.name, image.sha256  # the weights' file holds all there is to know
        self.folder, self.model_path, self.network = image.path.parent, image.path, image.path
        self.batch, self.precision = Batch(1, 1, 1), Precisions()
        shape = (image.size, image.size, 3) if image.layout == "NHWC" else (3, image.size, image.size)
        self.inputs: dict[str, tuple[int, ...]] = {image.input: shape}
        self.outputs: dict[str, tuple[int, ...]] = dict(image.outputs)

    @property
    def weights(self) -> WeightsFile:
        return WeightsFile(self.network.name, self.network.stat().st_size, self.digest, 0)


NetworkSpec: TypeAlias = Recipe | ImageNetworkSpec
"""What a backend makes a plan of."""
