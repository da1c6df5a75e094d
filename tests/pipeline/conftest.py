"""The kernels of the fake GPU for runs on it, and a known engine for runs on the CPU."""

import pytest

from rtface.pipeline import runtime
from tests.device.cuda.conftest import host_kernels
from tests.pipeline.fakes import FakeEngine
from tests.pipeline.run_media import Engines

__all__ = ["engines", "host_kernels"]


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Engines:
    """The engines of every run: one that adds a checkerboard."""
    made = Engines(FakeEngine(amount=0.15))
    monkeypatch.setattr(runtime, "EngineSet", lambda *a, **k: made)
    return made
