"""Files and values of others: pipes, devices, sizes, shape."""

from __future__ import annotations

import os
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from msgspec import defstruct
from typer.testing import CliRunner

from rtface.cli.app import app
from rtface.config.options import Options
from rtface.errors import RtfaceError
from rtface.jobs.planning import option_files
from rtface.media.files.file_hashes import sha256_of
from rtface.media.stills.image_read import read_image
from rtface.shots.clock import FilmClock
from rtface.shots.files import read_shots
from rtface.trust.sidecar import read_sidecar
from rtface.util.foreign import Count, FilePath, Text, converted, first_line, fits
from tests.pipeline.run_media import write_film


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes or devices with names")
@pytest.mark.parametrize("name", ["pipe", "/dev/zero"])
def test_a_pipe_or_device_is_refused_at_once(tmp_path: Path, name: str):
    path = tmp_path / name
    if not path.exists():
        os.mkfifo(path)
    shots = tmp_path / "shots.csv"
    shots.symlink_to(path)
    for read in (
        sha256_of,
        read_sidecar,
        read_image,
        lambda path: option_files(Options(shots=path)),
        lambda path: read_shots(shots, FilmClock(Fraction(25))),
    ):
        with pytest.raises(RtfaceError, match="it is not a regular file"):
            read(path)


def test_values_have_their_type():
    kind = defstruct("kind", [("rows", list[tuple[Count, Text]]), ("more", dict[str, Fraction] | None, None)])
    for good in ({"rows": []}, {"rows": [[1, "a"]], "more": None}, {"rows": [], "more": {"base": "1/25"}, "x": 1}):
        converted(good, kind)
    for bad, where in (
        ([], "expected `object`"),
        ({}, "required field `rows`"),
        ({"rows": {}}, "at `rows`"),
        ({"rows": [[1]]}, r"at `rows\[0\]`"),
        ({"rows": [[True, "a"]]}, r"at `rows\[0\]\[0\]`"),
        ({"rows": [[1 << 70, "a"]]}, r"at `rows\[0\]\[0\]`"),
        ({"rows": [[1, "\ud800"]]}, r"at `rows\[0\]\[1\]`"),
        ({"rows": [], "more": {"base": "a"}}, "at `more"),
        ({"rows": [], "more": {"base": "1/0"}}, "fraction"),
    ):
        with pytest.raises(ValueError, match=where):
            converted(bad, kind)
    assert fits("\udc80/a", FilePath) and not any(fits(path, FilePath) for path in ("", "a\0", "\ud800", 1))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
@pytest.mark.parametrize(
    "command",
    [
        "run in.mkv out.mkv --tracker none --stage picture:file={}",
        "verify in.mkv {}",
        "run in.mkv out.mp4 --sign {0},{0}",
    ],
)
def test_a_pipe_on_the_command_line_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    if "sign" in command:
        pytest.importorskip("c2pa", reason="the extra is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RTFACE_DATA", str(tmp_path / "data"))
    write_film(Path("in.mkv"), [np.zeros((48, 64, 3), np.uint8)])
    os.mkfifo("pipe")
    ended = CliRunner().invoke(app, command.format("pipe").split())
    assert ended.exit_code in (1, 2) and "pipe" in ended.output and "fault of rtface" not in ended.output


def test_a_secret_is_the_first_line(tmp_path: Path):
    path = tmp_path / "secret"
    for content in (b" word \nmore", b"word\r\n", b"word"):
        path.write_bytes(content)
        assert first_line(path) == "word"
    for content, why in ((b"\nword", "empty"), (b"\xff\n", "not text")):
        path.write_bytes(content)
        with pytest.raises(OSError, match=f"its first line is {why}"):
            first_line(path)
