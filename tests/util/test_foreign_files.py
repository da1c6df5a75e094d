"""Lists, settings and stills as somebody else may have written them: each is used, or refused in words of ours."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rtface.analysis.treatment_file import read_treatments
from rtface.config.option_sources import load
from rtface.engine.recipe import SHIPPED, load_recipe
from rtface.errors import RtfaceError
from rtface.media.stills.image_read import read_image
from rtface.shots.clock import FilmClock
from rtface.shots.files import read_shots
from tests.util.mutations import spoilt

CLOCK = FilmClock(Fraction(25), length=Fraction(10))
READERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "shots.csv": (lambda path: read_shots(path, CLOCK), "start,end,off,strength\n0:00,0:02,,0.5\n0:02,0:04,yes,\n"),
    "shots.edl": (
        lambda path: read_shots(path, CLOCK),
        "TITLE: x\nFCM: NON-DROP FRAME\n\n001  AX V C 00:00:00:00 00:00:02:00 00:00:00:00 00:00:02:00\n* RTFACE: off\n",
    ),
    "rtface.toml": (lambda path: load({}, config=path), 'strength = 0.5\nengine = "rtface-s"\n'),
    "recipe.toml": (load_recipe, (SHIPPED / "rtface-s" / "recipe.toml").read_text()),
    "t.json": (
        read_treatments,
        '{"version": 1, "tracks": {"1": {"on": true, "strength": 0.5}, "2": {"on": false}}, "input": "a.mkv"}',
    ),
    **{f"still.{kind}": (read_image, "") for kind in ("png", "tif", "jpg", "bmp", "webp")},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_changed_files_are_used_or_refused(name: str, tmp_path: Path) -> None:
    read, text = READERS[name]
    picture = np.random.default_rng(1).integers(0, 255, (24, 32, 3), np.uint8)
    honest = text.encode() or cv2.imencode(Path(name).suffix, picture)[1].tobytes()
    (path := tmp_path / name).write_bytes(honest)
    if name != "recipe.toml":  # whose weights lie elsewhere
        read(path)
    for data in spoilt(honest, 150):
        path.write_bytes(data)
        with suppress(RtfaceError):
            read(path)
