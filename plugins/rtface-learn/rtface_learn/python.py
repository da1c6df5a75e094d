"""The Python that trains."""

from __future__ import annotations

import sys
from pathlib import Path

from rtface.cli.console import print_text
from rtface.engine_install.environment import SetupOutput, find_python


def find(named: Path | None) -> Path:
    """See `rtface.engine_install.environment.find_python`."""
    return find_python(named, SetupOutput(lambda line: print(line, file=sys.stderr), lambda line: None))


__all__ = ["find", "print_text"]
