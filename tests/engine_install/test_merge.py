"""``rtface engines merge``: two published files into one, by a program that needs no torch here."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rtface.cli.app import app
from tests.engine_install.published import Publisher


def call(folder: Path, *more: str) -> Result:
    words = [
        "--base",
        str(folder / "the base"),
        "--changes",
        str(folder / "changes.pkl"),
        "--out",
        str(folder / "möglich 1.safetensors"),
    ]
    return CliRunner().invoke(app, ["engines", "merge", *words, *more])


def test_two_files_become_one(published: Publisher, tmp_path: Path) -> None:
    out = tmp_path / "möglich 1.safetensors"
    result = call(tmp_path)
    assert result.exit_code == 1 and not out.exists()
    assert f"{out} cannot be made: {tmp_path / 'changes.pkl'} is not there" in result.stderr
    (tmp_path / "changes.pkl").write_text("")
    result = call(tmp_path)
    assert result.exit_code == 0 and out.read_text() == "the base as always"
    assert f"written; add it with: rtface engines add osediff-face --from '{out}'" in result.stderr
    assert call(tmp_path, "--text", "person,").exit_code == 0 and out.read_text() == "the base person,"


@pytest.mark.skipif(os.name != "posix", reason="signals as here are POSIX's")
def test_a_signal_leaves_nothing(published: Publisher, tmp_path: Path) -> None:
    (tmp_path / "changes.pkl").write_text("")
    published.mode("hang")
    process = published.command(
        "merge", "--base", tmp_path, "--changes", tmp_path / "changes.pkl", "--out", tmp_path / "out.safetensors"
    )
    published.until_it_hangs(process)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Traceback" not in said
    assert not list(tmp_path.glob("out*"))
