"""Checksums of outputs as sha256sum has them, and what ``rtface verify`` finds."""

from __future__ import annotations

import hashlib
import json
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

import rtface
from rtface.cli.app import app
from rtface.errors import InputError, Interrupted, OutputError, UsageError
from rtface.trust.frame_hashes import frame_hashes
from rtface.trust.packet_hashes import hash_packets
from rtface.trust.verify import verify
from tests.media.encoded import animated_avif
from tests.pipeline.run_media import film, portrait, still, write_film

pytestmark = pytest.mark.usefixtures("engines")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A lossless output with sound and its checksums."""
    rtface.run(film(tmp_path / "in.mkv", frames=6, sound=True), tmp_path / "out.mkv", checksums=True)
    return tmp_path / "out.mkv"


def test_the_manifest_is_that_of_sha256sum(made: Path) -> None:
    text = made.with_name("out.mkv.sha256").read_text()
    assert text == f"{hashlib.sha256(made.read_bytes()).hexdigest()}  out.mkv\n"
    found = verify(made)
    assert found.same and (found.files, found.files_checked) == ("same", 1)


def test_a_film_of_an_animated_avif_is_checked_whole(tmp_path: Path) -> None:
    source = animated_avif(tmp_path / "in.avif", 5)
    rtface.run(source, tmp_path / "out.mkv", checksums=True, sidecar=True)
    found = verify(tmp_path / "out.mkv", input=source)
    assert found.same and found.notes == [] and len(hash_packets(source)) == 1
    assert len(frame_hashes(source)[1]) == 5


def test_hashes_of_frames_are_those_of_their_samples(tmp_path: Path) -> None:
    pictures = [portrait(shift=(t, 0))[0] for t in range(5)]
    source = write_film(tmp_path / "in.mkv", pictures, pts=(0, 40, 95, 120, 200), base=Fraction(1, 1000))
    with av.open(str(source)) as box:
        expected = [hashlib.md5(frame.to_ndarray().tobytes()).hexdigest() for frame in box.decode(video=0)]
    base, rows = frame_hashes(source)
    assert rows == list(zip([int(t / base / 1000) for t in (0, 40, 95, 120, 200)], expected, strict=True))


def test_exit_codes_and_json(made: Path) -> None:
    run = CliRunner().invoke
    assert run(app, ["verify", str(made)]).exit_code == 0
    with made.open("ab") as file:
        file.write(b"more")
    result = run(app, ["verify", str(made), "--json"])
    said = json.loads(result.stdout)
    assert result.exit_code == 3 and not said["same"] and said["files"] == "differs"
    assert "its bytes differ (SHA-256)" in result.stderr
    assert run(app, ["verify", str(made.with_name("in.mkv"))]).exit_code == 2  # it has no manifest
    assert run(app, ["verify", str(made.with_name("none.mkv"))]).exit_code == 1


def test_manifests_that_cannot_be_used(made: Path) -> None:
    with pytest.raises(InputError, match="does not name"):
        verify(made.with_name("in.mkv"), made.with_name("out.mkv.sha256"))
    made.with_name("x.framemd5").write_text("#format: frame checksums\n#version: 2\n#hash: MD5\n")
    with pytest.raises(UsageError, match=r"which FFmpeg compares: ffmpeg .* -f framemd5 - \| diff - .*x\.framemd5"):
        verify(made, made.with_name("x.framemd5"))
    made.with_name("x.sha256").write_text("abc  out.mkv\n")
    with pytest.raises(InputError, match="line 1"):
        verify(made, made.with_name("x.sha256"))
    with pytest.raises(UsageError, match="has no manifest"):
        verify(made.with_name("in.mkv"))


def test_bsd_manifests_are_read(made: Path) -> None:
    tagged = made.with_name("tagged.sha256")
    tagged.write_text(f"SHA256 (out.mkv) = {hashlib.sha256(made.read_bytes()).hexdigest().upper()}\n")
    assert verify(made, tagged).same


def test_manifests_are_written_later_and_not_replaced(made: Path) -> None:
    run = CliRunner().invoke
    assert run(app, ["verify", str(made), "--write"]).exit_code == 1  # they exist
    assert run(app, ["verify", str(made), "--write", "--overwrite"]).exit_code == 0
    source = made.with_name("in.mkv")
    assert run(app, ["verify", "--write", str(source)]).exit_code == 0 and verify(source).same


def test_a_folder_of_stills(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        still(tmp_path / "photos" / f"p{number}.png")
    rtface.run(tmp_path / "photos", tmp_path / "out", checksums=True)
    assert verify(tmp_path / "out").files_checked == 3
    (tmp_path / "out" / "p1.png").unlink()
    (tmp_path / "out" / "p2.png").write_bytes(b"x")
    still(tmp_path / "out" / "p9.png")
    found = verify(tmp_path / "out")
    assert [line.split(": ")[1] for line in found.problems] == ["there is no such file", "its bytes differ (SHA-256)"]
    assert "p9.png" in found.notes[0]


def test_manifests_never_replace_a_file_before_the_run(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mkv", frames=2, face=False)
    (tmp_path / "out.mkv.sha256").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        rtface.run(source, tmp_path / "out.mkv", checksums=True)
    assert not (tmp_path / "out.mkv").exists()


def test_an_interrupted_check_says_so(made: Path) -> None:
    with pytest.raises(Interrupted):
        verify(made, stop=lambda: True)


@pytest.mark.parametrize("room", [0, 40])
@pytest.mark.skipif(sys.platform == "win32", reason="no limit on files there")
def test_checksums_need_room(tmp_path: Path, room: int):
    path = write_film(tmp_path / "film.mkv", [np.full((48, 64), 90, np.uint8)] * 20, codec="ffv1")
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        result = CliRunner().invoke(app, ["verify", "--write", str(path)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result.exit_code == 1 and f"the checksums of {path} cannot be written" in result.output
    assert list(tmp_path.iterdir()) == [path]
