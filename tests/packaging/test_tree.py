"""What git tracks."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 1_000_000
# Networks, and the golden crops that their gate compares with.
NETWORKS = re.compile(r"(rtface/tracking/models|engines/shipped)/.*\.(onnx|tflite|npz)")


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no clone")
def test_no_file_but_networks_is_large() -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout.decode()
    files = [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    assert files
    large = [name for name in files if (ROOT / name).stat().st_size > LARGEST and not NETWORKS.fullmatch(name)]
    assert not large, "the history keeps a large file for ever: make it when it is needed, or keep it elsewhere"


def test_the_page_s_lock_names_no_host_of_a_registry() -> None:
    assert '"resolved"' not in (ROOT / "plugins/rtface-studio/package-lock.json").read_text(encoding="utf-8")
