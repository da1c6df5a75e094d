"""The virtual camera against v4l2loopback itself, in a throw-away machine that has such devices: `vm_virtual_camera.py`
runs there, once for all of its tests, whose outcomes stand here.

The machine is started by the program that RTFACE_TEST_VM_RUN names, as ``PROGRAM --timeout S --mount DIR -- COMMAND``.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

INSIDE = Path(__file__).with_name("vm_virtual_camera.py")
RUN = os.environ.get("RTFACE_TEST_VM_RUN", "")
NAMES = [
    node.name
    for node in ast.parse(INSIDE.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
]

pytestmark = [
    pytest.mark.skipif(not RUN, reason="RTFACE_TEST_VM_RUN does not name a program that starts the machine"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """For each test the failures of its runs there, empty where all passed."""
    folder = tmp_path_factory.mktemp("vm")
    report = folder / "report.xml"
    done = subprocess.run(
        [
            RUN,
            "--timeout",
            "500",
            "--mount",
            str(folder),
            "--",
            sys.executable,
            "-m",
            "pytest",
            "--noconftest",
            "-p",
            "no:cacheprovider",
            "--basetemp",
            "/run/tests",
            f"--junitxml={report}",
            str(INSIDE),
        ],
        cwd=INSIDE.parents[3],
        capture_output=True,
        text=True,
    )
    assert report.exists(), f"the machine gave no report: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    found: dict[str, list[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        failures = found.setdefault(case.get("name", "").split("[")[0], [])
        failures += [f"{case.get('name')}: {part.text}" for part in case if part.tag in ("failure", "error", "skipped")]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_there(outcomes, name):
    assert name in outcomes, f"{name} did not run"
    assert not outcomes[name], "\n".join(outcomes[name])
