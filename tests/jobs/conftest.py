"""A known engine for jobs, without a network."""

import pytest

from tests.pipeline.conftest import engines

__all__ = ["engines"]


@pytest.fixture(autouse=True)
def known_engine(engines):
    """Every job here runs the fake engine."""
    return engines
