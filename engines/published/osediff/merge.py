"""One file out of the two that OSEDiff's face model is published in:

    rtface engines merge --base FOLDER --changes osediff_face.pkl --out osediff-face.safetensors

which runs ``python -m engines.published.osediff.merge`` (at a checkout that will do, too) in an environment with torch.
``--base`` is Stable Diffusion 2.1 base as the diffusers library lays it out (folders ``unet``, ``vae``,
``text_encoder``, ``tokenizer``), ``--changes`` the file of OSEDiff's repository (``preset/models``). Needs torch and
safetensors, and about 12 GiB of memory. The result goes to ``rtface engines add osediff-face --from``.
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .prompt import describe, tokens

ALPHA = 8
"""Of the low-rank changes: they count ALPHA / rank times. The published code leaves peft's default."""
TEXT = "face, person,"
"""What every crop is said to show. The published code asks a tagging network for each."""
LIBRARY = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""What the autoencoder's attention was called when Stable Diffusion was published → as the library calls it now."""

State = dict[str, Tensor]


def changed(base: Mapping[str, Tensor], changes: Mapping[str, Tensor]) -> State:
    """``base`` with low-rank changes (Hu et al. 2022) added: W + ALPHA / rank · B·A, of convolutions B·A over the
    flattened kernel. What ``changes`` holds whole (``….base_layer.…``) replaces the base's. Raises KeyError where the
    base lacks what is to be changed, ValueError where shapes do not fit."""
    found = dict(base)
    for name, tensor in changes.items():
        if ".base_layer." in name:
            found[_known(name.replace(".base_layer.", "."), base)] = tensor.float()
    for name, a in changes.items():
        if ".lora_A." not in name:
            continue
        b = changes[name.replace(".lora_A.", ".lora_B.")]
        key = _known(name.partition(".lora_A.")[0] + ".weight", base)
        change = b.float().flatten(1) @ a.float().flatten(1) * (ALPHA / len(a))
        if change.numel() != found[key].numel() or len(change) != len(found[key]):
            raise ValueError(f"the change of {key} does not fit: {tuple(change.shape)} to {tuple(found[key].shape)}")
        found[key] = found[key] + change.reshape(found[key].shape)
    return found


def _known(key: str, base: Mapping[str, Tensor]) -> str:
    if key not in base:
        raise KeyError(key)
    return key


def renamed(state: Mapping[str, Tensor]) -> State:
    """The autoencoder's tensors under the names that the library uses now; as fp32."""
    found: State = {}
    for name, tensor in state.items():
        parts = name.split(".")
        if "attentions" in parts:
            parts[-2] = LIBRARY.get(parts[-2], parts[-2])
            tensor = tensor.reshape(len(tensor), -1).squeeze(1) if "group_norm" not in parts else tensor
        found[".".join(parts)] = tensor.float()
    return found


def read(folder: Path) -> State:
    """The weights in a folder of the library: ``.safetensors`` or ``.bin``. Raises FileNotFoundError."""
    for pattern in ("*model.safetensors", "*model.fp16.safetensors", "*model.bin"):
        for file in sorted(folder.glob(pattern)):
            table = load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)
            return {name: tensor.float() for name, tensor in table.items() if tensor.is_floating_point()}
    raise FileNotFoundError(f"{folder} holds no weights (…model.safetensors or …model.bin)")


def merge(base: Path, changes: Path, text: str) -> State:
    """All that the network needs, under its names, as fp16."""
    given = torch.load(changes, map_location="cpu", weights_only=True)
    vocabulary = json.loads((base / "tokenizer" / "vocab.json").read_text(encoding="utf-8"))
    prompt = describe(read(base / "text_encoder"), tokens(text, vocabulary))
    whole: State = {"prompt": prompt.half()}
    for part, state in (("unet", read(base / "unet")), ("vae", renamed(read(base / "vae")))):
        done = changed(state, given[f"state_dict_{part}"])
        whole |= {f"{part}.{name}": tensor.half().contiguous() for name, tensor in done.items()}
    return whole


def main() -> str | None:
    parser = argparse.ArgumentParser(prog="python -m engines.published.osediff.merge")
    parser.add_argument("--base", type=Path, required=True, help="Stable Diffusion 2.1 base, a folder of diffusers")
    parser.add_argument("--changes", type=Path, required=True, help="osediff_face.pkl")
    parser.add_argument("--out", type=Path, required=True, help="the file to write, .safetensors")
    parser.add_argument("--text", default=TEXT, help=f"what a crop shows, words and commas (default: {TEXT!r})")
    arguments = parser.parse_args()
    if arguments.out.exists():
        return f"{arguments.out} is there already; name another file or remove it"
    beside = arguments.out.with_name(arguments.out.name + ".rtface-part")
    try:
        save_file(merge(arguments.base, arguments.changes, arguments.text), beside)
        beside.replace(arguments.out)
    except pickle.UnpicklingError:
        return f"{arguments.changes} is damaged, or holds more than tensors and names; get it again"
    except KeyError as error:
        return f"{arguments.changes} does not belong to {arguments.base}: {error.args[0]} is missing"
    except FileNotFoundError as error:
        return f"{error.filename} is not there" if error.filename else str(error)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        return str(error).partition("\n")[0]
    finally:
        beside.unlink(missing_ok=True)
    return None


if __name__ == "__main__":
    sys.exit(main())
