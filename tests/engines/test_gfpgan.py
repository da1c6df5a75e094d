"""GFPGAN against spandrel's with the same random weights, its ONNX against torch, and fp16.

The random weights give pictures of a standard deviation of 0.3; steering scales are about 1, as a style's are.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.engines.common import (
    ONNX,
    PARITY,
    PUBLISHED,
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

# isort: split
# The first import skips all of this where torch is missing; these need it.
from engines.convert.int8 import ranges
from engines.published.gfpgan.model import Gfpgan, build

FOLDER = PUBLISHED / "gfpgan"
SMALL = {"size": 64, "narrow": 0.25, "styles": 64}


def net(size: int = 512, narrow: float = 1.0, styles: int = 512, paint: float = 1.0, loud: float = 1.0) -> Gfpgan:
    """With random weights; its picture is ``paint`` times as bright, its styles ``loud`` times as large."""
    module = build(size=size, narrow=narrow, styles=styles)
    randomise(module, {"condition_*.2.weight": 0.3, "*.to_rgb*.weight": paint, "*.style_conv*.modulation.*": loud},
              {"*.style_conv*.modulation.bias": loud, "*.modulation.bias": 1.0,
               "condition_scale.*.2.bias": 1.0})  # fmt: skip
    return module


def theirs(ours: Gfpgan, size: int = 512, narrow: float = 1.0, styles: int = 512) -> Any:
    """spandrel's with the same weights."""
    arch = spandrel("GFPGAN").GFPGAN
    module = arch(out_size=size, num_style_feat=styles, channel_multiplier=2, decoder_load_path=None, fix_decoder=False,
                  num_mlp=8, input_is_latent=True, different_w=True, narrow=narrow, sft_half=True)  # fmt: skip
    module.load_state_dict(ours.state_dict(), strict=True)
    return module.eval()


def answer(module: Any, given: Any) -> Any:
    """The picture, without random noise."""
    with torch.no_grad():
        return module(given) if isinstance(module, Gfpgan) else module(given, randomize_noise=False)[0]


@pytest.mark.parametrize("offer", offers(FOLDER), ids=lambda offer: offer.name)
def test_names_and_shapes_are_the_published_ones(offer: Any) -> None:
    has_published_keys(offer, FOLDER / "gfpgan.keys.txt")


@pytest.mark.parametrize("batch", [1, 3])
def test_a_narrow_network_answers_as_spandrels(batch: int) -> None:
    ours, given = net(**SMALL), crops(batch, 64)
    assert gap(answer(ours, given), answer(theirs(ours, **SMALL), given)) < PARITY


def test_the_published_size_answers_as_spandrels() -> None:
    ours, given = net(paint=0.25), crops(1, 512)
    found = answer(ours, given)
    assert 0.2 < float(found.std()) < 0.4
    assert gap(found, answer(theirs(ours), given)) < PARITY


def test_every_weight_but_those_that_only_train_counts() -> None:
    """So that parity means something: when any is moved by a fifth of its size, the answer moves by more than parity
    allows."""
    tiny = {"size": 16, "narrow": 0.125, "styles": 16}
    torch.manual_seed(0)
    ours, given, idle = net(**tiny), crops(1, 16), []
    before = answer(ours, given)
    for name, value in ours.state_dict().items():  # the module's own tensors
        kept = value.clone()
        value += 0.2 * kept.abs().mean() * torch.randn(kept.shape)  # scaled, demodulated weights would be the same
        if gap(answer(ours, given), before) < PARITY:
            idle.append(name)
        value.copy_(kept)
    assert idle and all(name.startswith(("toRGB.", "stylegan_decoder.style_mlp.")) for name in idle), idle
    assert gap(answer(ours, given), before) == 0


@pytest.fixture(scope="module")
def small() -> tuple[Gfpgan, Any]:
    module = net(**SMALL)
    return module, exported(module, [crops(2, 64)])


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_onnx_answers_as_torch(small: tuple[Gfpgan, Any], batch: int) -> None:
    module, model = small
    assert onnx_gap(model, module, crops(batch, 64, seed=batch)) < ONNX


def test_the_graph_is_static(small: tuple[Gfpgan, Any]) -> None:
    """Weights that are constants of convolutions, nothing random, nothing that looks at shapes."""
    graph = small[1].graph
    stored = {init.name: len(init.dims) for init in graph.initializer}
    assert all(node.input[1] in stored for node in graph.node if node.op_type == "Conv")
    assert max(stored.values()) == 4
    assert {node.op_type for node in graph.node} <= {
        "Conv", "LeakyRelu", "AveragePool", "Add", "Mul", "Div", "Resize", "Concat", "Slice", "Flatten", "Reshape",
        "Gemm", "MatMul", "Gather", "Abs", "ReduceMax", "Sqrt", "Reciprocal", "Unsqueeze",
    }  # fmt: skip


def quality(found: Any, wanted: Any) -> float:
    """PSNR in dB, of pictures of -1…1."""
    return -10 * float(torch.log10(((found.float() - wanted) / 2).square().mean().nan_to_num(nan=1.0, posinf=1.0)))


@pytest.mark.parametrize("loud", [1.0, 400.0])
def test_fp16_holds_also_where_styles_are_large(loud: float) -> None:
    """Squares of such styles are beyond fp16; the network as published then gives one colour."""
    ours, given = net(**SMALL, loud=loud), crops(1, 64)
    wanted = answer(ours, given)
    other = theirs(ours, **SMALL)
    published = quality(answer(other.half(), given.half()), wanted)
    assert quality(answer(ours.half(), given.half()), wanted) > 45
    assert published < 25 if loud > 1 else published > 45


def test_int8_holds_with_ranges_of_other_crops(small: tuple[Gfpgan, Any]) -> None:
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    from rtface.engine.backends.int8 import Calibration, Convolution
    from rtface.engine.backends.openvino import quantise

    module, model = small
    held = ranges(model, ({"crop": crops(1, 64, seed=i).numpy()} for i in (1, 2)))
    assert not {"/conv_body_first/Conv"} & {row["name"] for row in held}

    def told(share: float) -> float:
        """dB, with ranges of that share of the width."""
        network = openvino.Core().read_model(model.SerializeToString())
        network.reshape({"crop": [1, 3, 64, 64]})
        rows = tuple(Convolution(row["name"], row["low"] * share, row["high"] * share) for row in held)
        quantise(network, Calibration("", rows))
        compiled = openvino.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        given = crops(1, 64, seed=3)
        return quality(torch.from_numpy(compiled({"crop": given.numpy()})[0]), answer(module, given))

    assert told(1.0) > 35
    assert told(0.3) < 30
