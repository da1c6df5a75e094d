"""What the published RestoreFormer++ answers, kept small. Run outside the project, against a copy of its repository:

    python -m tests.engines.restoreformer_fixtures REPOSITORY

REPOSITORY is a checkout of wzhouxiff/RestoreFormerPlusPlus. Writes the key lists in ``engines/restoreformer`` and
``tests/engines/restoreformer.npz``. Weights and crops are of `drawn`: the tests need nothing published.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.engines.drawn import drawn_crops, drawn_state

HERE = Path(__file__).parent
CASES = {
    # name: (width, side of the crops, how many)
    "narrow-1": (32, 128, 1),
    "narrow-3": (32, 128, 3),
    "full-1": (64, 512, 1),
}


def digest(answer: np.ndarray) -> dict[str, np.ndarray]:
    """Of N×3×S×S: means over a 32×32 grid of places, the range, and two patches of 8×8 pixels at full precision."""
    n, c, s, _ = answer.shape
    block = s // 32
    return {
        "means": answer.reshape(n, c, 32, block, 32, block).astype(np.float64).mean((3, 5)).astype(np.float32),
        "range": np.array([answer.min(), answer.max()], np.float32),
        "corner": answer[:, :, :8, :8],
        "middle": answer[:, :, s // 2 : s // 2 + 8, s // 2 : s // 2 + 8],
    }


def apart(fixture: Path, case: str, found: np.ndarray) -> float:
    """Largest difference from what the published network answered, as a share of that answer's range."""
    with np.load(fixture) as file:
        expected = {key.removeprefix(case + "/"): file[key] for key in file.files if key.startswith(case + "/")}
    low, high = expected["range"]
    parts = digest(found)
    assert set(parts) == set(expected) and high - low > 0.1
    return max(float(np.abs(parts[key] - expected[key]).max()) for key in parts) / float(high - low)


def main(repository: str) -> None:
    import torch

    sys.path.insert(0, repository)
    from RestoreFormer.modules.vqvae.vqvae_arch import (  # pyright: ignore[reportMissingImports]
        VQVAEGANMultiHeadTransformer as Published,
    )

    git = ["git", "-C", repository, "rev-parse", "HEAD"]
    commit = subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    # The file of RestoreFormer++ is a checkpoint of the model that trained it, which has the network as ``vqvae``.
    for name, heads, scales, prefix in (("restoreformer", 8, 0, ""), ("restoreformer-plus-plus", 4, 1, "vqvae.")):
        with torch.device("meta"):
            net: Any = Published(head_size=heads, ex_multi_scale_num=scales)
        lines = [
            "# github: wzhouxiff/RestoreFormerPlusPlus",
            f"# commit: {commit}",
            "# command: python -m tests.engines.restoreformer_fixtures REPOSITORY",
            *(f"{prefix}{key} {'x'.join(map(str, value.shape)) or '-'}" for key, value in net.state_dict().items()),
        ]
        target = HERE.parents[1] / "engines" / "published" / "restoreformer" / f"{name}.keys.txt"
        target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    kept: dict[str, np.ndarray] = {}
    for case, (width, size, count) in CASES.items():
        net = Published(head_size=4, ex_multi_scale_num=1, ch=width).eval()
        shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
        net.load_state_dict({key: torch.from_numpy(value) for key, value in drawn_state(shapes).items()})
        with torch.no_grad():
            answer = net(torch.from_numpy(drawn_crops(count, size)))[0].numpy()
        kept |= {f"{case}/{part}": values for part, values in digest(answer).items()}
    np.savez_compressed(HERE / "restoreformer.npz", **kept)


if __name__ == "__main__":
    main(sys.argv[1])
