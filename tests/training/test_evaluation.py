"""Evaluation: the protocols of real clips, the command that measures engines, and keyframes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtface.cli.demo import make_clip
from training.crop_space import TEMPLATE_512, similarity
from training.degradation import video_codec
from training.degradation.single_image import gaussian_kernel
from training.evaluation import measure
from training.evaluation.clip_protocols import (
    SET_ASIDE,
    SETS,
    TUNING,
    Clip,
    chosen,
    median_window,
    set_of,
    shot_of,
    watch,
)
from training.evaluation.film_protocols import Shot

MODELS = Path(__file__).parents[2] / "engines" / "shipped"


# --- protocols of real clips ---


def still_clip(side: float = 420.0, frames: int = 8, size: tuple[int, int] = (512, 512)) -> Clip:
    """Noise with a face crop of ``side`` px in the middle, which moves to the right by 2 px a frame."""
    canvas = np.random.default_rng(0).integers(0, 256, (size[1], size[0] + 2 * frames, 3), dtype=np.uint8)
    canvas = cv2.GaussianBlur(canvas, (0, 0), 3.0)
    clean = [np.ascontiguousarray(canvas[:, 2 * k : 2 * k + size[0]]) for k in range(frames)]
    return Clip("made", "0" * 64, clean, [similarity(side / 512, 0.1, (size[0] / 2, 250.0), 512)] * frames)


def test_no_clip_is_in_two_sets(tmp_path: Path) -> None:
    assert not set(TUNING) & set(SET_ASIDE) and set_of(TUNING[0]) == "tuning" and set_of("holiday") == "other"
    for name in (*TUNING, *SET_ASIDE, "holiday"):
        (tmp_path / f"{name}.mp4").touch()
    for key, names in SETS.items():
        assert [p.stem for p in chosen([tmp_path], key)] == list(names)
    assert len(chosen([tmp_path], "all")) == len(TUNING) + len(SET_ASIDE)
    assert [p.stem for p in chosen([tmp_path / "holiday.mp4"], "tuning")] == ["holiday"]
    (tmp_path / f"{TUNING[1]}.mp4").unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks clips of the set tuning: {TUNING[1]}"):
        chosen([tmp_path], "tuning")


@pytest.mark.parametrize("protocol", ["real/heavy", "vfhq/1", "vfhq/3", "icme/27"])
def test_draws_repeat_and_the_cache_holds_them(protocol: str, tmp_path: Path) -> None:
    clip = still_clip()
    first, said = shot_of(clip, protocol, tmp_path)
    again, said_again = shot_of(clip, protocol)
    cached, said_cached = shot_of(clip, protocol, tmp_path)
    assert said == said_again == said_cached and len(list(tmp_path.iterdir())) == 1
    for shot in (again, cached):
        assert all(np.array_equal(a, b) for a, b in zip(first.seen, shot.seen, strict=True))
    assert first.seen[0].shape == first.clean[0].shape and len(first.seen) == len(clip.clean)
    other = Clip("another", clip.digest, clip.clean, clip.matrices)
    assert (shot_of(other, protocol)[1] == said) == (not protocol.startswith("vfhq"))


def test_low_delay_is_what_the_encoder_gets() -> None:
    name, options = video_codec.x265(37)
    assert name == "libx265" and (options["preset"], options["tune"]) == ("veryfast", "zerolatency")
    assert options["x265-params"].startswith("qp=37:bframes=0:rc-lookahead=0:scenecut=0:ref=1")
    images = still_clip().clean
    coded = {qp: list(video_codec.through(images, *video_codec.x265(qp))) for qp in (22, 37)}
    errors = {qp: np.mean([np.abs(video_codec.to_rgb(f).astype(int) - i).mean() for f, i in
                           zip(frames, images, strict=True)]) for qp, frames in coded.items()}  # fmt: skip
    assert errors[22] < 0.6 * errors[37]
    assert [int(f.pict_type) for f in coded[37]] == [1] + [2] * (len(images) - 1)  # an I-frame, then P-frames only


def test_frames_and_matrices_share_a_space() -> None:
    clip = still_clip(side=300, size=(642, 488))
    for protocol, side in (("real/call", 300), ("icme/22", 600)):
        shot, _ = shot_of(clip, protocol)
        assert 512 * np.hypot(*shot.matrices[0][:, 0]) == pytest.approx(side, rel=0.01)
        low = [cv2.GaussianBlur(f[0], (0, 0), 12).astype(int) for f in (shot.clean, shot.seen)]
        assert np.abs(low[0] - low[1]).mean() < 1.5  # nothing is shifted, and no tone is lost
    with pytest.raises(ValueError, match="its face crop has 300 px, vfhq/1 needs 400"):
        shot_of(clip, "vfhq/1")
    with pytest.raises(ValueError, match="no such protocol: vfhq/9; there are: real/call"):
        shot_of(clip, "vfhq/9")
    shot, _ = shot_of(still_clip(), "vfhq/1")
    assert shot.clean[0].shape == (512, 512, 3)
    assert np.abs(shot.matrices[0] - np.eye(2, 3)).max() < 1e-6  # the window is the face's own where it rests


def test_the_window_is_the_median_of_the_face() -> None:
    places = [similarity(0.8, 0.05, (200.0 + d, 210.0 - d), 512) for d in (-1.0, 0.0, 1.0, 60.0)]
    found = median_window(places[:3])
    assert found == pytest.approx(places[1], abs=1e-6)
    shifted = median_window(places) - places[1]  # one frame far away hardly moves it
    assert np.abs(shifted).max() < 1 and TEMPLATE_512.shape == (5, 2)


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
    followed = watch(clip, 10, tmp_path)
    again = watch(clip, 10, tmp_path)
    assert 8 <= len(followed.clean) == len(followed.matrices) <= 10
    assert np.array_equal(followed.matrices, again.matrices) and np.array_equal(followed.clean[9], again.clean[9])
    ours = str(MODELS / "rtface-s")
    measured(monkeypatch, "--engine", "rtface-s", "--model", ours, "--clips", str(clip), "--frames", "3-9",
             "--protocols", "real/call", "--every", "5", "--json", str(tmp_path / "out.json"),
             "--cache", str(tmp_path))  # fmt: skip
    said = capsys.readouterr().out
    assert "real/call (set other; 1)" in said and "rtface-s − alone" in said
    found = json.loads((tmp_path / "out.json").read_text())
    rows = found["real/call"]["clips"]["clip"]
    assert list(rows) == ["input", "unsharp", "rtface-s", "rtface-s alone", ours, f"{ours} alone"]
    assert rows["input"]["gain"] == 0 and rows["input"]["flicker"] == 1
    assert rows["rtface-s"] == rows[ours] != rows["rtface-s alone"]
    assert found["real/call"]["summary"]["rtface-s"]["worst"]["gain"] == rows["rtface-s"]["gain"]
    measured(monkeypatch, "--clips", str(clip), "--frames", "3-9", "--protocols", "real/call", "--every", "5",
             "--cache", str(tmp_path))  # fmt: skip
    lines = [next(x for x in text.splitlines() if x.startswith("| unsharp")).split() for text in
             (said, capsys.readouterr().out)]  # fmt: skip
    assert lines[0] == lines[1]


@pytest.mark.parametrize(("arguments", "message"), [
    (("--protocols", "real/night"), "no such protocol: real/night"),
    (("--frames", "10"), "give the first and the last frame, as in 10-59"),
    (("--engine", "rtface-s"), "--clips is needed"),
    (("--engine", "rtface-x", "--clips", "."), "rtface-x"),
    (("--clips", "no-such-clip.mp4"), "there is no clip no-such-clip.mp4"),
])  # fmt: skip
def test_bad_arguments_are_said(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        measured(monkeypatch, *arguments)
    assert message in capsys.readouterr().err


def test_tables_hold_means_and_worst_values() -> None:
    rows = [{"input": {"psnr": 30.0, "psnr_raw": 29.0, "flicker": 2.0, "distance": d},
             "ours": {"psnr": 30.0 + g, "psnr_raw": 30.0, "flicker": 1.0, "distance": d / 2},
             "ours alone": {"psnr": 30.1, "psnr_raw": 30.0, "flicker": 1.0, "distance": d}}
            for g, d in ((1.0, 0.2), (-0.5, 0.01))]  # fmt: skip
    clips = dict(zip("ab", map(measure.compared, rows), strict=True))
    lines, summary = measure.table("real/call", clips)
    assert summary["ours"]["mean"]["gain"] == pytest.approx(0.25)
    assert summary["ours"]["worst"]["gain"] == pytest.approx(-0.5) and summary["ours"]["worst"]["flicker"] == 0.5
    # A ratio of distances is given only where the input has one that counts.
    assert "distance_ratio" not in clips["b"]["ours"] and summary["ours"]["mean"]["distance_ratio"] == 0.5
    assert lines[-1] == "ours − alone: +0.15 dB (a +0.90, b -0.60)"
    assert "+0.25; -0.50" in "\n".join(lines) and len({len(x) for x in lines[1:-1]}) == 1


def test_the_map_forgives_tone_and_nothing_else() -> None:
    """An engine that darkens loses no dB after the map; one that blurs does."""
    rng = np.random.default_rng(0)
    shots = still_clip(side=512)
    ruler = measure.Ruler(Shot(shots.clean, shots.clean, shots.matrices), 0, 7, 100, measure.Judge(), True)
    noisy = [np.clip(f + rng.normal(0, 4, f.shape), 20, 255).astype(np.uint8) for f in shots.clean]
    rows = {"input": ruler.row(ruler.seen(noisy)), "dark": ruler.row(ruler.seen([f - 9 for f in noisy])),
            "blurred": ruler.row(ruler.seen([cv2.GaussianBlur(f, (0, 0), 4.0) for f in shots.clean])),
            "itself": ruler.row(ruler.seen(shots.clean))}  # fmt: skip
    found = measure.compared(rows)
    assert abs(found["dark"]["gain"]) < 0.05 and found["dark"]["gain_raw"] < -3
    assert found["itself"]["found0"] == pytest.approx(1, abs=1e-4)
    assert found["blurred"]["found0"] < 0.2 and found["itself"]["psnr"] > 60
