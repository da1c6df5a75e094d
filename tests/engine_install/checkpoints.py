"""Files of weights as PyTorch writes them, made without PyTorch."""

from __future__ import annotations

import io
import json
import pickle
import struct
import sys
import types
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


class Tensor:
    """Pickles as a tensor of PyTorch does."""

    def __init__(self, shape: tuple[int, ...], kind: str = "FloatStorage") -> None:
        self.shape, self.kind = shape, kind

    def __reduce__(self) -> Any:
        stride = tuple(int(np.prod(self.shape[i + 1 :])) for i in range(len(self.shape)))
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (Storage(self.kind, int(np.prod(self.shape))), 0, self.shape, stride, False, None)


class Storage:
    def __init__(self, kind: str, count: int) -> None:
        self.kind, self.count = kind, count


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, Storage):
            return "storage", getattr(sys.modules["torch"], obj.kind), "0", "cpu", obj.count
        return None


@contextmanager
def _torch() -> Iterator[None]:
    """Modules of PyTorch's names, whose functions and classes can be pickled by name."""
    torch, utils, trainer = (types.ModuleType(n) for n in ("torch", "torch._utils", "pytorch_lightning"))

    def rebuild(*_: Any) -> None:
        raise AssertionError("nothing may be run")

    rebuild.__module__, rebuild.__name__, rebuild.__qualname__ = "torch._utils", *["_rebuild_tensor_v2"] * 2
    utils._rebuild_tensor_v2 = rebuild
    for kind in ("FloatStorage", "HalfStorage", "LongStorage"):
        setattr(torch, kind, type(kind, (), {"__module__": "torch"}))
    trainer.Checkpoint = Checkpoint
    saved = {name: sys.modules.get(name) for name in ("torch", "torch._utils", "pytorch_lightning")}
    sys.modules |= {"torch": torch, "torch._utils": utils, "pytorch_lightning": trainer}
    try:
        yield
    finally:
        for name, module in saved.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class Checkpoint:
    """What a trainer leaves in its files."""

    def __init__(self) -> None:
        self.best = 0.5


Checkpoint.__module__, Checkpoint.__qualname__ = "pytorch_lightning", "Checkpoint"


def pickled(contents: Any, protocol: int = 2) -> bytes:
    with _torch():
        out = io.BytesIO()
        _Pickler(out, protocol).dump(contents)
    return out.getvalue()


def write_zip(path: Path, contents: Any, more: bytes = b"") -> Path:
    """As ``torch.save`` writes since 1.6; `more` makes the file differ."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{path.stem}/data.pkl", contents if isinstance(contents, bytes) else pickled(contents))
        archive.writestr(f"{path.stem}/data/0", b"\0" * 64 + more)
        archive.writestr(f"{path.stem}/version", b"3\n")
    return path


def write_legacy(path: Path, contents: Any) -> Path:
    """As it wrote before."""
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    path.write_bytes(b"".join(parts) + pickled(contents) + pickle.dumps(["0"], 2) + b"\0" * 64)
    return path


def write_safetensors(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Path:
    table, at = dict[str, Any](), 0
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        table[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(table | {"__metadata__": {"format": "pt"}}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * at)
    return path
