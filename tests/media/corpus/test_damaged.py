"""Damaged files of every format end no process: they work, or are refused."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

import rtface
from rtface.errors import InputError
from tests.media.conftest import make_film
from tests.media.corpus.damage import FILMS, STILLS

COPIES = 20


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*STILLS, *FILMS])
def test_no_damage_ends_the_process(tmp_path: Path, kind: str) -> None:
    command = [sys.executable, "-m", "tests.media.corpus.damage", str(tmp_path), kind, str(COPIES)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout[-20:] + ended.stderr[-2000:]


@pytest.mark.parametrize("unit", [65537, 2130706433])
def test_a_damaged_unit_of_time_ends_no_process(tmp_path: Path, unit: int) -> None:
    """44 minutes (a job looked for its borders without end) and two years (refused: they did not fit 32 bits)."""
    film = make_film(tmp_path / "a.avi", codec="mpeg4", frames=4, size=(64, 48))
    data = bytearray(film.read_bytes())
    scale = data.index(b"strh") + 28
    data[scale : scale + 4] = unit.to_bytes(4, "little")
    film.write_bytes(data)
    with pytest.raises(InputError, match="85228257 seconds") if unit > 1 << 24 else nullcontext():
        rtface.run(film, tmp_path / "out.mkv", tracker="none", engine="rtface-s")
