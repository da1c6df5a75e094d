"""MXF as FFmpeg's muxer writes it: frames, times, the time code at the start and the sound come back."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rtface.media.read.source import FileSource
from rtface.stats import Stats
from tests.media.conftest import decoded, make_film, passthrough


def _sound(path: Path) -> np.ndarray:
    with av.open(path) as box:
        parts = [frame.to_ndarray().reshape(-1, frame.layout.nb_channels) for frame in box.decode(audio=0)]
    return np.concatenate(parts)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "rate", "timecode", "late"),
    [("ffv1", "yuv420p", 25, "10:00:00:05", 80), ("prores_ks", "yuv422p10le", Fraction(24000, 1001), "01:00:00:02", 0)],
)
def test_a_film_goes_round(tmp_path: Path, codec: str, pix_fmt: str, rate: Fraction, timecode: str, late: int) -> None:
    source = make_film(
        tmp_path / ("in.mkv" if codec == "ffv1" else "in.mov"),
        codec=codec,
        pix_fmt=pix_fmt,
        rate=rate,
        frames=20,
        sound="pcm_s16le",
        sound_start_ms=late,
        sound_ms=400,
        metadata={"timecode": timecode, "title": "Evening"},
    )
    first = passthrough(source, tmp_path / "a.mxf")
    passthrough(tmp_path / "a.mxf", tmp_path / "b.mxf")
    assert any("film: title" in line for line in first.notes)
    heard, silent = _sound(source), late * 48
    for made in (tmp_path / "a.mxf", tmp_path / "b.mxf"):
        before, after = decoded(source), decoded(made)
        assert [round(time * rate) for time, _ in before] == [time * rate for time, _ in after]
        assert codec != "ffv1" or [frame for _, frame in before] == [frame for _, frame in after]
        opened = FileSource(made)
        opened.close()
        assert str(opened.info.timecode) == timecode
        sound = _sound(made)
        assert len(sound) / 48_000 == pytest.approx(20 / rate, abs=0.05)
        assert (sound[silent : silent + len(heard)] == heard).all() and not sound[:silent].any()


def test_uneven_times_are_said(tmp_path: Path) -> None:
    stats = Stats()
    passthrough(make_film(tmp_path / "in.mkv", pts_ms=[0, 40, 80, 400], frames=4), tmp_path / "out.mxf", stats=stats)
    assert "mxf_spacing" in stats.warnings
