"""The cache of plans: found again only under the same identity, whole or not at all, built once by whoever needs it."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path

import pytest

from rtface.engine.plan import PlanIdentity
from rtface.engine.tensorrt import store

IDENTITY = PlanIdentity(
    "tiny",
    "1.0",
    "recipe",
    "weights",
    "tensorrt-rtx",
    "1.7.1.116",
    "NVIDIA GeForce RTX 4090 sm_89",
    "fp16",
    "calibration",
    "580.1",
    "batch 1-1-16, preparation 1",
)


def fetch(identity: PlanIdentity = IDENTITY, blob: bytes = b"plan") -> tuple[bytes, bool]:
    return store.fetch(identity, lambda: blob)


def test_a_plan_is_built_once() -> None:
    assert fetch() == (b"plan", False)
    assert fetch(blob=b"another") == (b"plan", True)


@pytest.mark.parametrize("field", [field.name for field in fields(PlanIdentity)])
def test_whatever_changes_another_plan_is_built(field: str) -> None:
    fetch()
    other = replace(IDENTITY, **{field: "bf16" if field == "precision" else "other"})
    assert fetch(other, b"another") == (b"another", False)
    assert fetch() == (b"plan", True)


@pytest.mark.parametrize(
    "harm", [lambda data: b"", lambda data: data[:-1], lambda data: data[:40] + b"x", lambda data: b"\0" + data[1:]]
)
def test_a_damaged_plan_is_built_anew(harm, caplog: pytest.LogCaptureFixture) -> None:
    fetch()
    path = store.plan_path(IDENTITY)
    path.write_bytes(harm(path.read_bytes()))
    with caplog.at_level("INFO", "rtface"):
        assert fetch(blob=b"another") == (b"another", False)
    assert "damaged" in caplog.text
    assert fetch() == (b"another", True)


def test_a_build_that_fails_leaves_nothing() -> None:
    def broken() -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.fetch(IDENTITY, broken)
    assert not store.plan_path(IDENTITY).parent.exists()
    assert fetch() == (b"plan", False)


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RTFACE_CACHE", str(tmp_path / "file"))
    assert fetch() == (b"plan", False)
    assert fetch() == (b"plan", False)


def test_the_plans_last_used_stay() -> None:
    first = IDENTITY
    fetch()
    path = store.plan_path(first)
    path.with_name("old.plan.1-2.part").write_bytes(b"torn")
    os.utime(path.with_name("old.plan.1-2.part"), (0, 0))
    for i in range(store.KEEP + 3):
        fetch(replace(IDENTITY, driver=str(i)))
        for kept in path.parent.glob("*.plan"):  # a second later
            os.utime(kept, (kept.stat().st_atime, kept.stat().st_mtime - 1))
        assert fetch(first)[1]  # is in use
    store.keep(store.kernels_path(first), b"kernels")
    assert len(list(path.parent.glob("*.plan"))) == store.KEEP
    assert path.exists()
    assert store.plan_path(replace(IDENTITY, driver=str(store.KEEP + 2))).exists()
    assert not store.plan_path(replace(IDENTITY, driver="0")).exists()
    assert not list(path.parent.glob("*.part"))
    assert store.recall(store.kernels_path(first)) == b"kernels"
