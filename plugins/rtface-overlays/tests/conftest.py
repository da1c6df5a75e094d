"""The plugin as it is in this folder, found by its entry points whether or not it was installed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.entry_points import write_entry_points

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def entry_points(tmp_path_factory: pytest.TempPathFactory) -> None:
    """In front of whatever is installed."""
    sys.path[:0] = write_entry_points(tmp_path_factory.mktemp("site"), "rtface-overlays")


@pytest.fixture
def png(tmp_path: Path) -> Path:
    """A green square with a soft hole."""
    rgba = np.zeros((40, 60, 4), np.uint8)
    rgba[...] = 0, 220, 0, 255
    rgba[15:25, 20:40, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "green.png")
    return tmp_path / "green.png"
