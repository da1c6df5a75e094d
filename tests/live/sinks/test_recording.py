"""The recording of a live run, written in this process: what is in the file, and what a broken one leaves."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from rtface.config.addresses import parse_address
from rtface.config.options import Options
from rtface.errors import OutputError, UsageError
from rtface.live.messages import RecordJob
from rtface.live.sinks.record_sink import RecordSink
from rtface.live.sinks.record_worker import Recording
from rtface.media.files.outputs import check_target
from rtface.media.files.workfile import work_name
from rtface.media.marks.provenance import DIGITAL_SOURCE_TYPE, ENHANCED, Change, describe
from rtface.media.write.stream_plan import FORMATS
from tests.live.feed import MONO, Voice, form
from tests.live.publish import read_stamp, stamped_image

TAGS = describe("rtface-s 0.1", "9.9", 0.8)


def begun(path: Path, **options: object) -> Recording:
    target = check_target(path, inputs=[], overwrite=True)
    tags, wanted = options.pop("metadata", TAGS), Options(**{"preset": "ultrafast"} | options)
    job = RecordJob(work_name(target.path), target, FORMATS[path.suffix], form(320, 180), MONO, wanted, tags)
    return Recording(job)


def feed(recording: Recording, seconds: float = 1.0, *, change: Change = Change.NOTHING) -> None:
    voice = Voice(0.0)
    for number in range(round(seconds * 30)):
        recording.write_frame(stamped_image(320, 180, number / 30), number / 30, change)
        for sound in voice.until(number / 30):
            recording.sound(sound, sound.time)


def frames(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as box:
        return list(box.decode(video=0))


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts", ".mov"])
def test_a_recording_is_complete(tmp_path: Path, suffix: str):
    path = tmp_path / f"call{suffix}"
    recording = begun(path)
    feed(recording, 1.5, change=Change.CORRECTED)
    assert not path.exists()
    recording.finish()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    found = frames(path)
    assert len(found) == recording.frames == 45
    offsets = [read_stamp(f) - float(f.time) for f in found]
    assert np.ptp(offsets) < 0.002
    assert all((int(f.colorspace), int(f.color_range), f.width, f.height) == (1, 1, 320, 180) for f in found)
    with av.open(str(path)) as box:
        assert box.streams.audio[0].codec_context.name == "aac"
        assert sum(f.samples for f in box.decode(audio=0)) > 48_000
        tags = {key.lower(): value for key, value in box.metadata.items()}
    if suffix != ".ts":
        assert tags["enhanced_by"] == "rtface 9.9" and tags["digital_source_type"] == DIGITAL_SOURCE_TYPE
    if suffix == ".mp4":
        assert b"xmp:CreatorTool" in path.read_bytes()


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_no_tags_without_a_corrected_face(tmp_path: Path, suffix: str):
    path = tmp_path / f"call{suffix}"
    recording = begun(path)
    feed(recording, 0.5)
    recording.finish()
    with av.open(str(path)) as box:
        assert not {"enhanced_by", "digital_source_type"} & {key.lower() for key in box.metadata}
    assert len(frames(path)) == 15


@pytest.mark.parametrize(("suffix", "whole"), [(".mkv", True), (".mp4", True), (".mp4", False)])
def test_only_brightened_is_algorithmically_enhanced(tmp_path: Path, suffix: str, whole: bool):
    path = tmp_path / f"call{suffix}"
    recording = begun(path)
    feed(recording, 1.0, change=Change.FILTERED)
    left = recording.finish() if whole else recording.give_up()
    with av.open(left or path) as box:
        tags = {key.lower(): value for key, value in box.metadata.items()}
    assert tags["digital_source_type"] == ENHANCED and tags["enhanced_by"] == "rtface 9.9"
    assert "rtface_engine" not in tags
    if suffix == ".mp4":
        assert ENHANCED.encode() in Path(left or path).read_bytes().rpartition(b"uuid")[2]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_recording_that_is_given_up_leaves_a_part(tmp_path: Path, suffix: str):
    recording = begun(tmp_path / f"call{suffix}")
    feed(recording, 3.0)
    left = recording.give_up()
    assert left == str(tmp_path / f"call.partial{suffix}") and [str(p) for p in tmp_path.iterdir()] == [left]
    assert len(frames(Path(left))) > 10


def test_nothing_recorded_leaves_nothing(tmp_path: Path):
    assert begun(tmp_path / "call.mkv").give_up() is None
    assert not list(tmp_path.iterdir())


def test_options_that_cannot_be_used(tmp_path: Path):
    with pytest.raises(UsageError, match="codec"):
        begun(tmp_path / "call.mkv", codec="nosuchcodec")
    sink = RecordSink(parse_address(str(tmp_path / "call.mkv")), Options.of({"preset": "nosuch"}), metadata={})
    with pytest.raises(UsageError, match="preset"):  # said by the child process
        sink.open(form(), sound=MONO)
    assert not list(tmp_path.iterdir())


def test_targets_are_checked_before_the_run(tmp_path: Path):
    (tmp_path / "there.mkv").write_bytes(b"old")
    for name, error in (
        ("there.mkv", OutputError),
        ("no/folder.mkv", OutputError),
        ("call.webm", UsageError),
        ("call.mxf", UsageError),
        ("call.xyz", UsageError),
    ):
        with pytest.raises(error, match=Path(name).stem):
            RecordSink(parse_address(str(tmp_path / name)), Options(), metadata={})
    assert (tmp_path / "there.mkv").read_bytes() == b"old"
