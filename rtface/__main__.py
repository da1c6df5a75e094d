"""The ``rtface`` command, which is also ``python -m rtface``."""

from __future__ import annotations

import signal


def main() -> None:
    """Runs the command line (`rtface.cli`)."""
    # Until that is there to answer it, Ctrl-C ends the process as the system does, without a traceback.
    answers = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if answers:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from rtface.cli import main as command

    if answers:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command()


if __name__ == "__main__":
    main()
