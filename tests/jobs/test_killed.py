"""A job that is killed at any step is finished by the next call, and is then the film of one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rtface.config.options import Options
from rtface.pipeline.film import run_file
from tests.jobs import films
from tests.jobs.test_joined import same_film
from tests.pipeline.run_media import write_film

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it forks")


@pytest.mark.parametrize(
    ("stride", "kept"),
    [
        (17, []),
        pytest.param(7, ["pairs.mkv"], marks=pytest.mark.slow),
    ],
)
def test_killed_at_every_step(stride: int, kept: list[str], tmp_path: Path):
    source, coding = tmp_path / "in.mp4", {"bf": "3", "g": "20"}
    write_film(source, films.scenes(40), codec="libx264", options=coding, sound=True)
    one = tmp_path / "one.mkv"
    pairs = tmp_path / "pairs.mkv"
    run_file(source, one, Options(tracker="none", codec="ffv1", compare=pairs))
    lines = killed(source, stride, kept, "out.mkv")
    for line in lines:
        place = source.parent / "made" / str(line["step"])
        same_film(one, place / "out.mkv")
        if kept:
            assert films.video_times(place / "pairs.mkv") == films.video_times(pairs)
    assert {line["finished"] for line in lines} >= {0, 4} if stride < 10 else True


@pytest.mark.slow
def test_killed_while_a_folder_is_filled(tmp_path: Path):
    source = write_film(tmp_path / "in.mkv", films.scenes(30, size=(64, 48)), codec="ffv1")
    run_file(source, f"{tmp_path}/one/", Options(tracker="none"))
    for line in killed(source, 13, [], "stills"):
        assert films.files(tmp_path / "made" / str(line["step"]) / "stills") == films.files(tmp_path / "one")


def killed(source: Path, stride: int, kept: list[str], output: str) -> list[dict[str, Any]]:
    """What `tests.jobs.killed_process` printed, a line for each call that was killed and made again."""
    made = source.parent / "made"
    made.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.jobs.killed_process", source, made, str(stride), output, *kept],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(lines) >= 3, done.stderr
    for line in lines:
        assert line["status"] == 9 and line["again"] == 0, (line, done.stderr)
        left = [name for name in line["left"] if not name.endswith(".rtface")]
        assert left == sorted([*kept, output, f"{output}.rtface.json"]), line
    return lines
