"""Published engines to measure: the user's own where they were added, else the same networks with random weights."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.machine import Bench, TorchClock, torch_here
from benchmarks.published import NARROW, folders, offered
from rtface.engine.recipe import Recipe, find_recipes, load_recipe
from rtface.errors import MissingComponent, UsageError
from rtface.util.toml_dataclass import from_table


@dataclass(frozen=True, slots=True)
class Published:
    """A network to measure.

    Attributes:
        recipe: its engine.
        random: its weights are; with them only speed counts.
        network: the same network in PyTorch, on the CPU, with random weights; None without PyTorch.
        inputs: makes its inputs for a batch, in the network's order and on the CPU.
    """

    recipe: Recipe
    random: bool
    network: Any | None
    inputs: Callable[[int], list[Any]]


def names() -> dict[str, Path]:
    """Every network that could be measured, with its architecture's folder."""
    return {name: folder for folder in folders() for name in offered(folder)}


def find(bench: Bench, name: str) -> Published:
    """Raises UsageError for a name that nobody offers, MissingComponent where neither engine nor PyTorch is here."""
    known = names()
    if name not in known:
        raise UsageError(f"there is no published network {name}; there is: {', '.join(known)}")
    torch, path = torch_here(), find_recipes().get(name)
    if bench.dry and torch is not None:
        path = None
    offer = _offer(bench, known[name], name) if torch is not None else None
    if offer is None and path is None:
        raise MissingComponent(
            f"{name} was not added here (rtface engines add {name}), and for random weights there is no PyTorch"
        )
    network = None
    if offer is not None:
        torch.manual_seed(0)
        network = offer.build().requires_grad_(requires_grad=False)
    recipe = load_recipe(path) if path is not None else _random(bench, offer, network, torch)
    return Published(recipe, path is None, network, lambda batch: _inputs(recipe, torch, batch))


def _offer(bench: Bench, folder: Path, name: str) -> Any:
    """The offer as the converter reads it; narrow in a dry run."""
    from engines.convert.offers import read_offer

    offer = read_offer(folder, name)
    if not bench.dry:
        return offer
    size, changes = NARROW[folder.name]
    return replace(offer, size=size, variant=offer.variant | changes)


def _inputs(recipe: Recipe, torch: Any, batch: int) -> list[Any]:
    low, high = recipe.input.range
    generator = torch.Generator().manual_seed(batch)
    crops = torch.rand((batch, 3, recipe.input.size, recipe.input.size), generator=generator) * (high - low) + low
    return [crops, *(torch.full((batch, 1), value) for value in recipe.constants.values())]


def _random(bench: Bench, offer: Any, network: Any, torch: Any) -> Recipe:
    """An engine's folder with random weights: the network as ONNX, and goldens of PyTorch's."""
    from engines.convert.graph import fold, named, to_onnx

    folder = bench.folder / offer.name
    folder.mkdir()
    examples = {offer.input: torch.zeros(2, 3, offer.size, offer.size)}
    examples |= {port: torch.full((2, 1), value) for port, value in offer.controls.items()}
    model = to_onnx(network, examples, [offer.output])
    fold(model)
    data = model.SerializeToString()
    (folder / "model.onnx").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    table = tomllib.loads((offer.folder / "offers.toml").read_text(encoding="utf-8"))
    recipe = from_table(
        Recipe,
        {
            "name": offer.name,
            "version": offer.version,
            "summary": "random weights",
            "licence": table["licence"],
            "weights": {
                "file": "model.onnx",
                "bytes": len(data),
                "sha256": digest,
                "parameters": sum(p.numel() for p in network.parameters()),
            },
            "input": table["input"] | {"size": offer.size},
            "output": table["output"],
            "batch": table.get("batch", {}),
            "controls": table.get("controls", {}),
            "precision": table["precision"] | {"fp32_nodes": named(model, offer.fp32_nodes)},
            # Ranges for int8 of random weights would say nothing.
            "golden": {"file": "golden.npz", "psnr": {k: v for k, v in table["psnr"].items() if k != "int8"}},
            "folder": folder,
            "digest": digest,
        },
        "",
    )
    _write_golden(recipe, network, torch)
    return recipe


def _write_golden(recipe: Recipe, network: Any, torch: Any) -> None:
    """Two crops of coloured squares, and what PyTorch makes of each in fp32."""
    clock, size = TorchClock(torch), recipe.input.size
    crops = np.random.default_rng(0).integers(0, 256, (2, size // 16, size // 16, 3)).astype(np.uint8)
    crops = crops.repeat(16, 1).repeat(16, 2)
    (low, high), (bottom, top) = recipe.input.range, recipe.output.range
    given = torch.from_numpy(crops.transpose(0, 3, 1, 2).astype(np.float32)) / 255 * (high - low) + low
    network.to(clock.device)
    with clock.exact():
        constants = [torch.full((1, 1), value, device=clock.device) for value in recipe.constants.values()]
        answers = torch.cat([network(crop[None].to(clock.device), *constants) for crop in given])
        answers = ((answers - bottom) / (top - bottom)).clamp(0, 1).float().cpu().numpy()
    network.to("cpu")
    np.savez(recipe.golden_path, crops=crops, restored=answers)
