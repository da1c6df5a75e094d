"""Inputs that are addresses: read as films, secrets never shown."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import rtface
from rtface.cli.app import app
from rtface.util.urls import Address, place
from tests.cli.test_end_to_end import write_clip
from tests.pipeline.run_media import decoded


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A film and the address it is served at, with a user, a password and a token."""
    folder = tmp_path_factory.mktemp("served")
    write_clip(folder / "a film.mkv", 8, sound=True)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder / "a film.mkv", f"http://me:secret@127.0.0.1:{server.server_port}/a%20film.mkv?token=confidential"
        server.shutdown()


def _rtface(*args: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rtface", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    assert "secret" not in done.stdout + done.stderr and "confidential" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_an_address_is_read_like_a_file(served: tuple[Path, str], tmp_path: Path) -> None:
    file, url = served
    rtface.run(file, tmp_path / "file.mkv", codec="ffv1", engine="rtface-s")
    _rtface(
        "run",
        url,
        tmp_path / "address.mkv",
        "--codec",
        "ffv1",
        "--report",
        tmp_path / "address.json",
        "--engine",
        "rtface-s",
    )
    assert np.array_equal(decoded(tmp_path / "address.mkv", "yuv420p"), decoded(tmp_path / "file.mkv", "yuv420p"))
    text = (tmp_path / "address.json").read_text()
    assert "secret" not in text and "confidential" not in text
    assert json.loads(text)["frames_out"] == 8
    several = ["run", url, url.replace("film", "other"), "--output-dir", tmp_path / "out", "--engine", "rtface-s"]
    assert CliRunner().invoke(app, list(map(str, several))).exit_code == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a film.mkv"]


@pytest.mark.slow
def test_analyze_reads_addresses_too(served: tuple[Path, str]) -> None:
    table = json.loads(_rtface("analyze", served[1], "--json").stdout)
    assert table["input"].endswith("/a%20film.mkv") and len(table["tracks"]) == 1


@pytest.mark.slow
def test_what_is_not_there_is_said_in_one_line(served: tuple[Path, str], tmp_path: Path) -> None:
    absent = "run", served[1].replace("film", "other"), tmp_path / "out.mkv", "--engine", "rtface-s"
    error = _rtface(*absent, code=1).stderr.strip()
    assert "404" in error and len(error.splitlines()) == 1
    refused = ["run", "http://127.0.0.1:9/film.mp4", str(tmp_path / "out.mkv"), "--engine", "rtface-s"]
    error = CliRunner().invoke(app, refused).stderr.strip()
    assert "refused" in error and len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_places() -> None:
    found = place("https://me:pw@example.org/films/one%20day.mp4?key=1")
    assert isinstance(found, Address)
    assert (found.name, found.stem, found.suffix) == ("one day.mp4", "one day", ".mp4")
    assert str(found) == "https://example.org/films/one%20day.mp4"
    assert place("rtsp://camera").name == "camera"  # type: ignore[union-attr]
    assert place("C:/films/a.mp4") == Path("C:/films/a.mp4")
    assert place("file:///tmp/a%20b.mp4") == Path("/tmp/a b.mp4")
