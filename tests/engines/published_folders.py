"""The published architectures of this repository: their folders, and a narrow form of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

NARROW: dict[str, tuple[int, dict[str, Any]]] = {
    "gfpgan": (64, {"size": 64, "narrow": 1 / 16, "styles": 64}),
    "restoreformer": (64, {"size": 64, "width": 32, "entries": 64, "code": 32}),
    "rtface_codeformer": (64, {"size": 64, "width": 32, "layers": 1}),
    "rtface_hifacegan": (64, {"width": 8}),
}
"""By the folder's name: the side of a crop, and what `build` is told instead of the published sizes. Every operation of
the network is there still, at a hundredth of the work."""


def folders() -> list[Path]:
    """Every architecture of this repository whose network can be built."""
    return sorted(
        path.parent
        for pattern in ("engines/published/*/offers.toml", "engines/published/*/*/offers.toml")
        for path in ROOT.glob(pattern)
        if (path.parent / "model.py").is_file()
    )


def offered(folder: Path) -> dict[str, dict[str, Any]]:
    """What an architecture offers, by name, as ``offers.toml`` says it; of several files for one
    network the first."""
    import tomllib

    found: dict[str, dict[str, Any]] = {}
    for entry in tomllib.loads((folder / "offers.toml").read_text(encoding="utf-8"))["offers"]:
        if entry.get("variant", {}) not in [e.get("variant", {}) for e in found.values()]:
            found[entry["name"]] = entry
    return found
