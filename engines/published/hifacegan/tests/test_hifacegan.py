"""HiFaceGAN against what its published code answered, with the same weights (`hifacegan_fixtures`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engines.common import ONNX, PARITY, exported, has_published_keys, offers, onnx_gap, torch
from tests.engines.drawn import drawn_crops
from tests.engines.restoreformer_fixtures import apart

from engines.convert.graph import match_nodes  # isort: skip  # after what skips these tests where there is no torch

HERE = Path(__file__).parent
FOLDER = HERE.parent / "rtface_hifacegan"
sys.path.insert(0, str(HERE))
from hifacegan_fixtures import CASES, published_state  # noqa: E402

OFFERS = {offer.name: offer for offer in offers(FOLDER)}
CODE = next(iter(OFFERS.values())).code()


def published(nested: bool, width: int) -> dict[str, Any]:
    with torch.device("meta"):
        shapes = {name: tuple(t.shape) for name, t in CODE.build(nested=nested, width=width).state_dict().items()}
    return {name: torch.from_numpy(value) for name, value in published_state(shapes).items()}


def network(nested: bool, width: int, state: dict[str, Any] | None = None) -> Any:
    with torch.device("meta"):
        net = CODE.build(nested=nested, width=width)
    net.load_state_dict(CODE.restate(state or published(nested, width)), assign=True)
    return net.requires_grad_(requires_grad=False)


def crops(count: int, size: int) -> Any:
    return torch.from_numpy(drawn_crops(count, size))


@pytest.mark.parametrize("name", OFFERS)
def test_names_and_shapes_are_the_published_ones(name: str) -> None:
    has_published_keys(OFFERS[name], FOLDER / f"{name}.keys.txt")


@pytest.mark.parametrize("case", CASES)
def test_answers_as_published(case: str) -> None:
    nested, width, size, count = CASES[case]
    assert apart(HERE / "hifacegan.npz", case, network(nested, width)(crops(count, size)).numpy()) < PARITY


@pytest.mark.parametrize("name", [
    "fc.weight", "encoder.head.0.weight", "encoder.encoder_1.0.logit.1.weight", "encoder.encoder_4.0.logit.0.weight",
    "head_0.conv_1.weight_orig", "G_middle_0.norm_0.mlp_shared.0.bias", "G_middle_1.conv_1.weight_u",
    "ups.2.conv_s.weight_v", "ups.3.norm_s.mlp_beta.weight", "to_rgbs.3.bias",
])  # fmt: skip
def test_another_weight_is_another_answer(name: str) -> None:
    nested, width, size, count = CASES["nested-1"]
    state = published(nested, width)
    state[name].flatten()[::3].mul_(1.5)
    assert apart(HERE / "hifacegan.npz", "nested-1", network(nested, width, state)(crops(count, size)).numpy()) > PARITY


@pytest.mark.parametrize("nested", [True, False])
def test_onnx_answers_as_torch(nested: bool) -> None:
    net = network(nested, 8)
    model = exported(net, [crops(2, 64)])
    for count in (1, 3):
        assert onnx_gap(model, net, crops(count, 64)) < ONNX
    kept = match_nodes(model, OFFERS["hifacegan"].fp32_nodes)
    kinds = {node.name: node.op_type for node in model.graph.node}
    assert {name for name, kind in kinds.items() if kind in ("Exp", "AveragePool", "Div", "Sigmoid")} <= set(kept)
    assert not {kinds[name] for name in kept} & {"Conv", "Resize"}


def test_importance_stays_within_fp16() -> None:
    x = torch.linspace(0, 3, 64).reshape(1, 1, 8, 8)
    logit = torch.linspace(-12, 12, 64).reshape(1, 1, 8, 8)[:, :, :, torch.randperm(8, generator=torch.manual_seed(0))]
    weight = (torch.sigmoid(logit.double()) * 12).exp()
    wanted = torch.nn.functional.avg_pool2d(x * weight, 3, 2, 1) / torch.nn.functional.avg_pool2d(weight, 3, 2, 1)
    pool = CODE.Pool()
    assert not weight.half().isfinite().all(), "as published it would overflow"
    assert float((pool(x, logit) - wanted).abs().max()) < 1e-5
    assert float((pool(x.half(), logit.half()) - wanted).abs().max()) < 0.02
