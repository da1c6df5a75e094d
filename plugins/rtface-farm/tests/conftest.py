"""The plugin as it is in this folder, and the known engine of the tests of jobs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from tests.entry_points import write_entry_points
from tests.jobs.conftest import engines, known_engine

__all__ = ["engines", "known_engine"]


@pytest.fixture(scope="session", autouse=True)
def entry_points(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For this process and for those that it starts, in front of whatever is installed."""
    paths = write_entry_points(tmp_path_factory.mktemp("site"), "rtface-farm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*paths, *sys.path])
        patch.setenv("PYTHONPATH", os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]))
        yield
