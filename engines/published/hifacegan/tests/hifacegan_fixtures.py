"""What the published HiFaceGAN answers, kept small. Run outside the project, against a copy of its repository:

    PYTHONPATH=. python engines/published/hifacegan/tests/hifacegan_fixtures.py REPOSITORY COMMIT

REPOSITORY is a checkout of Lotayou/Face-Renovation at COMMIT. Writes the key lists in ``rtface_hifacegan`` and
``hifacegan.npz`` beside this file. Weights and crops follow from names, shapes and seeds: the tests need nothing
published.
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.engines.drawn import drawn_crops, drawn_state
from tests.engines.restoreformer_fixtures import digest

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "rtface_hifacegan"
CASES = {
    # name: (nested, width, side of the crops, how many)
    "nested-1": (True, 8, 128, 1),
    "nested-3": (True, 8, 128, 3),
    "lip-3": (False, 8, 128, 3),
    "lip-full-1": (False, 48, 512, 1),
}
KEYS = {"hifacegan": (True, 64), "hifacegan-lipspade": (False, 48)}


def published_state(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The published network's tensors, spectral norms included, by the shapes of ours. Their vectors are a few steps of
    the power method away from the singular ones, as training leaves them."""
    normed = re.compile(r"conv_[01s]\.weight$")
    state = drawn_state({f"{n}_orig" if normed.search(n) else n: shape for n, shape in shapes.items()})
    for name in [n for n in state if n.endswith("_orig")]:
        matrix = state[name].reshape(len(state[name]), -1).astype(np.float64)
        u = np.cos(np.arange(len(matrix)))
        for _ in range(5):
            v = unit(u @ matrix)
            u = unit(matrix @ v)
        stem = name.removesuffix("_orig")
        state |= {f"{stem}_u": u.astype(np.float32), f"{stem}_v": v.astype(np.float32)}
    return state


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def imported(repository: str) -> Any:
    """The published module of generators. It imports data sets and VGG, which the network does not use."""
    sys.path.insert(0, repository)
    for name in ("data", "torchvision", "util", "util.util"):
        sys.modules[name] = types.ModuleType(name)
    for name in ("models", "models.networks"):  # without running their __init__, which imports training
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(Path(repository, *name.split(".")))]
    from models.networks import generator  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]

    return generator


def network(generator: Any, nested: bool, width: int, size: int) -> Any:
    options = types.SimpleNamespace(
        ngf=width, crop_size=size, aspect_ratio=1.0, num_upsampling_layers="normal", use_vae=False, semantic_nc=3,
        is_test=True, norm_G="spectralspadesyncbatch3x3",
    )  # fmt: skip
    return (generator.HiFaceGANGenerator if nested else generator.LIPSPADEGenerator)(options)


def main(repository: str, commit: str) -> None:
    import torch

    sys.path.insert(0, str(PACKAGE.parent))
    from rtface_hifacegan.model import build

    generator = imported(repository)
    for name, (nested, width) in KEYS.items():
        with torch.device("meta"):
            net = network(generator, nested, width, 512)
        lines = [
            "# github: Lotayou/Face-Renovation",
            f"# commit: {commit}",
            "# command: python engines/published/hifacegan/tests/hifacegan_fixtures.py REPOSITORY COMMIT",
            *(f"{key} {'x'.join(map(str, value.shape)) or '-'}" for key, value in net.state_dict().items()),
        ]
        (PACKAGE / f"{name}.keys.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    kept: dict[str, np.ndarray] = {}
    for case, (nested, width, size, count) in CASES.items():
        net = network(generator, nested, width, size)
        shapes = {key: tuple(value.shape) for key, value in build(width=width, nested=nested).state_dict().items()}
        state = {key: torch.from_numpy(value) for key, value in published_state(shapes).items()}
        left = net.load_state_dict(state, strict=False)
        assert not left.unexpected_keys, left.unexpected_keys
        unused = re.compile(r"num_batches_tracked$|running_(mean|var)$|^to_rgbs\.[012]\.|^fc\.")
        assert all(unused.search(key) for key in left.missing_keys), left.missing_keys
        # Its own test program answers in training mode, and one picture at a time, so that batch norms take their
        # statistics from that; but there a spectral norm would take another step of the power method in every answer.
        net.train()
        for module in net.modules():
            if hasattr(module, "weight_orig"):
                module.eval()
        with torch.no_grad():
            crops = torch.from_numpy(drawn_crops(count, size))
            answer = torch.cat([net(crop[None]) for crop in crops]).numpy()
        kept |= {f"{case}/{part}": values for part, values in digest(answer).items()}
    np.savez_compressed(HERE / "hifacegan.npz", **kept)


if __name__ == "__main__":
    main(*sys.argv[1:3])
