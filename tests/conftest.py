"""What holds for all tests."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

WHOLE = Path(__file__).parent / "live" / "whole"


def pytest_configure() -> None:
    """Signals as on a terminal: what runs in the background of a shell, or under nohup, was started with some of them
    ignored, and would hand that on to the programs whose end by a signal is tested."""
    if os.name == "posix":
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole live programs go by the clock and by real servers: they are slow tests."""
    for item in items:
        if item.path.is_relative_to(WHOLE):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def no_engines_ahead() -> Iterator[None]:
    """Commands that are called in this process open no engine ahead: its thread would outlast the test, and pytest,
    which changes the environment between tests, would crash OpenVINO, whose threads read it without a lock."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rtface.pipeline.runtime.open_ahead", lambda *_: None)
        yield
