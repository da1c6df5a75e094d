"""The kept compiled networks: used when whole, made anew when damaged, done without where nothing can be kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtface.tracking import network
from rtface.tracking.network import TrackerNetwork

MODEL = "face_detection_yunet_2023mar.onnx"


def outputs() -> list[np.ndarray]:
    net = TrackerNetwork(MODEL, 384, 1, layout="NCHW", bgr=True)
    picture = np.random.default_rng(0).integers(0, 256, (384, 384, 3), dtype=np.uint8)
    return [o.copy() for o in net(picture)]


def test_a_kept_network_answers_as_the_fresh_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTFACE_CACHE", str(tmp_path))
    fresh = outputs()
    (kept,) = (tmp_path / "networks").glob("*.blob")
    monkeypatch.setattr(network, "PrePostProcessor", None)  # compiling is not to happen again
    assert all(np.array_equal(a, b) for a, b in zip(fresh, outputs(), strict=True))
    assert kept.stat().st_size > 100_000


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_one_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | None) -> None:
    monkeypatch.setenv("RTFACE_CACHE", str(tmp_path))
    fresh = outputs()
    (kept,) = (tmp_path / "networks").glob("*.blob")
    good = kept.read_bytes()
    kept.write_bytes(good[:-1000] + bytes(1000) if damage is None else damage)
    assert all(np.array_equal(a, b) for a, b in zip(fresh, outputs(), strict=True))
    monkeypatch.setattr(network, "PrePostProcessor", None)  # the new one is whole
    assert all(np.array_equal(a, b) for a, b in zip(fresh, outputs(), strict=True))


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    monkeypatch.setenv("RTFACE_CACHE", str(blocked))
    assert len(outputs()) == 12
