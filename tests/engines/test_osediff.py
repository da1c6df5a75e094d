"""OSEDiff's face model: the merged network answers as the published one does with its adapters on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
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
    published_keys,
    torch,
)
from tests.engines.drawn import drawn_crops
from tests.engines.osediff_fixtures import NUMBERS, SIZE, SMALL, TEXT, draw
from tests.engines.restoreformer_fixtures import apart

safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed: make test-engines")

from engines.convert.graph import named  # noqa: E402
from engines.published.osediff import merge  # noqa: E402
from engines.published.osediff.model import build  # noqa: E402
from engines.published.osediff.prompt import describe, tokens  # noqa: E402

FOLDER = PUBLISHED / "osediff"
(OFFER,) = offers(FOLDER)
FIXTURE = ROOT / "tests" / "engines" / "osediff.npz"
CHANGES = published_keys(FOLDER / "changes.keys.txt")


def tensors(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    return {name: torch.from_numpy(value) for name, value in draw(shapes).items()}


def text_state() -> dict[str, Any]:
    """A small text encoder's weights, in the published names."""
    width, inner = TEXT["hidden_size"], TEXT["intermediate_size"]
    at = "text_model."
    shapes: dict[str, tuple[int, ...]] = {
        f"{at}embeddings.token_embedding.weight": (TEXT["vocab_size"], width),
        f"{at}embeddings.position_embedding.weight": (TEXT["max_position_embeddings"], width),
    }
    for i in range(TEXT["num_hidden_layers"]):
        layer = f"{at}encoder.layers.{i}."
        for part, (after, before) in {
            "self_attn.k_proj": (width, width), "self_attn.v_proj": (width, width),
            "self_attn.q_proj": (width, width), "self_attn.out_proj": (width, width),
            "mlp.fc1": (inner, width), "mlp.fc2": (width, inner),
        }.items():  # fmt: skip
            shapes |= {f"{layer}{part}.weight": (after, before), f"{layer}{part}.bias": (after,)}
        for part in ("layer_norm1", "layer_norm2"):
            shapes |= {f"{layer}{part}.weight": (width,), f"{layer}{part}.bias": (width,)}
    return tensors(shapes | {f"{at}final_layer_norm.{part}": (width,) for part in ("weight", "bias")})


def small_parts() -> tuple[dict[str, Any], dict[str, Any]]:
    """Base and changes of the small network, as the fixtures' script drew them, under ``unet.…`` and ``vae.…``."""
    with torch.device("meta"):
        net = build(**SMALL)
    base = tensors({k: tuple(v.shape) for k, v in net.state_dict().items() if k != "prompt"})
    shapes: dict[str, tuple[int, ...]] = {}
    for name, published in CHANGES.items():
        own = base[name.partition(".lora_")[0].removesuffix(".base_layer.weight").removesuffix(".base_layer.bias")
                   + (".bias" if name.endswith("bias") else ".weight")].shape  # fmt: skip
        if ".base_layer." in name:
            shapes[name] = tuple(own)
        elif ".lora_A." in name:
            shapes[name] = (published[0], *own[1:])
        else:
            shapes[name] = (own[0], published[1], *published[2:])
    return base, tensors(shapes)


def part(state: dict[str, Any], name: str) -> dict[str, Any]:
    return {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}


@pytest.fixture(scope="module")
def network() -> Any:
    base, changes = small_parts()
    state = {f"{name}.{k}": v for name in ("unet", "vae")
             for k, v in merge.changed(part(base, name), part(changes, name)).items()}  # fmt: skip
    net = build(**SMALL)
    net.load_state_dict(state | {"prompt": describe(text_state(), NUMBERS, head=16)})
    return net.requires_grad_(requires_grad=False)


def crops(count: int) -> Any:
    return torch.from_numpy(drawn_crops(count, SIZE))


def test_names_and_shapes_are_the_published_ones() -> None:
    has_published_keys(OFFER, FOLDER / "osediff-face.keys.txt")


def test_the_published_changes_fit_the_published_base() -> None:
    base = published_keys(FOLDER / "osediff-face.keys.txt")
    with torch.device("meta"):
        given = {name: torch.empty(shape) for name, shape in base.items()}
        found = merge.changed(given, {name: torch.empty(shape) for name, shape in CHANGES.items()})
    assert {name: tuple(t.shape) for name, t in found.items()} == base


def test_the_description_is_the_published_text_encoders() -> None:
    with np.load(FIXTURE) as file:
        assert gap(describe(text_state(), NUMBERS, head=16), file["prompt"]) < PARITY


@pytest.mark.parametrize("count", [1, 3])
def test_answers_as_published(network: Any, count: int) -> None:
    assert apart(FIXTURE, str(count), network(crops(count)).numpy()) < PARITY


@pytest.mark.parametrize(
    "name",
    ["unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v.weight",
     "unet.up_blocks.3.attentions.1.transformer_blocks.0.ff.net.0.proj.weight", "unet.time_embedding.linear_1.weight",
     "vae.encoder.mid_block.attentions.0.to_v.weight", "prompt"],
)  # fmt: skip
def test_another_weight_is_another_answer(network: Any, name: str) -> None:
    tensor = network.state_dict()[name]
    before = tensor.clone()
    tensor.flatten()[::7].mul_(1.5)
    try:
        assert apart(FIXTURE, "1", network(crops(1)).numpy()) > 10 * PARITY
    finally:
        tensor.copy_(before)


def test_onnx_answers_as_torch_and_stores_half_the_bytes(network: Any) -> None:
    halved = build(**SMALL, half=True)
    halved.load_state_dict(network.state_dict())
    halved.requires_grad_(requires_grad=False)
    model = exported(halved, [crops(2)])
    for count in (1, 3):
        assert onnx_gap(model, halved, crops(count)) < ONNX
    parameters = sum(p.numel() for p in halved.parameters())
    assert len(model.SerializeToString()) < 2.3 * parameters
    kept = set(named(model, OFFER.fp32_nodes))
    delicate = {"InstanceNormalization", "LayerNormalization", "Softmax"}
    assert {node.name for node in model.graph.node if node.op_type in delicate} <= kept


def test_words_of_a_description() -> None:
    vocabulary = {"!": 0, "face</w>": 5, ",</w>": 6, "person</w>": 7, "<|startoftext|>": 48, "<|endoftext|>": 49}
    assert tokens("Face, person,", vocabulary) == NUMBERS
    with pytest.raises(ValueError, match="no word photograph"):
        tokens("photograph of a face", vocabulary)
    with pytest.raises(ValueError, match="at most 75"):
        tokens("face " * 76, vocabulary)


def published_files(folder: Path) -> tuple[Path, Path]:
    """Small ones: a folder of the library with its older names of attention, and the file of changes."""
    base, changes = small_parts()
    library = folder / "base"
    for name, state in (("unet", part(base, "unet")), ("vae", part(base, "vae")), ("text_encoder", text_state())):
        (library / name).mkdir(parents=True)
        for older, newer in merge.LIBRARY.items() if name == "vae" else ():
            state = {k.replace(f".{newer}.", f".{older}."): v for k, v in state.items()}
        safetensors.save_file(state, library / name / "model.safetensors")
    (library / "tokenizer").mkdir()
    vocabulary = {"!": 0, "face</w>": 5, ",</w>": 6, "person</w>": 7, "<|startoftext|>": 48, "<|endoftext|>": 49}
    (library / "tokenizer" / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    file = folder / "osediff_face.pkl"
    torch.save({"rank_unet": 4, "unet_lora_others_modules": ["mid_block"],
                "state_dict_unet": part(changes, "unet"), "state_dict_vae": part(changes, "vae")}, file)  # fmt: skip
    return library, file


def test_one_file_is_made_of_the_published_two(network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library, file = published_files(tmp_path)
    out = tmp_path / "osediff-face.safetensors"
    # The encoder's heads are 64 wide; the small one's are not.
    monkeypatch.setattr(merge, "describe", lambda state, numbers: describe(state, numbers, head=16))
    given = ["merge", "--base", str(library), "--changes", str(file), "--out", str(out)]
    monkeypatch.setattr("sys.argv", given)
    assert merge.main() is None
    found, wanted = safetensors.load_file(out), network.state_dict()
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor.half()), name
    assert "is there already" in str(merge.main())
    out.unlink()
    file.write_bytes(file.read_bytes()[:5000])
    assert merge.main() and not out.exists()
    published_files(tmp_path / "again")
    (library / "unet" / "model.safetensors").unlink()
    monkeypatch.setattr("sys.argv", [*given[:4], str(tmp_path / "again" / "osediff_face.pkl"), *given[5:]])
    assert "holds no weights" in str(merge.main())
