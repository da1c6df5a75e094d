"""A film's bits do not depend on how busy the computer is."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

import rtface
from rtface.engine.host_engine import HostEngine
from tests.pipeline.fakes import portrait


def _film(path: Path) -> Path:
    """A face that is wide enough for the large engine."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 480, 360, "yuv420p"
        for k in range(6):
            frame = av.VideoFrame.from_ndarray(portrait(480, 360, blur=3.0, scale=2.2, shift=(k, 0.0))[0], "rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


def _frames(path: Path) -> list[bytes]:
    with av.open(str(path)) as box:
        return [bytes(plane) for frame in box.decode(video=0) for plane in frame.planes]


def test_a_slow_measurement_changes_no_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, real, made = _film(tmp_path / "in.mkv"), HostEngine.__init__, list[list[bytes]]()
    for ms in (5.0, 900.0):
        def init(self: HostEngine, *args: Any, ms: float = ms, **options: Any) -> None:
            real(self, *args, **options)
            self.ms = ms

        monkeypatch.setattr(HostEngine, "__init__", init)
        out = tmp_path / f"{ms:.0f}.mkv"
        report = rtface.run(source, out, engine="auto", codec="ffv1", device="cpu")
        assert report.engine == "rtface-m" and report.frames_corrected == 6
        made.append(_frames(out))
    assert made[0] == made[1] != _frames(source)
