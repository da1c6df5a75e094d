"""The description that Stable Diffusion 2.1 is told: a text of whole words through its text encoder (OpenCLIP ViT-H,
Cherti et al. 2023, all layers but the last), in the names of the transformers library, in which it is published."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .model import WORDS


def tokens(text: str, vocabulary: Mapping[str, int]) -> list[int]:
    """The 77 numbers of a text: its beginning, its words and commas, its end, and filling. ``vocabulary`` is the
    tokenizer's ``vocab.json``. Raises ValueError for a word that the vocabulary has only in pieces, or too many."""
    words = re.findall(r"[a-z]+|,", text.lower())
    unknown = [word for word in words if f"{word}</w>" not in vocabulary]
    if unknown:
        raise ValueError(f"the vocabulary has no word {unknown[0]}; describe with another")
    if len(words) > WORDS - 2:
        raise ValueError(f"a description has at most {WORDS - 2} words and commas, this one has {len(words)}")
    found = ["<|startoftext|>", *(f"{word}</w>" for word in words), "<|endoftext|>"]
    return [vocabulary[word] for word in found + ["!"] * (WORDS - len(found))]


def describe(state: Mapping[str, Tensor], numbers: Sequence[int], head: int = 64) -> Tensor:
    """The text encoder's answer to 77 numbers, 1×77×width. ``state`` holds its weights, ``head`` is the width of an
    attention head."""
    at = "text_model."
    x = state[f"{at}embeddings.token_embedding.weight"][list(numbers)]
    x = x + state[f"{at}embeddings.position_embedding.weight"]
    later = torch.full((len(x), len(x)), float("-inf")).triu(1)  # no word looks at those after it
    layers = 1 + max(int(name.split(".")[3]) for name in state if name.startswith(f"{at}encoder.layers."))
    for layer in (f"{at}encoder.layers.{i}." for i in range(layers)):
        y = _norm(x, state, f"{layer}layer_norm1")
        q, k, v = (_linear(y, state, f"{layer}self_attn.{part}_proj").unflatten(1, (-1, head)).transpose(0, 1)
                   for part in "qkv")  # fmt: skip
        seen = F.softmax(q @ k.transpose(1, 2) * head**-0.5 + later, dim=2) @ v
        x = x + _linear(seen.transpose(0, 1).flatten(1), state, f"{layer}self_attn.out_proj")
        y = _linear(_norm(x, state, f"{layer}layer_norm2"), state, f"{layer}mlp.fc1")
        x = x + _linear(F.gelu(y), state, f"{layer}mlp.fc2")
    return _norm(x, state, f"{at}final_layer_norm")[None]


def _linear(x: Tensor, state: Mapping[str, Tensor], name: str) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def _norm(x: Tensor, state: Mapping[str, Tensor], name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])
