"""Reads an offer from ``offers.toml`` and builds its network."""

from __future__ import annotations

import importlib.util
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Offer:
    """One entry of ``[[offers]]``, and the shared settings; see ``engines/README.md``."""

    folder: Path
    name: str
    version: str
    size: int
    input: str
    output: str
    range: tuple[float, float]
    """The network's input values for 0 and 255 in a crop."""
    answers: tuple[float, float]
    """The network's output values for 0 and 255 in a picture."""
    controls: dict[str, float]
    """Values of the control inputs for golden answers, by port name."""
    fp32_nodes: list[str]
    int8: bool
    variant: dict[str, Any] = field(default_factory=dict)
    states: list[str] = field(default_factory=list)
    prefix: str = ""

    def code(self) -> Any:
        """Imports the architecture's ``model.py``. Returns the module."""
        path = self.folder / "model.py"
        spec = importlib.util.spec_from_file_location(f"rtface_architecture_{self.folder.name}", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def build(self) -> torch.nn.Module:
        """Builds the network with random weights, in evaluation mode."""
        return self.code().build(**self.variant).eval()


def read_offer(folder: Path, name: str) -> Offer:
    """Reads the offer of that name. `rtface_engines.catalogue` has already checked the file."""
    table = tomllib.loads((folder / "offers.toml").read_text(encoding="utf-8"))
    (offer,) = (offer for offer in table["offers"] if offer["name"] == name)
    input_table, output_table = table["input"], table["output"]
    return Offer(
        folder=folder, name=name, version=offer["version"], size=input_table["size"],
        input=input_table["name"], output=output_table["name"],
        range=tuple(input_table.get("range", (0, 1))), answers=tuple(output_table.get("range", (0, 1))),
        controls={c["name"]: float(c["default"]) for c in table.get("controls", {}).values()},
        fp32_nodes=table.get("precision", {}).get("fp32_nodes", []), int8="int8" in table.get("psnr", {}),
        variant=offer.get("variant", {}), states=offer.get("states", [""]), prefix=offer.get("prefix", ""),
    )  # fmt: skip
