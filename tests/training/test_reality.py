"""Real clips as the truth: the command finds the face, and tells memory from forgetting."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from rtface.cli.demo import make_clip
from training.evaluation import real_clips


def measured(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["reality", *arguments])
    real_clips.main()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    make_clip(path)
    return path


@pytest.mark.slow
def test_a_clip_is_followed_degraded_and_measured(
    clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shot = real_clips.watch(clip, 10)
    assert 5 < len(shot.clean) == len(shot.matrices) <= 10
    seen = real_clips.degraded(shot, "heavy").seen
    assert len(seen) == len(shot.clean) and seen[0].shape == shot.clean[0].shape
    assert np.abs(seen[5].astype(int) - shot.clean[5]).mean() > 1
    measured(monkeypatch, str(clip), "--frames", "10")
    said = capsys.readouterr().out
    for protocol in ("call", "heavy"):
        found = re.search(rf"^{protocol} \{{'with memory': '([-+.\d]+) dB.*'alone': '([-+.\d]+) dB", said, re.MULTILINE)
        assert found is not None and found[1] != found[2], said


@pytest.mark.slow
def test_clips_without_faces_are_said(
    clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        measured(monkeypatch, str(clip), "--frames", "3")
    assert "none of these clips shows a face for six frames" in capsys.readouterr().err
