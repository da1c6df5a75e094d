"""The cache of plans: found again only under the same identity, whole or not at all."""

import os
from dataclasses import fields, replace
from pathlib import Path

import pytest

from rtface.engine.plan import PlanIdentity
from rtface.engine.tensorrt import store

IDENTITY = PlanIdentity(*(field.name for field in fields(PlanIdentity)))


def test_whatever_changes_is_another_plan() -> None:
    others = [replace(IDENTITY, **{f.name: "other"}) for f in fields(IDENTITY)]
    assert len({store.plan_path(identity) for identity in (IDENTITY, *others)}) == len(others) + 1


@pytest.mark.parametrize("harm", [lambda data: data[:-1], lambda data: data[:40] + b"x"])
def test_a_damaged_plan_counts_as_none(harm, caplog: pytest.LogCaptureFixture) -> None:
    path = store.plan_path(IDENTITY)
    store.keep(path, b"plan")
    assert store.recall(path) == b"plan"
    path.write_bytes(harm(path.read_bytes()))
    with caplog.at_level("INFO", "rtface"):
        assert store.recall(path) is None
    assert "damaged" in caplog.text


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RTFACE_CACHE", str(tmp_path / "file"))
    store.keep(store.plan_path(IDENTITY), b"plan")
    assert store.recall(store.plan_path(IDENTITY)) is None


def test_the_plans_last_used_stay() -> None:
    path = store.plan_path(IDENTITY)
    store.keep(path, b"plan")
    for i in range(store.KEEP + 3):
        store.keep(store.plan_path(replace(IDENTITY, driver=str(i))), b"plan")
        for kept in path.parent.glob("*.plan"):  # a second later
            os.utime(kept, (kept.stat().st_atime, kept.stat().st_mtime - 1))
        assert store.recall(path) == b"plan"  # is in use
    store.keep(store.kernels_path(IDENTITY), b"kernels")
    assert len(list(path.parent.glob("*.plan"))) == store.KEEP
    assert path.exists() and not store.plan_path(replace(IDENTITY, driver="0")).exists()
    assert store.recall(store.kernels_path(IDENTITY)) == b"kernels"
