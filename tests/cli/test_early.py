"""What is wrong with a command line is said before the libraries that do the work are loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

# Runs each command line and writes the exit codes and what was said, then which of the libraries were loaded.
SCRIPT = """
import contextlib, io, json, os, sys
from rtface.cli import app
os._exit = sys.exit
answers = []
for words in json.loads(sys.argv[1]):
    said = io.StringIO()
    sys.argv = ["rtface", *words]
    with contextlib.redirect_stderr(said):
        try:
            app.main()
        except SystemExit as end:
            answers.append([end.code, said.getvalue()])
print(json.dumps([answers, [m for m in ("numpy", "av", "cv2", "openvino") if m in sys.modules]]))
"""
CASES = [
    (["run", "FILM", "out.mp4", "--grain", "mach"], 2, "the nearest is match"),
    (["run", "FILM", "null:", "--colour", "restore"], 2, "--colour has no effect here: it is for films or stills"),
    (["run", "FILM", "out.mp4", "--strength", "half"], 2, "--strength must be a number between 0 and 1, not 'half'"),
    (["run", "FILM", "out.mp4", "--max-faces", "many"], 2, "--max-faces must be a whole number between 1 and 1000"),
    (["run", "FILM", "out.mp4", "--device", "gpu"], 2, "openvino:npu or onnx, not 'gpu'\n"),
    (["run", "FILM", "out.mp4", "--tracker", "best"], 2, "--tracker must be auto, openvino or none"),
    (["run", "FILM", "out.mp4", "--engine", "nope"], 2, "unknown engine 'nope'; available: auto, default, rtface-m"),
    (["run", "FILM", "out.mp4", "--engine", "gfpgan-1.4"], 2, "add it with: rtface engines add gfpgan-1.4"),
    (["run", "FILM", "out.mp4", "--stage", "nosuch"], 2, "there is no stage nosuch"),
    (["run", "FILM", "out.mp4", "--bitrate", "3M"], 2, "--bitrate has no effect here: it is for published streams"),
    (["run", "FILM", "null:", "--start", "3"], 2, "--start has no effect here: it is for films"),
    (["run", "no.mp4", "out.mp4"], 1, "no.mp4: there is no such file; check the name"),
    (["analyze", "no.mp4"], 1, "no.mp4: there is no such file; check the name"),
]


def test_said_before_anything_heavy_is_loaded(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"not looked at")
    lines = [[str(film) if word == "FILM" else word for word in words] for words, *_ in CASES]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(lines)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            "RTFACE_CONFIG_DIR": str(tmp_path),
            "RTFACE_CACHE": str(tmp_path),
        },
    )
    answers, loaded = json.loads(done.stdout)
    assert loaded == []
    for (words, code, says), (ended, said) in zip(CASES, answers, strict=True):
        assert ended == code, said
        assert says in said, words
        assert len(said.strip().splitlines()) == 1


def test_libraries_are_imported_when_they_are_needed() -> None:
    script = """
import sys, rtface
rtface.Options(strength=0.5)
early = [name for name in ("numpy", "av", "cv2", "openvino") if name in sys.modules]
import rtface.pipeline.build
sys.exit(" ".join(early + ["openvino"] * ("openvino" in sys.modules)) or 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        timeout=60,
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert (done.returncode, done.stderr) == (0, "")
