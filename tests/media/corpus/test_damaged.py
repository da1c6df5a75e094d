"""Damaged files of every format end no process: they work, or are refused."""

from __future__ import annotations

import subprocess
import sys
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


def test_a_unit_of_time_of_two_years_is_refused(tmp_path: Path) -> None:
    """A damaged AVI header: halved for the encoder, its unit did not fit 32 bits, and a job's segments had no end."""
    film = make_film(tmp_path / "a.avi", codec="mpeg4", frames=4, size=(64, 48))
    data = bytearray(film.read_bytes())
    scale = data.index(b"strh") + 28
    data[scale : scale + 4] = (0x7F000001).to_bytes(4, "little")
    film.write_bytes(data)
    with pytest.raises(InputError, match="85228257 seconds"):
        rtface.run(film, tmp_path / "out.mkv", tracker="none", engine="rtface-s")
