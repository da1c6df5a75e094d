"""Weights are read once and then known by what the system says of the file; whatever changes, they are read again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rtface.engine import weights
from rtface.engine.weights import weights_fault

DATA = bytes(range(256)) * 40
SHA256 = hashlib.sha256(DATA).hexdigest()
CHANGED = "changed (SHA-256 differs from the recipe)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "mödel 1.onnx"
    made.write_bytes(DATA)
    return made


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A line for every time that a file is read."""
    found: list[str] = []
    read = hashlib.file_digest
    monkeypatch.setattr(weights.hashlib, "file_digest", lambda file, name: found.append(name) or read(file, name))
    return found


def fault(path: Path, *, reread: bool = False) -> str | None:
    return weights_fault(path, len(DATA), SHA256, reread=reread)


def flip(path: Path) -> None:
    """Another byte in the middle, in place."""
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\0")


def test_what_was_right_is_not_read_again(path: Path, reads: list[str]) -> None:
    assert [fault(path) for _ in range(3)] == [None] * 3 and len(reads) == 1
    assert fault(path, reread=True) is None and len(reads) == 2
    assert weights_fault(path, len(DATA), "0" * 64) == CHANGED  # another recipe


def later(path: Path) -> None:
    flip(path)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def set_back(path: Path) -> None:
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(path: Path) -> None:
    before, other = path.stat(), path.with_name("other")
    other.write_bytes(DATA)
    flip(other)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize(
    "damage",
    [
        later,
        replaced,
        pytest.param(
            set_back, marks=pytest.mark.skipif(os.name == "nt", reason="Windows has no time of a file's entry")
        ),
    ],
)
def test_damage_that_kept_the_size_is_noticed(path: Path, reads: list[str], damage: Callable[[Path], None]) -> None:
    assert fault(path) is None
    damage(path)
    assert path.stat().st_size == len(DATA)
    assert fault(path) == CHANGED and len(reads) == 2
    path.write_bytes(DATA)
    assert fault(path) is None


def test_a_touched_file_is_read_once_more(path: Path, reads: list[str]) -> None:
    fault(path)
    os.utime(path, ns=(0, 0))
    assert [fault(path), fault(path)] == [None, None] and len(reads) == 2


def test_what_is_remembered_may_be_damaged_or_lost(
    path: Path, reads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(path)
    (record,) = (tmp_path / "cache" / "weights").iterdir()
    record.write_bytes(record.read_bytes()[:-1])
    assert fault(path) is None and len(reads) == 2
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RTFACE_CACHE", str(tmp_path / "file"))
    assert [fault(path), fault(path)] == [None, None] and len(reads) == 4


def test_what_is_wrong_is_said(path: Path) -> None:
    assert weights_fault(path, 5, SHA256) == f"{len(DATA)} bytes instead of 5"
    assert fault(path.with_name("no")) == "missing"
    assert str(fault(path.parent)).startswith("unreadable (")
