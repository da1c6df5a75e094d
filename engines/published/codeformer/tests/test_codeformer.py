"""CodeFormer against the package spandrel_extra_arches, with the same random weights.

The network chooses codes, and where two are nearly as good the last bits choose: outputs of two implementations are
comparable only where no choice is that near. `MARGIN` is a hundred times what their logits differ by, and asserted.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engines.common import (
    ONNX,
    PARITY,
    crops,
    exported,
    gap,
    has_published_keys,
    offers,
    onnx_gap,
    randomise,
    spandrel,
    torch,
)

from engines.convert.graph import match_nodes  # isort: skip  # after what skips these tests where there is no torch

FOLDER = Path(__file__).parents[1] / "rtface_codeformer"
OFFER = offers(FOLDER)[0]
GAINS = {"*.conv2.weight": 0.5, "*.conv2.bias": 0.5}
"""Otherwise what the blocks add piles up."""
SIZE = 128
MARGIN = 3e-4


def small() -> Any:
    """A quarter of the side, half the width."""
    net = OFFER.code().build(size=SIZE, width=32).requires_grad_(requires_grad=False)
    randomise(net, GAINS)
    return net


def kinds() -> tuple[Any, Any]:
    """spandrel's class, and the module that it and its parts are in."""
    spandrel("GFPGAN")
    if importlib.util.find_spec("spandrel_extra_arches") is None:
        pytest.skip("spandrel_extra_arches is not installed: make test-engines sets it up")
    kind = importlib.import_module("spandrel_extra_arches.architectures.CodeFormer").CodeFormer
    return kind, sys.modules[kind.__module__]


def theirs(ours: Any) -> Any:
    """spandrel's network with our weights."""
    kind, _ = kinds()
    with torch.device("meta"):
        net = kind()
    return filled(net, ours)


def theirs_small(ours: Any) -> Any:
    """The same of another size and width, both of which are fixed in it: its own parts, put together for those."""
    kind, parts = kinds()
    shape, side = [1, 2, 2, 4, 4, 8], SIZE // 32
    with torch.device("meta"):
        net = kind(latent_size=side**2)
        net.encoder = parts.Encoder(3, 32, 256, shape, 2, SIZE, [side])
        net.generator = parts.Generator(32, shape, 2, SIZE, [side], 256)
        for of_512 in list(net.connect_list):
            channels, key = net.channels[of_512] // 2, str(int(of_512) * SIZE // 512)
            net.fuse_encoder_block[key] = net.fuse_encoder_block[of_512]
            net.fuse_generator_block[key] = net.fuse_generator_block[of_512]
            del net.fuse_convs_dict[of_512]
            net.fuse_convs_dict[key] = parts.Fuse_sft_block(channels, channels)
        # Both tables are read by the same keys: those of the smaller network alone.
        net.connect_list = list(net.fuse_convs_dict)
    look_up = net.quantize.get_codebook_feat
    net.quantize.get_codebook_feat = lambda codes, shape: look_up(codes, shape=[shape[0], side, side, shape[3]])
    return filled(net, ours)


def filled(net: Any, ours: Any) -> Any:
    net = net.to_empty(device="cpu").eval()
    net.load_state_dict(ours.state_dict(), strict=True)
    return net


def margin(net: Any, given: Any) -> float:
    """How much better the best code is than the second, where that is least."""
    best = net.logits(net.encoder(given)[0]).topk(2, dim=2).values
    return float((best[..., 0] - best[..., 1]).min())


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Any, Any, Any]:
    """Ours, theirs, three crops, and what theirs makes of them together, w = ½."""
    with torch.no_grad():
        ours, given = small(), crops(3, SIZE)
        other = theirs_small(ours)
        assert margin(ours, given) > MARGIN, "two codes are nearly as good somewhere: take another seed"
        return ours, other, given, other(given, weight=0.5)[0]


def test_the_keys_are_the_published_ones() -> None:
    has_published_keys(OFFER, FOLDER / "codeformer.keys.txt")


def test_every_face_of_a_batch_has_its_own_fidelity(pair: tuple[Any, Any, Any, Any]) -> None:
    ours, other, given, _ = pair
    fidelity = torch.tensor([[0.0], [0.5], [1.0]])
    with torch.no_grad():
        together = ours(given, fidelity)
        for i, w in enumerate((0, 0.5, 1)):
            assert gap(together[i : i + 1], other(given[i : i + 1], weight=w)[0]) < PARITY
        alone = ours(given[:1], fidelity[2:])
        assert gap(alone, together[:1]) > 0.01, "fidelity changes the face"
        assert gap(alone, other(given[:1], weight=1)[0]) < PARITY


def test_batches_are_computed_as_spandrel_computes_them(pair: tuple[Any, Any, Any, Any]) -> None:
    ours, _, given, wanted = pair
    with torch.no_grad():
        assert gap(ours(given, torch.full((3, 1), 0.5)), wanted) < PARITY


@pytest.mark.parametrize("name", [
    "encoder.blocks.17.k.weight", "ft_layers.8.self_attn.in_proj_weight", "position_emb", "quantize.embedding.weight",
    "generator.blocks.5.proj_out.bias", "fuse_convs_dict.64.shift.2.weight",
])  # fmt: skip
def test_a_changed_weight_is_noticed(pair: tuple[Any, Any, Any, Any], name: str) -> None:
    ours, _, given, wanted = pair
    weight = ours.get_parameter(name)
    kept = weight.clone()
    try:
        weight *= 1.1
        changed = ours(given[:1], torch.full((1, 1), 0.5))
    finally:
        weight.copy_(kept)
    assert gap(changed, wanted[:1]) > PARITY


def test_the_whole_network_is_computed_as_spandrel_computes_it() -> None:
    with torch.no_grad():
        ours, given = OFFER.build(), crops(1, 512, seed=1)
        randomise(ours, GAINS, seed=1)
        assert sum(p.numel() for p in ours.parameters()) == 94_112_707
        assert margin(ours, given) > MARGIN, "two codes are nearly as good somewhere: take another seed"
        assert gap(ours(given, torch.ones(1, 1)), theirs(ours)(given, weight=1.0)[0]) < PARITY


def test_onnx_equals_torch_and_lists_its_fp32_nodes() -> None:
    net, names = small(), ("crop", "fidelity")
    model = exported(net, (crops(2, SIZE), torch.ones(2, 1)), names)
    assert [port.name for port in model.graph.input] == list(names)
    for count in (1, 3):
        given = crops(count, SIZE, seed=count)
        assert margin(net, given) > MARGIN, "two codes are nearly as good somewhere: take another seed"
        assert onnx_gap(model, net, given, torch.linspace(0, 1, count)[:, None]) < ONNX
    kept = set(match_nodes(model, OFFER.fp32_nodes))
    choosing = {n.name for n in model.graph.node if n.op_type in ("ArgMax", "LayerNormalization", "Erf", "MatMul")}
    painting = {name for name in choosing if name.startswith(("/encoder/", "/generator/"))}
    assert choosing - painting <= kept and not painting & kept and not any("Conv" in name for name in kept)
    assert not {n.op_type for n in model.graph.node} & {"OneHot", "ScatterElements", "If", "Loop", "RandomNormal"}
