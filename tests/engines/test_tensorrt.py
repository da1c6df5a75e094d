"""Every published architecture, narrow and with random weights, built by TensorRT for RTX, which needs no GPU for it.

Each for sm_89 in the precision that such a GPU tries first; RTFACE_TENSORRT_SMS="75,120" builds for those too, in
every precision that the offer allows. RTFACE_REQUIRE_TENSORRT=1 makes the library's absence a failure.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtface.engine.recipe_tables import Batch, Precision, Precisions
from rtface.engine.tensorrt.builder import build, prepare
from rtface.engine.tensorrt.library import Library, installed, precisions
from tests.engines.common import exported, gap, onnx, ort, torch
from tests.engines.published_folders import NARROW, folders, offered

from engines.convert.graph import match_nodes  # isort: skip  # after what skips these tests where there is no torch
from engines.convert.offers import read_offer  # isort: skip

pytestmark = pytest.mark.timeout(900)  # a build takes ten seconds, and on a busy machine minutes

OFFERS = {name: folder for folder in folders() for name in offered(folder)}
MORE = [sm for sm in os.environ.get("RTFACE_TENSORRT_SMS", "").split(",") if sm]


@dataclass(frozen=True, slots=True)
class Narrow:
    """What the builder asks of a network (`rtface.engine.recipe.Recipe`, as far as it does)."""

    name: str
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    batch: Batch
    precision: Precisions
    model_path: Path

    @property
    def network(self) -> Path:
        return self.model_path


@pytest.fixture(scope="module")
def rtx() -> Library:
    found = next((library for library in installed() if library.kind == "rtx"), None)
    if found is None:
        reason = "TensorRT for RTX is not installed: make test-engines sets it up on Linux"
        if os.environ.get("RTFACE_REQUIRE_TENSORRT") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module", params=OFFERS)
def narrow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Narrow, list[Precision]]:
    """A network as the converter writes it, and what its offer allows."""
    folder = OFFERS[request.param]
    offer, (size, changes) = read_offer(folder, request.param), NARROW[folder.name]
    offer = replace(offer, size=size, variant=offer.variant | changes)
    torch.manual_seed(0)
    given = {offer.input: torch.zeros(2, 3, size, size)}
    given |= {port: torch.full((2, 1), value) for port, value in offer.controls.items()}
    model = exported(offer.build().requires_grad_(requires_grad=False), [*given.values()], [*given], offer.output)
    path = tmp_path_factory.mktemp("narrow") / "model.onnx"
    onnx.save(model, path)
    table: dict[str, Any] = tomllib.loads((folder / "offers.toml").read_text(encoding="utf-8"))
    return (
        Narrow(
            offer.name,
            {name: tuple(value.shape[1:]) for name, value in given.items()},
            {offer.output: (3, size, size)},
            Batch(max=table["batch"]["max"]),
            Precisions(fp32_nodes=tuple(match_nodes(model, offer.fp32_nodes))),
            path,
        ),
        [p for p in ("fp16", "bf16", "f32") if p in table["psnr"]],
    )


def test_it_is_built_for_sm_89(rtx: Library, narrow: tuple[Narrow, list[Precision]]) -> None:
    network, allowed = narrow
    assert "bf16" in allowed
    assert len(build(network, allowed[0], rtx, (8, 9))) > network.model_path.stat().st_size / 4


def test_what_the_library_is_given_computes_the_same(narrow: tuple[Narrow, list[Precision]]) -> None:
    """In fp32."""
    network, _ = narrow
    r = np.random.default_rng(0)
    given = {name: r.uniform(-1, 1, (2, *shape)).astype(np.float32) if len(shape) == 3
             else np.full((2, *shape), 0.5, np.float32) for name, shape in network.inputs.items()}  # fmt: skip
    models = [onnx.load(network.model_path), prepare(network, "f32")]
    plain, prepared = (ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
                       .run(None, given)[0] for model in models)  # fmt: skip
    assert gap(prepared, plain) < 1e-4


@pytest.mark.parametrize("sm", MORE)
def test_other_capabilities_on_demand(rtx: Library, narrow: tuple[Narrow, list[Precision]], sm: str) -> None:
    network, allowed = narrow
    capability = int(sm[:-1]), int(sm[-1])
    for precision in precisions(capability):
        if precision in allowed:
            assert len(build(network, precision, rtx, capability)) > 1e6
