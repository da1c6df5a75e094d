"""``rtface inspect``: what films and stills say about themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import rtface
from rtface.cli.app import app
from rtface.trust.inspection import inspect_file
from tests.pipeline.run_media import film, still

pytestmark = pytest.mark.usefixtures("engines")

COMPOSITE = "compositeWithTrainedAlgorithmicMedia"


def test_a_film_that_says_nothing(tmp_path: Path) -> None:
    found = inspect_file(film(tmp_path / "in.mkv", frames=2, face=False))
    assert (found.source_type, found.rtface, found.sidecar, found.notes) == (None, {}, None, [])


def test_credentials_are_shown(tmp_path: Path) -> None:
    pytest.importorskip("c2pa")
    from tests.trust.authority import Authority

    rtface.run(still(tmp_path / "in.png"), tmp_path / "out.png", sign=Authority(tmp_path / "ca").issue())
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "out.png")])
    assert result.exit_code == 0 and "signed by Newsroom" in result.stdout
    assert "action c2pa.edited (compositeWithTrainedAlgorithmicMedia)" in result.stdout
    said = json.loads(CliRunner().invoke(app, ["inspect", str(tmp_path / "out.png"), "--json"]).stdout)
    assert said["credentials"]["valid"] and said["rtface"]["digital_source_type"].endswith(COMPOSITE)


def test_files_that_cannot_be_inspected(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no film")
    good = still(tmp_path / "a.png")
    run = CliRunner().invoke
    assert run(app, ["inspect", str(tmp_path / "none.mp4")]).exit_code == 1
    result = run(app, ["inspect", str(tmp_path / "text.mp4"), str(good)])
    assert result.exit_code == 1 and "a.png" in result.stdout and "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["a.heic", "a.jpg", "a.mp4"])
def test_an_image_that_is_not_read_is_not_said_to_be_silent(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftyphevc\0\0\0\0msf1hevc" + bytes(99))
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / name)])
    assert result.exit_code == 1 and "(HEIC); save it as" in result.stderr and not result.stdout


@pytest.mark.parametrize("kind", ["mov", "webm", "ts", "jpg", "tiff"])
def test_every_kind_of_output_says_what_was_done(kind: str, tmp_path: Path) -> None:
    picture = kind in ("jpg", "tiff")
    source = still(tmp_path / "in.png") if picture else film(tmp_path / "in.mkv", frames=2)
    rtface.run(source, tmp_path / f"out.{kind}", sidecar=True)
    found = inspect_file(tmp_path / f"out.{kind}")
    assert found.sidecar is not None and found.sidecar["changes"] == ["corrected"]
    assert (found.source_type or "").endswith("" if kind == "ts" else COMPOSITE)
    assert found.notes == []
