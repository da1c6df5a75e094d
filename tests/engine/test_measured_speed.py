"""Speeds that were measured beside other work: marked, replaced, and without effect on films."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rtface.engine.engine_set import EngineSet, load_engine, needs_large_engine
from rtface.engine.listing import EngineInfo, list_engines
from rtface.engine.plan import GoldenResult, PlanIdentity, recall, retime
from rtface.enhance.keyframes.scheduler import spacing
from rtface.util.machine import OtherWork
from tests.engine.conftest import Maker

IDENTITY = PlanIdentity("tiny", "1", "", "", "none", "", "", "f32")


@pytest.mark.parametrize(
    ("machine", "own", "cores", "busy"),
    [(1.0, 1.0, 2, False), (2.0, 1.0, 2, True), (1.2, 1.0, 2, False), (2.0, 1.0, 16, False), (None, 1.0, 2, False)],
)
def test_other_work_is_told_from_ones_own(
    machine: float | None, own: float, cores: int, *, busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    at = {"machine": 10.0 if machine is not None else None, "own": 5.0, "clock": 100.0}
    work = OtherWork(lambda: at["machine"], lambda: at["own"] or 0.0, lambda: at["clock"] or 0.0)
    at = {"machine": machine and 10.0 + machine, "own": 5.0 + own, "clock": 101.0}
    assert work.busy is busy


@pytest.mark.parametrize(
    ("known", "now", "kept"),
    [
        ((8.0, True), (12.0, False), (12.0, False)),  # a quiet machine's figure replaces any
        ((8.0, False), (9.0, False), (9.0, False)),
        ((8.0, False), (20.0, True), (8.0, False)),
        ((20.0, True), (12.0, True), (12.0, True)),  # the least of a busy one is nearest to the truth
        ((12.0, True), (20.0, True), (12.0, True)),
        ((20.0, False), (12.0, True), (12.0, True)),  # it was not quiet after all
    ],
)
def test_which_speed_is_remembered(
    known: tuple[float, bool], now: tuple[float, bool], kept: tuple[float, bool]
) -> None:
    verdict = retime(IDENTITY, GoldenResult(80.0, 60.0, *known), now[0], busy=now[1])
    assert (verdict.ms, verdict.busy) == kept
    assert recall(IDENTITY) in (verdict, None)
    assert (recall(IDENTITY) is None) == (kept == known)


def _listed() -> EngineInfo:
    return next(row for row in list_engines(device="cpu") if row.name == "tiny")


def test_a_load_on_a_quiet_machine_replaces_it(make_engine: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    make_engine()
    for module in ("plan", "host_engine"):
        monkeypatch.setattr(f"rtface.engine.{module}.OtherWork", lambda: SimpleNamespace(busy=busy))
    busy = True
    engine = load_engine("tiny", device="cpu", threads=1)
    assert engine.busy and _listed().busy
    assert _listed().to_json()["busy"] is True
    busy = False
    engine = load_engine("tiny", device="cpu", threads=1)
    assert not engine.busy and not _listed().busy
    ms = _listed().ms
    busy = True
    load_engine("tiny", device="cpu", threads=1)
    assert (_listed().ms, _listed().busy) == (ms, False)


@pytest.mark.parametrize("ms", [0.01, 1e6])
def test_films_do_not_depend_on_measured_speed(ms: float) -> None:
    def opened(recipe: Any) -> Any:
        return SimpleNamespace(name=recipe.name, ms=ms, reason="", recurrent=recipe.recurrent, heavy=False)

    engines = EngineSet("auto", opener=opened)
    assert [engines.pick(width).name for width in (100.0, 300.0)] == ["rtface-s", "rtface-m"]
    assert spacing("auto", engines.pick(300.0)) == 1
    assert needs_large_engine(300.0, 1, ms) == (ms < 50.0)  # a live run does
