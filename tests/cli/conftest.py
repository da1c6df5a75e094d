"""A clean environment: no RTFACE_ variables, no user's configuration, and a stand-in for the pipeline."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from rtface.cli import early_checks


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("RTFACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path / "settings"))


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple]]:
    """`pipeline(answer)` puts a stand-in for `rtface.run`: `answer(input, output, options, stop)` makes the report."""

    def install(answer: Callable[..., object]) -> list[tuple]:
        calls: list[tuple] = []

        def run_file(input, output, options, *, stats, progress, stop, building):
            calls.append((input, output, options))
            return answer(input, output, options, stop)

        module = types.ModuleType("rtface.pipeline.film")
        module.run_file = run_file
        monkeypatch.setitem(sys.modules, "rtface.pipeline.film", module)
        monkeypatch.setattr(early_checks, "check_inputs", lambda inputs: None)  # these need not be there
        return calls

    return install


@pytest.fixture
def analysis(monkeypatch: pytest.MonkeyPatch) -> Callable[[list], list]:
    """`analysis(tracks)` puts a stand-in for `rtface.pipeline.analysis.analyze_file` that finds these tracks."""

    def install(tracks: list) -> list:
        calls: list = []
        monkeypatch.setattr(early_checks, "check_inputs", lambda inputs: None)
        monkeypatch.setattr(
            "rtface.pipeline.analysis.analyze_file",
            lambda input, options, **more: calls.append((input, options)) or tracks,
        )
        return calls

    return install
