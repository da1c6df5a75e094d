"""The whole command on small films with a real face and the shipped light engine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from skimage import data
from typer.testing import CliRunner

from rtface.cli.app import app
from rtface.util.parse import parse_time
from tests.pipeline.run_media import decoded, write_film

FRAMES = 14
LONG = 300


def write_clip(path: Path, frames: int = FRAMES, *, sound: bool = True) -> Path:
    """The portrait, blurred and drifting, 320×180 at 25 fps, H.264, with a tone."""
    face = cv2.GaussianBlur(np.ascontiguousarray(data.astronaut()[:300, 60:480]), (0, 0), 2.0)
    shifts = (np.float32([[0.72, 0, 8 + 6 * np.sin(i / 8)], [0, 0.72, -8]]) for i in range(frames))
    pictures = (cv2.warpAffine(face, shift, (320, 180), borderMode=cv2.BORDER_REPLICATE) for shift in shifts)
    return write_film(path, pictures, codec="libx264", options={"preset": "ultrafast", "crf": "18"}, sound=sound)


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "in.mp4")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("RTFACE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("RTFACE_ENGINE", "rtface-s")


def rtface(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert "Traceback" not in result.stderr, result.stderr
    assert result.exit_code == code, result.stderr
    return result


def sound(path):
    with av.open(str(path)) as film:
        return [bytes(packet) for packet in film.demux(audio=0) if packet.size]


def test_a_film_keeps_its_length_and_sound_and_says_what_it_is(clip, tmp_path):
    out = tmp_path / "out.mp4"
    result = rtface("run", clip, out, "--report", tmp_path / "report.json", "--compare", tmp_path / "pair.mkv")
    assert result.stdout == ""
    assert len(decoded(out)) == FRAMES
    assert sound(out) == sound(clip)
    with av.open(str(out)) as film:
        assert film.metadata["enhanced_by"].startswith("rtface ")
    assert decoded(tmp_path / "pair.mkv")[0].shape == (180, 640)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["frames_out"] == FRAMES
    assert report["frames_corrected"] >= FRAMES - 3
    assert report["tracks"][0]["analysis"]["low_resolution"] > 0.2
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix in (".mp4", ".mkv")) == [
        "in.mp4",
        "out.mp4",
        "pair.mkv",
    ]


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("long") / "long.mp4", LONG, sound=False)


def begun(folder):
    """Whether the working file holds something. A file of its name comes and goes while the folder is being checked."""
    with contextlib.suppress(FileNotFoundError):
        return any(path.stat().st_size for path in folder.glob(".out.*"))
    return False


@pytest.mark.skipif(os.name == "nt", reason="signals are sent to a process group on Windows")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_an_interrupted_film_plays_and_can_be_gone_on_with(long_clip, tmp_path, number, code):
    out = tmp_path / "out.mp4"
    process = subprocess.Popen(
        [sys.executable, "-m", "rtface", "run", str(long_clip), str(out)], stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not begun(tmp_path):
        time.sleep(0.05)
    process.send_signal(number)
    err = process.communicate(timeout=120)[1]
    assert process.returncode == code, err
    assert "Traceback" not in err
    partial = tmp_path / "out.partial.mp4"
    assert str(partial) in err
    done = len(decoded(partial))
    assert 0 < done < LONG
    assert not out.exists()
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix == ".mp4") == ["out.partial.mp4"]
    start = err.split("--start ")[1].split()[0]
    assert abs(parse_time(start) * 25 - done) < 0.1
    rtface("run", long_clip, tmp_path / "rest.mp4", "--start", start, "--end", parse_time(start) + 0.2)
    assert len(decoded(tmp_path / "rest.mp4")) == 5
