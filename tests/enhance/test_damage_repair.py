"""The step that repairs damage before the enhancement: what it changes, what it leaves, and what a fault costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from rtface.device.cpu.device import CpuDevice, HostCorrection
from rtface.enhance.damage_repair import DamageRepair
from rtface.frame import Frame
from rtface.options import Options
from rtface.stats import Stats
from tests.pipeline.fakes import face_at, frame_of, portrait


class White:
    """Takes what is nearly white for damage."""

    def __call__(self, crop: np.ndarray) -> np.ndarray:
        return (crop.min(axis=2) > 0.97).astype(np.float32)


class Broken(White):
    def __call__(self, crop: np.ndarray) -> np.ndarray:
        raise RuntimeError("the network fails here")


def repair(network: Any = None, stats: Stats | None = None, **options: Any) -> DamageRepair:
    return DamageRepair(network or White(), CpuDevice(), HostCorrection,
                        Options.of({"grain": "none", **options}), stats or Stats())


def frame(*, scratched: bool = True, scale: float = 1.0, t: int = 0) -> tuple[Frame, np.ndarray, np.ndarray]:
    """A frame with a face, the image without damage, and where it is damaged: across the face and outside it."""
    image, points = portrait(640, 480, scale=scale)
    image = np.minimum(image, 240)
    damaged = np.zeros(image.shape[:2], np.uint8)
    if scratched:
        x, y = points.mean(axis=0)
        cv2.line(damaged, (int(x - 15), int(y - 25)), (int(x + 12), int(y + 30)), 1, 3)
        cv2.line(damaged, (20, 20), (80, 20), 1, 3)
    seen = np.where(damaged[..., None] > 0, np.uint8(255), image).astype(np.uint8)
    return replace(frame_of(seen, t, "rgb24"), faces=(face_at(points),)), image, damaged


def pixels(frame: Frame) -> np.ndarray:
    return frame.image.to_ndarray(format="rgb24").astype(int)


@pytest.mark.parametrize("scale", [1.0, 2.2], ids=["small face", "large face"])
def test_fills_damage_inside_the_face_only(scale: float) -> None:
    given, clean, damaged = frame(scale=scale)
    before, stats = pixels(given), Stats()
    step = repair(stats=stats)
    out = step.process(given)
    after = pixels(out)
    x0, y0, x1, y1 = (int(v) for v in out.faces[0].box)
    face = np.zeros(damaged.shape, bool)
    face[y0:y1, x0:x1] = True
    hurt = (damaged > 0) & face
    assert out.touched and out.corrected
    assert np.abs(after - clean)[hurt].mean() < 0.25 * np.abs(before - clean)[hurt].mean()
    far = cv2.dilate(damaged, np.ones((15, 15), np.uint8)) == 0
    assert np.array_equal(after[far], before[far])
    assert np.array_equal(after[:40, :100], before[:40, :100])
    assert 0 < step.filled[out.faces[0].track_id] < 0.2
    assert stats.counted()["faces_repaired"] == 1


def test_frame_without_damage_is_the_same_object() -> None:
    given, _, _ = frame(scratched=False)
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
        step.process(frame(scratched=False)[0])
        return pixels(step.process(replace(frame(t=1)[0], **more)))

    _, clean, damaged = frame()
    hurt = (damaged > 0)
    hurt[:100, :100] = False
    known, after_cut = (np.abs(second(**more) - clean)[hurt].mean() for more in ({}, {"cut": True}))
    assert known < 0.6 * after_cut
