"""Damaged files of every format end no process: they work, or are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.media.corpus.damage import FILMS, STILLS

COPIES = 20


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*STILLS, *FILMS])
def test_no_damage_ends_the_process(tmp_path: Path, kind: str) -> None:
    command = [sys.executable, "-m", "tests.media.corpus.damage", str(tmp_path), kind, str(COPIES)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout[-20:] + ended.stderr[-2000:]
