"""What the tests of all architectures share. Each architecture has a file ``test_NAME.py`` here.

They need torch and are skipped without; `make test-engines` sets up what they need and runs them. Another's code for
the same network is the measure: the package spandrel, or figures that the published code gave, kept as a fixture.
"""

from __future__ import annotations

import fnmatch
import importlib
import importlib.util
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make test-engines sets it up")
onnx = pytest.importorskip("onnx", reason="onnx is not installed: make test-engines sets it up")
ort = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: make test-engines sets it up")

from engines.convert.graph import fold, to_onnx  # noqa: E402
from engines.convert.offers import Offer, read_offer  # noqa: E402

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "engines" / "published"
PARITY = 1e-4
"""How far an answer may be from the other implementation's, as a share of the answer's range."""
ONNX = 1e-3
"""How far ONNX Runtime's may be from torch's."""

F32 = npt.NDArray[np.float32]


def spandrel(module: str) -> Any:
    """A module of the package spandrel, named below ``spandrel.architectures``.

    Importing any of them imports all, and two of those import three names of torchvision, which the networks that we
    test do not use and which is not installed beside our torch: something empty stands in for it.
    """
    pytest.importorskip("einops", reason="einops is not installed: make test-engines sets it up")
    if importlib.util.find_spec("spandrel") is None:
        pytest.skip("spandrel is not installed: make test-engines sets it up")
    if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None:
        functional = types.ModuleType("torchvision.transforms.functional")
        functional.InterpolationMode = functional.rotate = functional.normalize = None  # type: ignore[attr-defined]
        sys.modules |= {name: types.ModuleType(name) for name in ("torchvision", "torchvision.transforms")}
        sys.modules[functional.__name__] = functional
    return importlib.import_module(f"spandrel.architectures.{module}")


def randomise(module: Any, gains: Mapping[str, float] | None = None, about: Mapping[str, float] | None = None,
              seed: int = 0) -> None:  # fmt: skip
    """Fills every parameter and buffer so that each of them matters and no value explodes: weights of unit gain, scales
    of norms about 1, biases about 0. By pattern of names, of which the first that fits counts, ``gains`` are factors
    and ``about`` is added."""

    def given(name: str, table: Mapping[str, float] | None, otherwise: float) -> float:
        return next((v for pattern, v in (table or {}).items() if fnmatch.fnmatchcase(name, pattern)), otherwise)

    r = torch.Generator().manual_seed(seed)
    state = module.state_dict()
    for name, old in state.items():
        if not old.is_floating_point():
            continue
        value = torch.randn(old.shape, generator=r)
        if old.ndim >= 2 and name.endswith("weight"):
            value /= old.flatten(0, old.ndim - 4)[0].numel() ** 0.5 if old.ndim > 4 else old[0].numel() ** 0.5
        elif name.endswith("bias") or old.ndim >= 4:
            value *= 0.1
        elif old.ndim == 1 and name.endswith("weight") and old.numel() > 1:
            value = 1 + 0.1 * value
        state[name] = value * given(name, gains, 1.0) + given(name, about, 0.0)
    module.load_state_dict(state)


def crops(count: int, size: int, seed: int = 0) -> Any:
    """Smooth pictures of -1…1 with fine noise on top, float32 N×3×S×S."""
    r = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 8, 8, generator=r)
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")
    return (smooth * 0.5 + 0.05 * torch.randn(smooth.shape, generator=r)).clamp(-1, 1)


def gap(ours: Any, theirs: Any) -> float:
    """The largest difference as a share of the range of ``theirs``, which must not be flat."""
    ours, theirs = (np.asarray(v, np.float32) for v in (ours, theirs))
    assert ours.shape == theirs.shape
    span = float(theirs.max() - theirs.min())
    assert span > 0.1, "the answers are flat: they could be alike whatever the networks do"
    return float(np.abs(ours - theirs).max()) / span


def exported(module: Any, given: Sequence[Any], names: Sequence[str] = ("crop",), output: str = "restored") -> Any:
    """``module`` as ONNX, made as the converter makes it; ``given`` are examples of its inputs."""
    model = to_onnx(module, dict(zip(names, given, strict=True)), [output])
    fold(model)
    onnx.checker.check_model(model)
    return model


def onnx_gap(model: Any, module: Any, *given: Any) -> float:
    """How far ONNX Runtime is from torch on these inputs (see ``gap``)."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        wanted = module(*given)
    names = [port.name for port in session.get_inputs()]
    return gap(session.run(None, dict(zip(names, (v.numpy() for v in given), strict=True)))[0], wanted)


def published_keys(path: Path) -> dict[str, tuple[int, ...]]:
    """``NAME.keys.txt``: names and shapes, in the file's order."""
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {name: () if shape == "-" else tuple(map(int, shape.split("x"))) for name, shape in rows}


def offers(folder: Path) -> list[Offer]:
    """All that ``folder`` offers."""
    import tomllib

    table = tomllib.loads((folder / "offers.toml").read_text(encoding="utf-8"))
    return [read_offer(folder, offer["name"]) for offer in table["offers"]]


def has_published_keys(offer: Offer, keys: Path) -> None:
    """The network's parameters and buffers are those of the list, by name and shape; after ``restate``, where there is
    one. On the meta device: nothing is computed or stored."""
    with torch.device("meta"):
        own = {name: tuple(t.shape) for name, t in offer.build().state_dict().items()}
        state = {name.removeprefix(offer.prefix): torch.empty(shape) for name, shape in published_keys(keys).items()}
        if restate := getattr(offer.code(), "restate", None):
            state = restate(state)
    assert own == {name: tuple(t.shape) for name, t in state.items()}
