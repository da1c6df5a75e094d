"""Weights out of files that others published: only tensors are taken from them, and they have to fit exactly."""

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
"""Where the objects come from that trainers leave in their checkpoints beside the tensors."""


class Left:
    """What stands for a trainer's object: whatever is done to it, nothing happens."""

    def __new__(cls, *_: Any, **__: Any) -> Left:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def load_weights(file: Path, offer: Offer, module: torch.nn.Module) -> None:
    """Puts what lies in ``file`` into ``module``, strictly. Raises ConvertError, saying what is wrong with the file."""
    state = published(file, offer)
    restate = getattr(offer.code(), "restate", None)
    if restate is not None:
        state = restate(state)
    fit(file, offer.name, state, module)
    module.load_state_dict(state, strict=True)


def published(file: Path, offer: Offer) -> State:
    """The offer's tensors in ``file``, under the names that they have there, without the prefix."""
    found = tensors(read(file), offer.states)
    named = {name.removeprefix(offer.prefix): t for name, t in found.items() if name.startswith(offer.prefix)}
    if not named:
        what = f"no tensor whose name begins with {offer.prefix}" if found else "no tensors"
        raise ConvertError(f"{file} holds {what}: these are not the weights of {offer.name}")
    return named


def read(file: Path) -> Mapping[str, Any]:
    """A file of PyTorch (read without running what it holds) or of safetensors."""
    try:
        with file.open("rb") as opened:
            head = opened.read(512)
    except OSError as error:
        raise ConvertError(f"{file} cannot be read: {error.strerror}") from error
    if head.lstrip()[:1] == b"<":
        raise ConvertError(f"{file} is a web page, not a file of weights; download it again")
    try:
        if file.suffix == ".safetensors" or head[8:9] == b"{":
            return load_file(file)
        if zipfile.is_zipfile(file):
            return checked(file, _zipped(file))
        return checked(file, torch.load(file, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        if unsafe := _unsafe(error):
            raise ConvertError(f"{file} holds {unsafe}, which could run code, so it is not read") from error
        raise ConvertError(f"{file} is damaged or no file of weights: {_line(error)}") from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, zipfile.BadZipFile, SafetensorError) as error:
        raise ConvertError(f"{file} is damaged or no file of weights: {_line(error)}; get it again") from error


def _zipped(file: Path) -> Any:
    names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    stand_ins: list[Any] = [(Left, name) for name in names if name.startswith(TRAINERS)]
    with torch.serialization.safe_globals(stand_ins):
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)


def checked(file: Path, loaded: Any) -> Mapping[str, Any]:
    if not isinstance(loaded, Mapping):
        raise ConvertError(f"{file} holds a {type(loaded).__name__}, not named weights")
    return loaded


def _unsafe(error: pickle.UnpicklingError) -> str | None:
    """The object that PyTorch refused to build, out of its words."""
    text = str(error)
    for before, after in (("Unsupported global: GLOBAL ", " was not"), ("Unsupported class ", " "),
                          ("unsupported GLOBAL ", " "), ("Trying to load unsupported GLOBAL ", " whose")):  # fmt: skip
        if before in text:
            return text.partition(before)[2].partition(after)[0]
    return None


def _line(error: BaseException) -> str:
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)


def tensors(loaded: Mapping[str, Any], states: list[str]) -> State:
    """The tensors under the first of ``states`` that is there; of a flat file those whose names begin so, else all."""
    for state in states:
        if state and isinstance(inner := loaded.get(state), Mapping):
            return _floats(inner)
        if state and (flat := {k.removeprefix(f"{state}."): v for k, v in loaded.items() if k.startswith(f"{state}.")}):
            return _floats(flat)
    return _floats(loaded)


def _floats(table: Mapping[str, Any]) -> State:
    """Its tensors, those of floating point as fp32."""
    return {name: t.float() if t.is_floating_point() else t
            for name, t in table.items() if isinstance(t, torch.Tensor)}  # fmt: skip


def fit(file: Path, name: str, state: State, module: torch.nn.Module) -> None:
    """Raises ConvertError where names or shapes differ from the module's, or a value is not a number."""
    wanted = {key: tuple(t.shape) for key, t in module.state_dict().items()}
    missing = [key for key in wanted if key not in state]
    more = [key for key in state if key not in wanted]
    if missing or more:
        parts = [f"{len(missing)} of {len(wanted)} names are missing, the first {missing[0]}"] if missing else []
        parts += [f"{len(more)} are not the network's, the first {more[0]}"] if more else []
        raise ConvertError(f"{file} does not hold the weights of {name}: {'; '.join(parts)}")
    wrong = [key for key, shape in wanted.items() if tuple(state[key].shape) != shape]
    if wrong:
        key = wrong[0]
        what = f"{len(wrong)} of {len(wanted)} tensors have another shape, the first {key}"
        raise ConvertError(f"{file} does not hold the weights of {name}: {what}, "
                           f"{_times(state[key].shape)} instead of {_times(wanted[key])}")  # fmt: skip
    for key, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ConvertError(f"{file} is damaged: {key} holds values that are not numbers")


def _times(shape: tuple[int, ...] | torch.Size) -> str:
    return "×".join(map(str, shape)) or "a scalar"
