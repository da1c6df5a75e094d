"""The figures of enlarged frames: what is compared, and a small clip through all of it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.enlarged_frames import above, figures, harm, of_clip
from tests.pipeline.run_media import film


def test_figures_are_of_the_oval_alone() -> None:
    truth = np.random.default_rng(1).uniform(0, 255, (64, 96)).astype(np.float32)
    oval = np.zeros(truth.shape, np.uint8)
    oval[16:48, 32:64] = 1
    noisy = truth + 5.0 * np.where(np.indices(truth.shape).sum(0) % 2, 1, -1).astype(np.float32)
    outside = truth + 50 * (1 - oval.astype(np.float32))
    assert figures([truth], [noisy], [oval], 2)[0] == pytest.approx(20 * np.log10(255 / 5), abs=0.01)
    assert figures([truth], [outside], [oval], 2)[0] > 100
    small = cv2.resize(
        cv2.resize(truth, (48, 32), interpolation=cv2.INTER_AREA), (96, 64), interpolation=cv2.INTER_CUBIC
    )
    assert figures([truth], [truth], [oval], 2)[1] == pytest.approx(1.0, abs=1e-4)
    assert figures([truth], [small], [oval], 2)[1] < 0.8


def test_only_what_a_small_picture_cannot_hold_is_above() -> None:
    x = np.arange(128, dtype=np.float32)
    for period, share in ((16, 0.0), (3, 1.0)):
        wave = np.repeat(np.cos(2 * np.pi * np.floor(128 / period) * x / 128)[None], 64, 0)
        assert float(above(wave, 2).std()) == pytest.approx(share * float(wave.std()), abs=1e-4)


@pytest.mark.slow
def test_a_clip_and_a_picture_give_their_figures(tmp_path: Path) -> None:
    found = of_clip(film(tmp_path / "clip.mkv", frames=6), 1, 2, "28", tmp_path, frames=6)
    assert found["face"] > 60 and found["lanczos_db"] > 20 and abs(found["gain_db"]) < 3
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((48, 64, 3), 90, np.uint8))
    (tmp_path / "out").mkdir()
    assert harm(tmp_path / "grey.png", "2", tmp_path / "out") == (0, 128 * 96 * 3)
