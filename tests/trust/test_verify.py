"""Checksums of outputs: FFmpeg's framemd5 and sha256sum's manifests, and what ``rtface verify`` finds."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

import rtface
from rtface.cli.app import app
from rtface.errors import InputError, Interrupted, OutputError, UsageError
from rtface.trust.framemd5 import HashList, hash_frames
from rtface.trust.packet_hashes import hash_packets
from rtface.trust.verify import verify
from tests.media.encoded import animated_avif
from tests.pipeline.run_media import film, portrait, still, write_film

pytestmark = pytest.mark.usefixtures("engines")


def rows(path: Path, stream: int = 0) -> list[tuple[int, str]]:
    return [(row.pts, row.md5) for row in HashList(path).rows() if row.stream == stream]


def frame_hashes(path: Path) -> list[str]:
    """MD5 of each frame as raw video, by numpy."""
    with av.open(str(path)) as box:
        return [hashlib.md5(frame.to_ndarray().tobytes()).hexdigest() for frame in box.decode(video=0)]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A lossless output with sound and its checksums."""
    rtface.run(film(tmp_path / "in.mkv", frames=6, sound=True), tmp_path / "out.mkv", checksums=True)
    return tmp_path / "out.mkv"


def rewritten(made: Path, change: Callable[[int, av.VideoFrame], av.VideoFrame | None], name: str = "out.mkv") -> Path:
    """The film written again by PyAV, its frames changed or left out; sound is copied."""
    with av.open(str(made)) as source:
        packets, frames = [], []
        for packet in source.demux():
            if packet.size and packet.stream.type == "audio":
                packets.append(packet)
            elif packet.size:
                frames += packet.decode()
        target = made.with_name("again.mkv")
        with av.open(str(target), "w", format="matroska") as out:
            video = out.add_stream("ffv1", rate=25)
            video.width, video.height, video.pix_fmt = frames[0].width, frames[0].height, frames[0].format.name
            sound = out.add_stream_from_template(source.streams.audio[0])
            for number, frame in enumerate(frames):
                changed = change(number, frame)
                if changed is not None:
                    changed.pict_type = 0
                    out.mux(video.encode(changed))
            out.mux(video.encode(None))
            for packet in packets:
                packet.stream = sound
                out.mux(packet)
    return target.replace(made.with_name(name))


def test_lists_are_those_of_ffmpeg_and_sha256sum(made: Path) -> None:
    frames = HashList(made.with_name("out.mkv.framemd5"))
    first = frames.streams[0]
    assert (first.kind, first.codec, first.base) == ("video", "rawvideo", Fraction(1, 25))
    assert rows(frames.path) == list(enumerate(frame_hashes(made)))
    with av.open(str(made)) as box:
        packets = [hashlib.md5(bytes(p)).hexdigest() for p in box.demux(audio=0) if p.size]
    assert [md5 for _, md5 in rows(frames.path, 1)] == packets
    text = made.with_name("out.mkv.sha256").read_text()
    assert text == "".join(f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in (made, frames.path))


def test_a_varying_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    pictures = [portrait(shift=(t, 0))[0] for t in range(5)]
    source = write_film(tmp_path / "in.mkv", pictures, pts=(0, 40, 95, 120, 200), base=Fraction(1, 1000))
    rtface.run(source, tmp_path / "out.mkv", checksums=True)
    assert [pts for pts, _ in rows(tmp_path / "out.mkv.framemd5")] == [0, 40, 95, 120, 200]
    assert verify(tmp_path / "out.mkv").frames == "same"


def test_a_film_of_an_animated_avif_is_checked_whole(tmp_path: Path) -> None:
    source = animated_avif(tmp_path / "in.avif", 5)
    rtface.run(source, tmp_path / "out.mkv", checksums=True, sidecar=True)
    found = verify(tmp_path / "out.mkv", input=source)
    assert found.same and found.notes == [] and len(hash_packets(source)) == 1
    hash_frames(source, lambda: (tmp_path / "in.framemd5").open("wb"))
    assert {row.stream for row in HashList(tmp_path / "in.framemd5").rows()} == {0}


def test_same_files_and_frames_pass(made: Path) -> None:
    found = verify(made)
    assert found.same and (found.files, found.frames) == ("same", "same")
    assert (found.files_checked, found.frames_checked) == (2, 6)


def test_another_container_with_the_same_frames(made: Path) -> None:
    rewritten(made, lambda _, frame: frame)
    found = verify(made)
    assert (found.files, found.frames, found.differences) == ("differs", "same", [])


def darker(frame: av.VideoFrame) -> av.VideoFrame:
    array = frame.to_ndarray()
    array[10, 10] ^= 1
    out = av.VideoFrame.from_ndarray(array, frame.format.name)
    out.pts, out.time_base = frame.pts, frame.time_base
    return out


@pytest.mark.parametrize(
    ("change", "what", "number", "count"),
    [
        (lambda n, f: darker(f) if n in (3, 5) else f, "differs", 3, 2),
        (lambda n, f: f if n < 4 else None, "missing", 4, 2),
    ],
)
def test_the_first_frame_that_differs_is_named(
    made: Path, change: Callable[[int, av.VideoFrame], av.VideoFrame | None], what: str, number: int, count: int
) -> None:
    rewritten(made, change)
    [first] = verify(made).differences
    assert (first.what, first.number, first.pts, first.time_s, first.count) == (
        what,
        number,
        number,
        number / 25,
        count,
    ) and first.frame


def test_a_difference_has_the_timecode_of_its_frame(tmp_path: Path) -> None:
    rtface.run(
        film(tmp_path / "in.mkv", frames=6, sound=True), tmp_path / "out.mkv", checksums=True, timecode="01:00:00:00"
    )
    assert verify(tmp_path / "out.mkv").timecode == "01:00:00:00"
    rewritten(tmp_path / "out.mkv", lambda n, f: darker(f) if n == 4 else f)  # without its timecode
    remade = tmp_path / "tc.mkv"
    rtface.run(tmp_path / "out.mkv", remade, correct="never", timecode="01:00:00:00")
    [first] = verify(remade, tmp_path / "out.mkv.framemd5").differences
    assert first.timecode == "01:00:00:04" and "timecode 01:00:00:04, 0:00:00.160, pts 4" in str(first)


def test_exit_codes_and_json(made: Path) -> None:
    run = CliRunner().invoke
    assert run(app, ["verify", str(made)]).exit_code == 0
    rewritten(made, lambda n, f: darker(f) if n == 2 else f)
    result = run(app, ["verify", str(made), "--json"])
    said = json.loads(result.stdout)
    assert result.exit_code == 3 and not said["same"] and said["differences"][0]["number"] == 2
    assert "frame 2 (0:00:00.080, pts 2) is the first that differs" in result.stderr
    files = run(app, ["verify", str(made), "--files-only", "--json"])
    assert files.exit_code == 3 and json.loads(files.stdout)["frames"] == "not checked"
    assert run(app, ["verify", str(made.with_name("in.mkv"))]).exit_code == 2  # it has no manifest
    assert run(app, ["verify", str(made.with_name("none.mkv"))]).exit_code == 1


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


def test_manifests_that_cannot_be_used(made: Path) -> None:
    frames = made.with_name("out.mkv.framemd5")
    with pytest.raises(InputError, match="does not name"):
        verify(made.with_name("in.mkv"), made.with_name("out.mkv.sha256"))
    frames.write_text(frames.read_text() + "0, nonsense\n")
    with pytest.raises(InputError, match="no row of a framemd5 list"):
        verify(made, frames)
    frames.write_text("#format: frame checksums\n#version: 2\n#hash: CRC32\n")
    with pytest.raises(InputError, match="no framemd5 list"):
        verify(made, frames)
    made.with_name("x.sha256").write_text("abc  out.mkv\n")
    with pytest.raises(InputError, match="line 1"):
        verify(made, made.with_name("x.sha256"))
    with pytest.raises(UsageError, match="has no manifest"):
        verify(made.with_name("in.mkv"))


def test_bsd_manifests_and_lists_of_ffmpeg_are_read(made: Path) -> None:
    tagged = made.with_name("tagged.sha256")
    tagged.write_text(f"SHA256 (out.mkv) = {hashlib.sha256(made.read_bytes()).hexdigest().upper()}\n")
    assert verify(made, tagged).same
    own = made.with_name("out.mkv.framemd5")
    own.write_text(own.read_text().replace("#codec_id 1: aac", "#codec_id 1: pcm_s16le"))  # as FFmpeg's default
    found = verify(made, own)
    assert found.frames == "same" and "stream 1" in found.notes[0]


def test_manifests_never_replace_a_file_before_the_run(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mkv", frames=2, face=False)
    (tmp_path / "out.mkv.sha256").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        rtface.run(source, tmp_path / "out.mkv", checksums=True)
    assert not (tmp_path / "out.mkv").exists()


def test_an_interrupted_check_says_so(made: Path) -> None:
    with pytest.raises(Interrupted):
        verify(made, stop=lambda: True)


@pytest.mark.parametrize("room", [100, 900])
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
