"""Loads weights from published files. Reads only tensors. They must match the network exactly."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from .errors import ConvertError
from .offers import Offer

State = dict[str, torch.Tensor]

TRAINERS = ("pytorch_lightning.", "lightning.", "omegaconf.", "numpy.")
"""Modules whose objects training frameworks store with tensors in checkpoints."""


class Placeholder:
    """A placeholder for a training framework's object; its methods do nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Placeholder:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def load_weights(file: Path, offer: Offer, module: torch.nn.Module) -> None:
    """Loads the weights in ``file`` into ``module``. All names must match.

    `rtface engines add` has already compared the names and shapes. Raises ConvertError for a damaged file.
    """
    table = tensors(read(file), offer.states)
    state = {name.removeprefix(offer.prefix): t for name, t in table.items() if name.startswith(offer.prefix)} or table
    restate = getattr(offer.code(), "restate", None)
    state = state if restate is None else restate(state)
    module.load_state_dict(state, strict=True)
    for key, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ConvertError(f"{file} is damaged: {key} contains values that are not numbers")


def read(file: Path) -> Mapping[str, Any]:
    """Reads a safetensors or PyTorch file without running code from it."""
    try:
        with file.open("rb") as opened:
            head = opened.read(9)
        if head[8:] == b"{":
            return load_file(file)
        if zipfile.is_zipfile(file):
            return _zipped(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, OSError, RuntimeError, ValueError, EOFError, KeyError, zipfile.BadZipFile,
            SafetensorError) as error:  # fmt: skip
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConvertError(f"{file} is damaged or not a weights file: {why}; download it again") from error


def _zipped(file: Path) -> Any:
    names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    placeholders: list[Any] = [(Placeholder, name) for name in names if name.startswith(TRAINERS)]
    with torch.serialization.safe_globals(placeholders):
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)


def tensors(loaded: Mapping[str, Any], states: list[str]) -> State:
    """Returns tensors under the first of ``states`` that exists; otherwise all. In flat files, states are prefixes."""
    for state in states:
        if state and isinstance(inner := loaded.get(state), Mapping):
            return _floats(inner)
        if state and (flat := {k.removeprefix(f"{state}."): v for k, v in loaded.items() if k.startswith(f"{state}.")}):
            return _floats(flat)
    return _floats(loaded)


def _floats(table: Mapping[str, Any]) -> State:
    """Returns the tensors in a table. Converts floating-point tensors to fp32."""
    return {name: t.float() if t.is_floating_point() else t
            for name, t in table.items() if isinstance(t, torch.Tensor)}  # fmt: skip
