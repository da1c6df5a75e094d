"""``rtface analyze --progress``: lines of JSON for programs."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from rtface.cli.analyze import JsonProgress
from rtface.pipeline.progress import Progress


def test_progress_as_lines_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    now = iter([0.0, 0.1, 0.2, 10.0])
    show = JsonProgress(SimpleNamespace(clock=None), clock=lambda: next(now))  # type: ignore[arg-type]
    for done in (1.0, 2.0, 5.0):
        show(Progress(1, done, 20.0, 30.0, 2))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["share"] for line in lines] == [0.05, 0.25] and lines[1]["left_s"] == 30.0 and lines[0]["faces"] == 2
