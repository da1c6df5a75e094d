"""docs/stages.md: the example runs, and every stage and option that the page names is there."""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from rtface import stages
from rtface.stages.entry_points import API, load_stage
from rtface.stages.runner import Stages
from rtface.stats import Stats
from tests.pipeline.fakes import face_at, frame_of, portrait

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "stages.md").read_text(encoding="utf-8")
PLUGIN = ROOT / "plugins" / "rtface-overlays"


EXAMPLES = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "class Visor" in block]
COMMANDS = re.findall(r"--stage (mine\.[\w.:=]+)", PAGE)


@pytest.mark.parametrize(("code", "written"), list(zip(EXAMPLES, COMMANDS, strict=True)))
def test_the_examples_on_the_page_run(code: str, written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    picture, points = portrait()
    frame = frame_of(picture, 0, faces=(face_at(points),))
    stats = Stats()
    out = Stages.open([written], stats).process(frame)
    assert not stats.counters["stage_faults"]
    eyes = points[:2].mean(0).astype(int)
    assert (out.image.to_ndarray(format="rgb24")[eyes[1] - 5 : eyes[1] + 5, eyes[0] - 20 : eyes[0] + 20] < 8).all()
    np.testing.assert_array_equal(out.image.to_ndarray()[140:180], frame_of(picture, 0).image.to_ndarray()[140:180])


def test_a_stage_takes_ten_lines() -> None:
    lines = [line for line in EXAMPLES[0].splitlines() if line]
    assert len(lines) == 10 and len(EXAMPLES) == 2


def test_the_page_is_about_this_version_and_these_names() -> None:
    assert f"(version {API})" in PAGE and "api = 1" in PAGE
    for name in ", ".join(re.findall(r"from rtface.stages import (.*)", PAGE)).split(", "):
        assert hasattr(stages, name)
    for name in ("Canvas", "Sprite", "covering", "display_from_face", "option", "state"):
        assert name in PAGE and name in stages.__all__
    for method in re.findall(r"^\| `(\w+)\(", PAGE, re.M):
        assert hasattr(stages.Canvas, method) or hasattr(stages, method), method


def test_every_option_of_the_overlays_is_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("PIL", reason="the overlays draw text with Pillow")
    monkeypatch.syspath_prepend(str(PLUGIN))
    points = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]["entry-points"]["rtface.stages"]
    sections = dict(re.findall(r"^### ([\w, -]+)\n(.*?)(?=^##)", PAGE, re.M | re.S))
    for name, value in points.items():
        (text,) = [body for title, body in sections.items() if name in title.split(", ")]
        kind = load_stage(value.replace(":", "."))
        keys = {field.name for field in fields(kind) if field.init}
        cells = " ".join(row.split("|")[1] for row in text.splitlines() if row.startswith("|"))
        written = set(re.findall(r"`(\w+)`", cells))
        assert keys <= written, name
        assert written <= keys | {"strength", "cells"}, name
