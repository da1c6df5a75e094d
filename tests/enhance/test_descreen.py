"""The step that takes out halftone dots before the enhancement: what it changes, what it leaves, what a fault costs."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import cv2
import numpy as np
import pytest

import rtface
from rtface.config.options import Options
from rtface.device.cpu.device import CpuDevice, HostCorrection
from rtface.enhance.descreen import Descreening
from rtface.errors import UsageError
from rtface.frame import Frame
from rtface.shots.settings import NO_SHOTS, Shot, ShotList, ShotSettings
from rtface.stats import Stats
from tests.pipeline.fakes import face_at, frame_of, portrait


def descreening(stats: Stats | None = None, shots: ShotList = NO_SHOTS, **options: Any) -> Descreening:
    return Descreening(CpuDevice(), HostCorrection, Options.of(options), stats or Stats(), shots)


def pixels(frame: Frame) -> np.ndarray:
    return frame.image.to_ndarray(format="rgb24").astype(int)


def screened(image: np.ndarray, period: float, degrees: float) -> np.ndarray:
    """The image printed with dots and scanned."""
    y, x = np.mgrid[: 4 * image.shape[0], : 4 * image.shape[1]] / 4.0
    u, v = (np.cos(2 * np.pi / period * (x * np.cos(t) + y * np.sin(t))) for t in np.radians((degrees, degrees + 90)))
    large = cv2.resize(image, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC).astype(float) / 255
    dots = large + 0.2 * (u + v)[..., None] > 0.5 + 0.35 * (large - 0.5)
    ink = np.where(dots, 225, 30).astype(np.float32)
    return cv2.resize(ink, image.shape[1::-1], interpolation=cv2.INTER_AREA).astype(np.uint8)


def smoothed(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma)


@pytest.mark.parametrize(("period", "degrees"), [(3.4, 45.0), (4.5, 30.0), (6.0, 45.0)])
def test_the_dots_of_a_print_leave_the_face(period: float, degrees: float) -> None:
    image, points = portrait(640, 480, scale=2.2)
    print_ = screened(image, period, degrees)
    given = replace(frame_of(print_, 0, "rgb24"), faces=(face_at(points),))
    stats = Stats()
    out = descreening(stats).process(given)
    x, y = points.mean(axis=0).astype(int)
    rows, columns = slice(y - 40, y + 40), slice(x - 40, x + 40)
    after, tone = pixels(out)[rows, columns], smoothed(print_, 1.2 * period)[rows, columns]
    before = print_[rows, columns].astype(float)
    assert stats.counted()["faces_descreened"] == 1
    assert np.std(after - tone) < 0.4 * np.std(before - tone)
    assert np.abs(smoothed(after, period) - smoothed(before, period)).mean() < 3.0
    assert np.array_equal(pixels(out)[:40, :100], print_[:40, :100])


def test_the_dots_stay_by_the_strength_of_the_shot() -> None:
    image, points = portrait(640, 480, scale=2.2)
    print_ = screened(image, 4.5, 30.0)
    x, y = points.mean(axis=0).astype(int)
    changes: list[float] = []
    for strength in (1.0, 0.5, 0.0):
        shots = ShotList([Shot(Fraction(0), None, ShotSettings(strength=strength))])
        step = descreening(shots=shots)
        out = step.process(replace(frame_of(print_, 0, "rgb24"), faces=(face_at(points),)))
        assert out.filtered == (strength > 0) and not out.corrected  # no network took part
        changes.append(float(np.abs(pixels(out) - print_)[y - 40 : y + 40, x - 40 : x + 40].mean()))
    assert changes[2] == 0 and changes[1] == pytest.approx(changes[0] / 2, rel=0.05)


@pytest.mark.parametrize("pattern", ["none", "lines", "blocks", "noise"])
def test_what_is_no_halftone_is_not_filtered(pattern: str) -> None:
    image, points = portrait(640, 480, scale=2.2)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    jpeg = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 8])[1], cv2.IMREAD_COLOR)
    seen = {
        "none": image,
        "lines": image * 0.8 + 20 + 20 * np.sin(1.3 * x + 1.1 * y)[..., None],
        "blocks": jpeg,
        "noise": image + np.random.default_rng(1).normal(0, 25, image.shape),
    }[pattern]
    seen = np.clip(seen, 0, 255).astype(np.uint8)
    given = replace(frame_of(seen, 0, "rgb24"), faces=(face_at(points),))
    assert descreening().process(given) is given


@pytest.mark.parametrize("options", [{"strength": 0.0}, {"correct": "never"}, {"faces": "7"}], ids=str)
def test_faces_that_are_not_to_be_corrected(options: dict[str, Any]) -> None:
    image, points = portrait(640, 480, scale=2.2)
    given = replace(frame_of(screened(image, 4.5, 30.0), 0, "rgb24"), faces=(face_at(points),))
    assert descreening(**options).process(given) is given


def test_fault_passes_the_frame_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    image, points = portrait(640, 480, scale=2.2)
    given = replace(frame_of(image, 0, "rgb24"), faces=(face_at(points),))
    stats = Stats()
    step = Descreening(CpuDevice(), Mock(side_effect=RuntimeError), Options(), stats)
    print_ = replace(frame_of(screened(image, 4.5, 30.0), 0, "rgb24"), faces=given.faces)
    assert step.process(print_) is print_ and stats.counted()["faults"] == 1


def test_a_run_says_whether_there_were_dots(tmp_path: Path) -> None:
    image, _ = portrait(640, 480, scale=2.2)
    for name, seen in (("sound", image), ("print", screened(image, 3.0, 30.0))):
        assert cv2.imwrite(str(tmp_path / f"{name}.png"), seen[..., ::-1])
    sound, print_ = (
        rtface.run(tmp_path / f"{name}.png", tmp_path / f"{name}-out.png", damage="halftone")
        for name in ("sound", "print")
    )
    assert sound.damage == {} and any("halftone dots" in note or "halftone print" in note for note in sound.notes)
    assert print_.damage == {"descreened": 1}
    with pytest.raises(UsageError, match="halftone"):
        rtface.run(tmp_path / "sound.png", tmp_path / "x.png", damage="repair")
