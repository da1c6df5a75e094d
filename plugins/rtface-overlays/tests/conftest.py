"""The plugin as it is in this folder, found by its entry points whether or not it was installed."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def entry_points(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What an installer would write of the pyproject.toml, in front of whatever is installed."""
    points = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    folder = tmp_path_factory.mktemp("site")
    info = folder / "rtface_overlays-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rtface-overlays\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in named.items())
            for group, named in points.items()
        )
    )
    sys.path.insert(0, str(folder))


@pytest.fixture
def png(tmp_path: Path) -> Path:
    """A green square with a soft hole."""
    rgba = np.zeros((40, 60, 4), np.uint8)
    rgba[...] = 0, 220, 0, 255
    rgba[15:25, 20:40, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "green.png")
    return tmp_path / "green.png"
