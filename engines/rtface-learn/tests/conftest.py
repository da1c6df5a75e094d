"""rtface's own helpers for tests, from the repository that this plugin lies in; and what tests here share."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.pipeline.fakes import portrait
from tests.pipeline.run_media import write_film


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path / "settings"))
    return tmp_path / "settings"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = (portrait(480, 360, blur=0.4, shift=(0.4 * t, 6 * np.sin(t / 9)))[0] for t in range(25 * 9))
    return write_film(tmp_path_factory.mktemp("film") / "one.mkv", frames, rate=25)
