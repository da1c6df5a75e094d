"""Runs the ``rtface`` command, also as ``python -m rtface``."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys


def _open_standard_streams() -> None:
    """Opens the null device for a closed stdin, stdout or stderr (``>&-``). Otherwise the next opened file, such as a
    film, would get that stream's descriptor, and everything printed would be
    written into it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest unused number
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - stays open until the process ends
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a letter that the console lacks must not end the run
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Runs the command line (`rtface.cli.app`)."""
    _open_standard_streams()
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # OpenCV's messages on stderr repeat rtface's errors
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's matrices are small, and its threads wait by spinning
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]  # 0.1 s of imports for converters
    if sys.argv[1:] == ["--version"]:  # saves the time to import typer
        from rtface._version import VERSION_LINE

        with contextlib.suppress(BrokenPipeError):
            sys.stdout.write(f"{VERSION_LINE}\n")
            sys.stdout.flush()
        return
    # Until the command line handles Ctrl-C, the system's default ends the process, without a traceback.
    restore_handler = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if restore_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from rtface.cli.app import main as command

    if restore_handler:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command()


if __name__ == "__main__":
    main()
