"""The plugin as it is in this folder, and the known engine of the tests of jobs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.entry_points import registered
from tests.jobs.conftest import engines, known_engine

__all__ = ["engines", "known_engine"]


@pytest.fixture(scope="session", autouse=True)
def entry_points(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with registered(tmp_path_factory.mktemp("site"), "rtface-farm"):
        yield
