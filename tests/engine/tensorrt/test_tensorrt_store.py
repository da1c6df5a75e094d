"""The cache of plans: found again only under the same identity, whole or not at all, built once by whoever needs it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
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


def fetch(identity: PlanIdentity = IDENTITY, blob: bytes = b"plan", *, patience: float = 60.0) -> tuple[bytes, bool]:
    return store.fetch(identity, lambda: blob, patience=patience)


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
    assert [p.name for p in store.plan_path(IDENTITY).parent.iterdir()] == ["lock"]
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


PROCESS = """
import sys, time
from pathlib import Path
from tests.engine.tensorrt.test_tensorrt_store import IDENTITY
from rtface.engine.tensorrt import store
def build():
    print("built", flush=True)
    {work}
    return b"plan of " + sys.argv[1].encode()
print("ready", flush=True)
sys.stdin.readline()
blob, kept = store.fetch(IDENTITY, build)
print(blob.decode(), kept, flush=True)
"""


def start(name: str, work: str) -> subprocess.Popen[str]:
    """Another Python, up to the moment before it fetches."""
    root = Path(__file__).resolve().parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS.format(work=work), name],
        cwd=root,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_of_two_processes_one_builds_and_the_other_waits() -> None:
    two = [start(name, "time.sleep(1.0)") for name in ("a", "b")]
    for process in two:
        go(process)
    said = [process.communicate(timeout=60)[0].splitlines() for process in two]
    assert sorted(len(lines) for lines in said) == [1, 2]  # one "built"
    builder = "a" if said[0][0] == "built" else "b"
    assert {lines[-1].rsplit(" ", 1)[0] for lines in said} == {f"plan of {builder}"}
    assert {lines[-1].rsplit(" ", 1)[1] for lines in said} == {"True", "False"}


def test_a_builder_that_is_killed_leaves_no_lock() -> None:
    process = start("a", "time.sleep(60)")
    go(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "built\n"
    begun = time.monotonic()
    assert fetch(replace(IDENTITY, engine="another")) == (b"plan", False)  # is not waited for
    assert fetch(patience=0.3) == (b"plan", False)  # out of patience
    assert time.monotonic() - begun < 5
    store.plan_path(IDENTITY).unlink()
    process.kill()
    process.communicate()
    begun = time.monotonic()
    assert fetch() == (b"plan", False)
    assert time.monotonic() - begun < 5
