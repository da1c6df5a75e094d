"""The step that repairs damage before the enhancement: what it changes, what it leaves, and what a fault costs."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import pytest

from rtface.config.options import Options
from rtface.device.cpu.device import CpuDevice, HostCorrection
from rtface.enhance.damage_repair import DamageRepair
from rtface.frame import Frame
from rtface.shots.settings import NO_SHOTS, Shot, ShotList, ShotSettings
from rtface.stats import Stats
from tests.pipeline.fakes import face_at, frame_of, portrait


class White:
    """Takes what is nearly white for damage, and its soft rim."""

    def __call__(self, crop: np.ndarray) -> np.ndarray:
        return cv2.dilate((crop.min(axis=2) > 0.97).astype(np.float32), np.ones((7, 7), np.uint8))


class Broken(White):
    def __call__(self, crop: np.ndarray) -> np.ndarray:
        raise RuntimeError("the network fails here")


def repair(network: Any = None, stats: Stats | None = None, shots: ShotList = NO_SHOTS, **options: Any) -> DamageRepair:
    return DamageRepair(
        network or White(),
        CpuDevice(),
        HostCorrection,
        Options.of({"grain": "none", **options}),
        stats or Stats(),
        shots,
    )


def frame(*, damaged: str = "cheek", scale: float = 1.5, t: int = 0) -> tuple[Frame, np.ndarray, np.ndarray]:
    """A frame with a face, the image without damage, and where it is damaged: light flecks on the "cheek" or the
    "nose", a scratch "across" the face, or "nothing"; and a scratch outside it."""
    image, points = portrait(640, 480, scale=scale)
    image = np.minimum(image, 170)
    x, y = points.mean(axis=0)
    cheek = int(x - 37 * scale), int(y + 9 * scale)
    cv2.circle(image, cheek, round(scale), (60, 40, 30), -1)  # a mole, under the fleck
    mask = np.zeros(image.shape[:2], np.uint8)
    if damaged != "nothing":
        if damaged == "across":
            ends = ((int(x + k * 15 * scale), int(y + k * 27 * scale)) for k in (-3.5, 3.5))
            cv2.line(mask, *ends, 1, round(2 * scale))
        else:
            cv2.circle(mask, cheek if damaged == "cheek" else (int(x), int(y)), round(2 * scale), 1, -1)
        cv2.line(mask, (20, 20), (80, 20), 1, 3)
    seen = np.where(mask[..., None] > 0, np.uint8(255), image).astype(np.uint8)
    return replace(frame_of(seen, t, "rgb24"), faces=(face_at(points),)), image, mask


def pixels(frame: Frame) -> np.ndarray:
    return frame.image.to_ndarray(format="rgb24").astype(int)


@pytest.mark.parametrize("scale", [1.5, 1.9], ids=["small face", "large face"])
def test_fills_damage_inside_the_face_only(scale: float) -> None:
    given, clean, damaged = frame(scale=scale)
    before, stats = pixels(given), Stats()
    step = repair(stats=stats)
    out = step.process(given)
    after = pixels(out)
    hurt = damaged > 0
    hurt[:40, :100] = False
    assert out.touched and out.corrected
    assert np.abs(after - clean)[hurt].mean() < 0.5 * np.abs(before - clean)[hurt].mean()
    far = cv2.dilate(damaged, np.ones((15, 15), np.uint8)) == 0
    assert np.array_equal(after[far], before[far])
    assert np.array_equal(after[:40, :100], before[:40, :100])
    assert 0 < step.filled[out.faces[0].track_id] < 0.2
    assert stats.counted()["faces_repaired"] == 1


@pytest.mark.parametrize("options", [{"damaged": "nose"}, {"damaged": "across"}, {"scale": 0.7}], ids=str)
def test_what_may_be_the_face_itself_is_left(options: dict[str, Any]) -> None:
    given, _, _ = frame(**options)
    assert (given.faces[0].width < 100) == ("scale" in options)
    assert repair().process(given) is given


def test_frame_without_damage_is_the_same_object() -> None:
    given, _, _ = frame(damaged="nothing")
    step = repair()
    assert step.process(given) is given
    assert not step.filled


@pytest.mark.parametrize("options", [{"strength": 0.0}, {"correct": "never"}, {"faces": "7"}], ids=str)
def test_faces_that_are_not_to_be_corrected(options: dict[str, Any]) -> None:
    given, _, _ = frame()
    assert repair(**options).process(given) is given


def test_fault_passes_the_frame_and_is_counted() -> None:
    given, _, _ = frame()
    stats = Stats()
    assert repair(Broken(), stats).process(given) is given
    assert stats.counted()["faults"] == 1


def test_frame_before_serves_within_a_shot() -> None:
    def second(**more: Any) -> np.ndarray:
        step = repair()
        step.process(frame(damaged="nothing")[0])
        return pixels(step.process(replace(frame(t=1)[0], **more)))

    _, clean, damaged = frame()
    hurt = damaged > 0
    hurt[:40, :100] = False
    known, after_cut = (np.abs(second(**more) - clean)[hurt].mean() for more in ({}, {"cut": True}))
    assert known < 0.6 * after_cut


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
    out = repair(network=lambda crop: np.zeros(crop.shape[:2], np.float32), stats=stats).process(given)
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
        step = repair(network=lambda crop: np.zeros(crop.shape[:2], np.float32), shots=shots)
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
    assert repair(network=lambda crop: np.zeros(crop.shape[:2], np.float32)).process(given) is given
