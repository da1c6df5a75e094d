"""What tests on a GPU need, and what becomes of them without it."""

import importlib
import os
from typing import Any, NoReturn

import pytest


def lacking(why: str) -> NoReturn:
    """Skips the test or module, or fails it where RTFACE_REQUIRE_GPU=1 says that a GPU must be here."""
    if os.environ.get("RTFACE_REQUIRE_GPU") == "1":
        pytest.fail(f"RTFACE_REQUIRE_GPU=1, but {why}", pytrace=False)
    pytest.skip(why, allow_module_level=True)


def need(module: str) -> Any:
    """Imports a module; `lacking` where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        lacking(f"{module} is not here ({error})")
