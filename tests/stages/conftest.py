"""Stages of the tests have short names, as `trial_stages.Bar`."""

from __future__ import annotations

import sys

import pytest

from tests.stages import trial_stages


@pytest.fixture(autouse=True)
def short_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trial_stages", trial_stages)
