"""What is wrong with a command line is said before the libraries that do the work are loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Runs the command and says on stdout which of the libraries were loaded.
SCRIPT = """
import atexit, sys
from rtface.cli import app
app._leave = lambda code: (print([m for m in ("numpy", "av", "cv2", "openvino") if m in sys.modules]), sys.exit(code))
sys.argv = ["rtface", *sys.argv[1:]]
app.main()
"""


@pytest.mark.parametrize(("words", "code", "says"), [
    (["run", "FILM", "out.mp4", "--colour", "lokc"], 2, "the nearest is lock"),
    (["run", "FILM", "out.mp4", "--strength", "half"], 2, "--strength must be a number between 0 and 1, not 'half'"),
    (["run", "FILM", "out.mp4", "--max-faces", "many"], 2, "--max-faces must be a whole number between 1 and 64"),
    (["run", "FILM", "out.mp4", "--device", "gpu"], 2, "torch or torch:cuda, not 'gpu'\n"),
    (["run", "FILM", "out.mp4", "--tracker", "best"], 2, "--tracker must be auto, openvino, tasks or none, not 'best'"),
    (["run", "FILM", "out.mp4", "--engine", "nope"], 2, "unknown engine 'nope'; there is: auto, default, rtface-m"),
    (["run", "FILM", "out.mp4", "--engine", "gfpgan-1.4"], 2, "add it with: rtface engines add gfpgan-1.4"),
    (["run", "FILM", "out.mp4", "--stage", "nosuch"], 2, "there is no stage nosuch"),
    (["run", "FILM", "out.mp4", "--gop", "3"], 2, "--gop has no effect here: it is for live recordings"),
    (["run", "FILM", "null:", "--start", "3"], 2, "--start has no effect here: it is for films"),
    (["run", "no.mp4", "out.mp4"], 1, "no.mp4: there is no such file; check the name"),
    (["analyze", "no.mp4"], 1, "no.mp4: there is no such file; check the name"),
])
def test_said_before_anything_heavy_is_loaded(words: list[str], code: int, says: str, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"not looked at")
    done = subprocess.run([sys.executable, "-c", SCRIPT, *(str(film) if w == "FILM" else w for w in words)],
                          cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
                          env={"PYTHONPATH": str(Path(__file__).resolve().parents[2]),
                               "RTFACE_CONFIG_DIR": str(tmp_path), "RTFACE_CACHE": str(tmp_path)})
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == "[]\n"
