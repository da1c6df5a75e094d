"""Engines that are opened while the program imports: given out once, to the run that asked for them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

import pytest

from rtface.config.options import Options
from rtface.engine.engine_set import EngineRequest
from rtface.errors import EngineError
from rtface.pipeline import runtime
from rtface.pipeline.runtime import open_ahead, open_runtime
from rtface.pipeline.threads import EngineThreads

THREADS = EngineThreads(1, 1, 1)


class Opened:
    """Stands for an `EngineSet`; fails for the engine "broken"."""

    made: list[tuple[str, int | None]]

    def __init__(self, request: EngineRequest, *, device: str, threads: int | None, **_: Any) -> None:
        if request.name == "broken":
            raise EngineError("it is broken")
        self.made.append((request.name, threads))

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int | None]]:
    found = Opened.made = []
    monkeypatch.setattr(runtime, "EngineSet", Opened)
    monkeypatch.setattr(runtime.driver, "unusable", lambda number: "no driver")
    monkeypatch.setattr(runtime, "call_in_thread", call_now)
    return found


def opened(name: str, threads: EngineThreads = THREADS) -> object:
    return open_runtime(name, "auto", ExitStack(), threads=threads).engines


def call_now(name: str, run: Callable[..., Any], *arguments: Any, awaited: bool) -> Future[Any]:
    """`call_in_thread` without a thread."""
    future: Future[Any] = Future()
    try:
        future.set_result(run(*arguments))
    except EngineError as error:
        future.set_exception(error)
    return future


def test_engines_opened_ahead_are_given_once(made: list[tuple[str, int | None]]) -> None:
    open_ahead(Options(engine="rtface-s"), THREADS)
    first = opened("rtface-s")
    assert made == [("rtface-s", 1)]
    assert opened("rtface-s") is not first


def test_what_fails_ahead_is_tried_again() -> None:
    open_ahead(Options(engine="broken"), THREADS)
    with pytest.raises(EngineError, match="it is broken"):
        opened("broken")


def test_nothing_is_opened_where_a_gpu_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.driver, "unusable", lambda number: None)
    monkeypatch.setattr(runtime, "call_in_thread", lambda *_, **__: pytest.fail("a thread was started"))
    open_ahead(Options(engine="rtface-s"), THREADS)
