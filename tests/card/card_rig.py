"""A whole GPU path without a GPU: the fake card, our kernels run by the host, networks run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from fake_card import FakeCard
from host_kernels import compile_kernels

import rtface.device
from rtface.device import batch, kernels, shaping
from rtface.device.owner import Owner
from rtface.engine.card_engine import CardEngine
from rtface.engine.plan import PlanIdentity, Verdict
from rtface.engine.recipe import Recipe, find_recipes, load_recipe

FOLDER = Path(rtface.device.__file__).parent
TABLES = {"kernels.cu": kernels.KERNELS, "batch.cu": batch.KERNELS, "shape.cu": shaping.KERNELS}
"""The kernels' argument types by the file that they are in."""


def build_kernels(folder: Path) -> Callable[..., None]:
    """All kernels, as `FakeCard` runs them: (name, grid, block, *args)."""
    hosts = {source: compile_kernels(folder, FOLDER / source, names) for source, names in TABLES.items()}
    by_name = {name: hosts[source] for source, names in TABLES.items() for name in names}
    return lambda name, grid, block, *args: by_name[name].launch(name, grid, block, *args)


class FakePlan:
    """A card plan (`card_engine.CardPlan`) that ONNX Runtime computes when the card's work is waited for.

    `spoil` changes each answer by tensor name, to see what becomes of wrong ones.
    """

    def __init__(self, recipe: Recipe, card: FakeCard, *, max_batch: int = 4, capturable: bool = True,
                 spoil: Callable[[str, np.ndarray], np.ndarray] | None = None) -> None:
        self.recipe, self.card, self.max_batch, self._capturable = recipe, card, max_batch, capturable
        self.scratch = None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(recipe.model_path), options, ["CPUExecutionProvider"])
        self.identity = PlanIdentity.of(recipe, "fake", "1.0", card.name, "f32")
        self.ports = {name: (np.dtype(np.float32), shape) for name, shape in (recipe.inputs | recipe.outputs).items()}
        self.batches: list[int] = []
        self.closed = False
        self._spoil = spoil or (lambda name, values: values)

    def bind(self, buffers: dict[str, Any], batch: int) -> None:
        self._buffers, self._ran = dict(buffers), set()
        for name, (dtype, shape) in self.ports.items():
            assert buffers[name].nbytes >= batch * int(np.prod(shape)) * dtype.itemsize

    def capturable(self, handle: int, batch: int) -> bool:
        assert batch in self._ran, "asked before the first run"
        return self._capturable

    def _array(self, name: str, batch: int) -> np.ndarray:
        _, shape = self.ports[name]
        count = batch * int(np.prod(shape))
        return self._buffers[name].array.view(np.float32)[:count].reshape(batch, *shape)

    def enqueue(self, handle: int, batch: int) -> None:
        inputs, outputs = ([p.name for p in ports] for ports in (self._session.get_inputs(),
                                                                 self._session.get_outputs()))

        self._ran.add(batch)

        def run() -> None:
            self.batches.append(batch)
            answers = self._session.run(outputs, {name: self._array(name, batch) for name in inputs})
            for name, answer in zip(outputs, answers, strict=True):
                self._array(name, batch)[...] = self._spoil(name, answer)

        self.card.defer(handle, run)

    def close(self) -> None:
        self.closed = True


def engine_on(owner: Owner, name: str = "rtface-s", **more: Any) -> tuple[CardEngine, FakePlan]:
    """A shipped engine on the fake card, and its plan."""
    recipe = load_recipe(find_recipes()[name])
    plan = FakePlan(recipe, owner.card, **more)
    engine = CardEngine(owner, recipe, plan, Verdict(100.0, 50.0, 0.0), "for a test")
    plan.batches.clear()
    return engine, plan
