"""The networks of the first stage: their int8 calibrations belong to the weights, and answer as fp32 does."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rtface.engine import coded_network
from rtface.engine.backends.int8 import read_calibration
from tests.pipeline.fakes import portrait


@pytest.mark.parametrize(("path", "sha256"), [(coded_network.PATH, coded_network.SHA256), coded_network.LIGHT])
def test_int8_answers_nearly_as_fp32(path: Path, sha256: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_calibration(path.parent, sha256, "coded") is not None
    picture, _ = portrait(224, 224, blur=0.0)
    _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 25])
    coded = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    steps = np.full((28, 28), np.log2(24.0), np.float32)
    monkeypatch.setattr(coded_network, "halves", lambda device: None)
    answers: list[tuple[np.ndarray, np.ndarray]] = []
    for threads, spare in ((1, 0), (2, 1), (3, None)):  # with VNNI, with AVX2 alone, with neither
        monkeypatch.setattr(coded_network, "spare_bits", lambda spare=spare: spare)
        change, errors = coded_network.CodedNetwork(threads, path, sha256)(np.asarray(coded, np.uint8), steps)
        answers.append((change.copy() * 255, errors.copy()))
    exact, told = answers[-1]
    assert np.abs(exact).mean() > 1.0
    for change, errors in answers[:-1]:
        assert 0.0 < float(np.abs(change - exact).mean()) < 0.25 * float(np.abs(exact).mean())
        assert float(errors.mean()) == pytest.approx(float(told.mean()), rel=0.25)
