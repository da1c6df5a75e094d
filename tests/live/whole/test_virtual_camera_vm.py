"""The virtual camera against v4l2loopback itself: `vm_virtual_camera.py` in a throw-away machine that has such devices.

The machine is started by the program that RTFACE_TEST_VM_RUN names, as ``PROGRAM --timeout S -- COMMAND``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.servers import program

INSIDE = Path(__file__).with_name("vm_virtual_camera.py")


@pytest.mark.timeout(600)
def test_there():
    tests = ["-m", "pytest", "--noconftest", "-p", "no:cacheprovider", "--basetemp", "/run/tests", str(INSIDE)]
    done = subprocess.run(
        [program("VM_RUN"), "--timeout", "500", "--", sys.executable, *tests],
        cwd=INSIDE.parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-9000:] + done.stderr[-2000:]
