"""RestoreFormer and RestoreFormer++ answer as independent implementations do, given the same weights."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engines.common import (
    ONNX,
    PARITY,
    PUBLISHED,
    ROOT,
    exported,
    gap,
    has_published_keys,
    offers,
    onnx_gap,
    spandrel,
    torch,
)
from tests.engines.drawn import drawn_crops, drawn_state
from tests.engines.restoreformer_fixtures import CASES, apart

from engines.convert.graph import match_nodes  # isort: skip

FOLDER = PUBLISHED / "restoreformer"
OFFERS = {offer.name: offer for offer in offers(FOLDER)}
FIXTURE = ROOT / "tests" / "engines" / "restoreformer.npz"
PLUS_PLUS = {"heads": 4, "asked": 2}


def network(**variant: Any) -> Any:
    """With the weights of the fixtures."""
    from engines.published.restoreformer.model import build

    with torch.device("meta"):
        net = build(**variant)
    shapes = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    net.load_state_dict({name: torch.from_numpy(v) for name, v in drawn_state(shapes).items()}, assign=True)
    return net.requires_grad_(requires_grad=False)


def crops(count: int, size: int) -> Any:
    return torch.from_numpy(drawn_crops(count, size))


@pytest.mark.parametrize("name", OFFERS)
def test_names_and_shapes_are_the_published_ones(name: str) -> None:
    has_published_keys(OFFERS[name], FOLDER / f"{name}.keys.txt")


@pytest.mark.parametrize("count", [1, 3])
def test_answers_as_an_independent_implementation(count: int) -> None:
    ours = network(width=32, size=128)
    theirs = spandrel("RestoreFormer").RestoreFormer(ch=32).eval()
    theirs.load_state_dict(ours.state_dict())
    given = crops(count, 128)
    with torch.no_grad():
        assert gap(ours(given), theirs(given)[0]) < PARITY


@pytest.mark.parametrize("case", CASES)
def test_plus_plus_answers_as_published(case: str) -> None:
    width, size, count = CASES[case]
    net = network(**PLUS_PLUS, width=width, size=size)
    seen: list[Any] = []
    net.quantize.register_forward_pre_hook(lambda _, given: seen.append(net.quantize.distances(given[0])))
    assert apart(FIXTURE, case, net(crops(count, size)).numpy()) < PARITY
    # The drawn weights are such that no rounding of fp32 can make another entry the nearest: the comparison is fair.
    nearest = seen[0].topk(2, dim=3, largest=False)
    assert len(nearest.indices[..., 0].unique()) > 5
    assert float((nearest.values[..., 1] - nearest.values[..., 0]).min()) > 0.01


@pytest.mark.parametrize(
    "name",
    ["encoder.down.4.block.1.conv2.weight", "decoder.up.4.attn.2.norm2.weight", "decoder.mid.attn_1.k.weight"],
)
def test_another_weight_is_another_answer(name: str) -> None:
    width, size, count = CASES["narrow-1"]
    net = network(**PLUS_PLUS, width=width, size=size)
    net.get_parameter(name).flatten()[::7].mul_(1.2)
    assert apart(FIXTURE, "narrow-1", net(crops(count, size)).numpy()) > PARITY


def test_onnx_answers_as_torch() -> None:
    net = network(**PLUS_PLUS, width=32, size=128)
    model = exported(net, [crops(2, 128)])
    for count in (1, 3):
        assert onnx_gap(model, net, crops(count, 128)) < ONNX
    kept = match_nodes(model, OFFERS["restoreformer-plus-plus"].fp32_nodes)
    kinds = {node.name: node.op_type for node in model.graph.node}
    delicate = {"InstanceNormalization", "Softmax", "ArgMin"}
    assert {name for name, kind in kinds.items() if kind in delicate} <= set(kept)
    assert not {kinds[name] for name in kept} & {"Conv", "Resize"}
