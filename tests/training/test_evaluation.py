"""Evaluation: the protocols of real clips, and the command that measures engines on them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.demo import make_clip
from training.crop_space import similarity
from training.degradation import video_codec
from training.degradation.single_image import gaussian_kernel
from training.degradation.ycbcr import shown
from training.evaluation import measure
from training.evaluation.clip_protocols import SET_ASIDE, SETS, TUNING, Clip, choose_clips, degrade_clip, load_clip

MODELS = Path(__file__).parents[2] / "engines" / "shipped"


# --- protocols of real clips ---


def still_clip(side: float = 420.0, frames: int = 8, size: tuple[int, int] = (512, 512)) -> Clip:
    """Noise with a face crop of ``side`` px in the middle, which moves to the right by 2 px a frame."""
    canvas = np.random.default_rng(0).integers(0, 256, (size[1], size[0] + 2 * frames, 3), dtype=np.uint8)
    canvas = cv2.GaussianBlur(canvas, (0, 0), 3.0)
    clean = [np.ascontiguousarray(canvas[:, 2 * k : 2 * k + size[0]]) for k in range(frames)]
    return Clip("made", "0" * 64, clean, [similarity(side / 512, 0.1, (size[0] / 2, 250.0), 512)] * frames)


def test_no_clip_is_in_two_sets(tmp_path: Path) -> None:
    assert not set(TUNING) & set(SET_ASIDE)
    for name in (*TUNING, *SET_ASIDE, "holiday"):
        (tmp_path / f"{name}.mp4").touch()
    for key, names in SETS.items():
        assert [p.stem for p in choose_clips([tmp_path], key)] == list(names)
    assert [p.stem for p in choose_clips([tmp_path / "holiday.mp4"], "tuning")] == ["holiday"]
    (tmp_path / f"{TUNING[1]}.mp4").unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks clips of the set tuning: {TUNING[1]}"):
        choose_clips([tmp_path], "tuning")


@pytest.mark.parametrize("protocol", ["real/call", "real/heavy"])
def test_draws_repeat(protocol: str) -> None:
    clip = still_clip()
    first, again = degrade_clip(clip, protocol), degrade_clip(clip, protocol)
    assert all(np.array_equal(a, b) for a, b in zip(first.seen, again.seen, strict=True))
    assert first.seen[0].shape == first.clean[0].shape and len(first.seen) == len(clip.clean)


def test_low_delay_is_what_the_encoder_gets() -> None:
    name, options = video_codec.x265(37)
    assert name == "libx265" and (options["preset"], options["tune"]) == ("veryfast", "zerolatency")
    assert options["x265-params"].startswith("qp=37:bframes=0:rc-lookahead=0:scenecut=0:ref=1")
    images = still_clip().clean
    coded = {qp: list(video_codec.through(images, *video_codec.x265(qp))) for qp in (22, 37)}
    errors = {qp: np.mean([np.abs(shown(f, "center").astype(int) - i).mean() for f, i in
                           zip(frames, images, strict=True)]) for qp, frames in coded.items()}  # fmt: skip
    assert errors[22] < 0.6 * errors[37]
    assert [int(f.pict_type) for f in coded[37]] == [1] + [2] * (len(images) - 1)  # an I-frame, then P-frames only


def test_nothing_is_shifted_and_no_tone_is_lost() -> None:
    shot = degrade_clip(still_clip(side=300, size=(642, 488)), "real/call")
    low = [cv2.GaussianBlur(f[0], (0, 0), 12).astype(int) for f in (shot.clean, shot.seen)]
    assert np.abs(low[0] - low[1]).mean() < 1.5


def test_blur_kernels_have_the_spread_they_were_given() -> None:
    k = gaussian_kernel(1.0, 2.0, 0.0)
    y, x = np.mgrid[-10:11, -10:11]
    assert k.sum() == pytest.approx(1) and (k * x * x).sum() == pytest.approx(4, rel=0.01)
    assert (k * y * y).sum() == pytest.approx(1, rel=0.01)
    turned = gaussian_kernel(1.0, 2.0, np.pi / 2)
    assert (turned * y * y).sum() == pytest.approx(4, rel=0.01)


# --- the command ---


def measured(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["measure", *arguments])
    measure.main()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    make_clip(path)
    return path


@pytest.mark.slow
def test_a_clip_is_followed_degraded_and_measured(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    followed = load_clip(clip, 10, tmp_path)
    again = load_clip(clip, 10, tmp_path)
    assert 8 <= len(followed.clean) == len(followed.matrices) <= 10
    assert np.array_equal(followed.matrices, again.matrices) and np.array_equal(followed.clean[9], again.clean[9])
    arguments = ("--clips", str(clip), "--levels", "real/call", "--cache", str(tmp_path))
    measured(monkeypatch, "--option", "engine=rtface-s", *arguments, "--json", str(tmp_path / "out.json"))
    said = capsys.readouterr().out
    measured(monkeypatch, "--model", str(MODELS / "rtface-s"), *arguments)
    assert "clips, tuning" in said and said == capsys.readouterr().out
    (row,) = json.loads((tmp_path / "out.json").read_text())["rows"]["clips"]
    assert row["level"] == "real/call" and 20 < row["input"] < 45 and row["changed"] == 1


@pytest.mark.parametrize(("arguments", "message"), [
    (("--levels", "real/night"), "no such level: real/night"),
    (("--option", "rtface-s"), "is not KEY=VALUE"),
    (("--clips", "no-such-clip.mp4"), "clip no-such-clip.mp4 does not exist"),
])  # fmt: skip
def test_bad_arguments_are_said(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with pytest.raises(SystemExit):
        measured(monkeypatch, *arguments)
    assert message in capsys.readouterr().err
