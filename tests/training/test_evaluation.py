"""Evaluation on real clips, and of keyframes: figures that tell recurrence, flicker and blur apart."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtface.cli.demo import make_clip
from rtface.engine.backends.openvino import OpenVinoPlan
from rtface.engine.crop_runner import CropRunner
from rtface.engine.recipe import load_recipe
from training.evaluation import real_clips
from training.evaluation.temporal_stability import SIDE, Motion, figures

MODELS = Path(__file__).parents[2] / "rtface" / "models"


def test_the_stateless_engine_equals_a_first_frame_of_ours(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    from training.evaluation.single_frame_engine import alone

    ours = load_recipe(MODELS / "rtface-s" / "recipe.toml")
    data = alone(ours, times=3).SerializeToString()
    (tmp_path / ours.weights.file).write_bytes(data)
    text = (MODELS / "rtface-s" / "recipe.toml").read_text().partition("[memory]")[0]
    text = text.replace(ours.weights.sha256, hashlib.sha256(data).hexdigest())
    (tmp_path / "recipe.toml").write_text(text.replace(f"bytes = {ours.weights.bytes}", f"bytes = {len(data)}"))
    stateless = load_recipe(tmp_path / "recipe.toml")
    assert not stateless.recurrent and stateless.fault() is None
    crop = np.load(ours.golden_path)["crops"][0].transpose(2, 0, 1).astype(np.float32) / 255
    wanted = CropRunner(ours, OpenVinoPlan(ours, "f32", 1)).restore(crop[None]).pixels[0]
    got = CropRunner(stateless, OpenVinoPlan(stateless, "f32", 1)).restore(crop[None]).pixels[0]
    assert np.abs(wanted - crop).max() > 0.01
    assert np.abs(got - wanted).max() < 1e-4


def test_metrics_tell_flicker_from_blur_and_moving_detail() -> None:
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.random((SIDE, SIDE + 40, 3), np.float32), (0, 0), 1.5)
    truth = [np.ascontiguousarray(texture[:, k:k + SIDE]) for k in range(0, 14, 2)]
    motion = Motion(truth)
    soft = [cv2.GaussianBlur(p, (0, 0), 3.0) for p in truth]
    noisy = [p + cv2.GaussianBlur(rng.normal(0, 0.1, p.shape).astype(np.float32), (0, 0), 1.0) for p in truth]
    blurred, flickering = (figures(film, truth, motion, 4) for film in (soft, noisy))
    assert blurred["fine"] < 0.3 * flickering["fine"]
    assert blurred["tremble"] < 0.4 * blurred["flicker"]  # what is missing moves with the picture
    assert flickering["tremble"] > 0.7 * flickering["flicker"]
    assert figures(truth, truth, motion, 4)["flicker"] == 0.0


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
