"""What holds for all tests."""

import os
import signal


def pytest_configure() -> None:
    """Signals as on a terminal: what runs in the background of a shell, or under nohup, was started with some of them
    ignored, and would hand that on to the programs whose end by a signal is tested."""
    if os.name == "posix":
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
