"""`make lint-page` where npm fetches nothing: what fails, and what is only said."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform == "win32" or shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("node", "view", "env", "code", "line"),
    [
        (0, 0, {"CI": "true"}, 2, "could not fetch"),
        (0, 0, {"RTFACE_TEST_NPM": "/usr/bin/npm"}, 2, "could not fetch"),
        (0, 1, {"CI": "true"}, 0, "could not fetch"),
        (0, 0, {}, 0, "could not fetch"),
        (1, 0, {"CI": "true"}, 0, "eslint needs node 20.19"),
    ],
)
def test_what_could_not_be_fetched_fails_only_in_ci(
    tmp_path: Path, node: int, view: int, env: dict[str, str], code: int, line: str
) -> None:
    for name, script in (
        ("node", f'[ "$1" = --version ] && echo v18.0.0 || exit {node}'),
        ("npm", f'[ "$1" = view ] && exit {view} || exit 1'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if key not in ("CI", "RTFACE_TEST_NPM", "MAKEFLAGS")}
    done = subprocess.run(
        ["make", "lint-page", f"VENV={tmp_path}", "-o", f"{tmp_path}/.created"],
        cwd=ROOT,
        env=kept | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"} | env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code and line in done.stdout and "is not checked" in done.stdout, done


def test_the_lock_names_no_host_of_a_registry() -> None:
    assert '"resolved"' not in (ROOT / "plugins/rtface-studio/package-lock.json").read_text()
