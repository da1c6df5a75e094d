"""The network files are the ones that were shipped, or the message says how to get them back."""

from pathlib import Path

import pytest

from rtface.errors import MissingComponent
from rtface.tracking import models


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(models, "__file__", str(tmp_path / "__init__.py"))
    models.path.cache_clear()
    yield tmp_path
    models.path.cache_clear()


@pytest.mark.parametrize("name", models.SHA256)
def test_shipped_files_are_right_and_small(name):
    assert models.path(name).stat().st_size < 3_000_000


def test_missing_file_says_how_to_repair(elsewhere):
    with pytest.raises(MissingComponent, match=r"cannot be read .*repair it with: "):
        models.path("face_landmarks_detector.tflite")


def test_damaged_file_is_refused(elsewhere):
    (elsewhere / "face_landmarks_detector.tflite").write_bytes(b"not a network")
    with pytest.raises(MissingComponent, match=r"damaged .*repair it with: "):
        models.path("face_landmarks_detector.tflite")
