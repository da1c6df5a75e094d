"""MXF as FFmpeg's muxer writes it; the corpus says what comes back."""

from __future__ import annotations

from pathlib import Path

from rtface.stats import Stats
from tests.media.conftest import make_film, passthrough


def test_uneven_times_are_said(tmp_path: Path) -> None:
    stats = Stats()
    passthrough(make_film(tmp_path / "in.mkv", pts_ms=[0, 40, 80, 400], frames=4), tmp_path / "out.mxf", stats=stats)
    assert "mxf_spacing" in stats.warnings
