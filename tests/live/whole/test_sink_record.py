"""A live run into a file: what is in it, and what is left when the disk is full or a process is killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest

from rtface.config.addresses import parse_address
from rtface.config.options import Options
from rtface.live.sinks.record_sink import RecordSink
from rtface.media.files.leftovers import clear_leftovers
from rtface.media.files.outputs import check_target
from rtface.media.marks.provenance import describe
from tests.live.feed import MONO, Feed, at_once, form
from tests.live.publish import read_stamp

TAGS = describe("rtface-s 0.1", "9.9", 0.8)


def recorded(path: Path, **options: object):
    """A sink into a file, open."""
    sink = RecordSink(parse_address(str(path)), Options.of(options), metadata=TAGS)
    sink.open(form(), sound=MONO)
    return sink


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as box:
        return list(box.decode(video=0))


def partials(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if "partial" in p.name]


@pytest.fixture
def at_once_for_each(tmp_path: Path) -> Callable[[Callable[[Path, str], None]], None]:
    """Runs a check for Matroska and MP4, each in a folder of its own."""

    def run(check: Callable[[Path, str], None]) -> None:
        for suffix in ("mkv", "mp4"):
            (tmp_path / suffix).mkdir()
        at_once(*(partial(check, tmp_path / suffix, suffix) for suffix in ("mkv", "mp4")))

    return run


def test_recordings_are_whole(at_once_for_each):
    at_once_for_each(_is_whole)


def _is_whole(folder: Path, suffix: str) -> None:
    """In sync, and playable while it is written; `tests.live.sinks.test_recording` holds the rest."""
    path = folder / f"call.{suffix}"
    sink = recorded(path)
    feed = Feed(sink, form(), corrected=True)
    feed.run(1.8)
    while partials(folder)[0].stat().st_size < 4000:
        feed.run(0.2)
    assert not path.exists() and len(partials(folder)) == 1
    playing = decoded(partials(folder)[0])  # at any moment
    assert playing
    before = time.monotonic()
    sink.close()
    assert time.monotonic() - before < 2  # a second, and what a busy machine takes
    assert [p.name for p in folder.iterdir()] == [path.name]
    assert sink.health.state == "closed"
    frames = decoded(path)
    assert len(frames) == sink.health.frames >= 20
    times = np.array([f.time for f in frames])
    stamps = np.array([read_stamp(f) for f in frames])
    assert np.ptp(stamps - times) < 0.002
    with av.open(str(path)) as box:
        sound = list(box.decode(audio=0))
    samples = np.concatenate([f.to_ndarray()[0] for f in sound])
    loud = np.nonzero(np.abs(samples) > 0.1)[0]
    onsets = [int(n) for n, step in zip(loud, np.diff(loud, prepend=-10_000), strict=True) if step > 5000]
    first = float(sound[0].time)
    offset = float(np.median(stamps - times))
    assert onsets
    for n in onsets:  # tones begin with the clock's seconds, unless the recording began inside of one
        at = first + n / 48_000 + offset
        assert abs(at - round(at)) < 0.004 or n < 5000


@pytest.mark.skipif(sys.platform != "linux", reason="sets another process's limits")
def test_a_full_disk_ends_the_recording_and_nothing_else(at_once_for_each):
    at_once_for_each(_disk_is_full)


def _disk_is_full(folder: Path, suffix: str) -> None:
    import resource

    sink = recorded(folder / f"call.{suffix}", crf=8.0)
    feed = Feed(sink, form(), texture=True)
    feed.run(0.3)
    resource.prlimit(sink.pid, resource.RLIMIT_FSIZE, (900_000, 900_000))  # type: ignore[attr-defined]
    feed.until("closed", 15)
    frames, dropped = sink.health.frames, sink.health.dropped
    assert "limit is reached" in sink.health.detail and any("limit is reached" in line for line in sink.notes)
    feed.run(0.5)
    assert sink.health.frames == frames and sink.health.dropped <= dropped + 16  # it is over: nothing is given up
    feed.check_that_no_call_waited()
    sink.close()
    assert "limit is reached" in sink.health.detail
    assert [p.name for p in folder.iterdir()] == [f"call.partial.{suffix}"]
    assert len(decoded(folder / f"call.partial.{suffix}")) > 5


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills a process")
def test_a_killed_child_leaves_a_part_that_plays(at_once_for_each):
    at_once_for_each(_child_is_killed)


def _child_is_killed(folder: Path, suffix: str) -> None:
    sink = recorded(folder / f"call.{suffix}")
    feed = Feed(sink, form())
    feed.run(2)
    os.kill(sink.pid, signal.SIGKILL)  # type: ignore[attr-defined]
    feed.run(0.5)
    assert sink.health.state == "closed" and "SIGKILL" in sink.health.detail
    sink.close()
    (left,) = folder.iterdir()
    assert left.name == f"call.partial.{suffix}"
    assert len(decoded(left)) > 15


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="stops a process")
def test_a_recording_that_is_not_complete_in_time_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("rtface.live.sinks.record_sink.CLOSING_S", 0.1)
    monkeypatch.setattr("rtface.live.sinks.record_sink.SETTLING_S", 60.0)
    sink = recorded(tmp_path / "call.mkv")
    Feed(sink, form()).run(1)
    os.kill(sink.pid, signal.SIGSTOP)  # type: ignore[attr-defined]
    sink.close()
    (left,) = tmp_path.iterdir()
    assert left.name == "call.partial.mkv" and sink.recorded.path == str(left)
    assert sink.notes == [f"{tmp_path / 'call.mkv'}: {sink.health.detail}"] and str(left) in sink.health.detail


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills a process")
def test_the_whole_group_killed_leaves_a_part_that_plays(tmp_path: Path):
    import subprocess

    folder = tmp_path / "recordings"
    folder.mkdir()

    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from tests.live.whole.test_sink_record import Feed, form, recorded\n"
        "Feed(recorded(Path(sys.argv[2])), form(), texture=True).run(60)\n"
    )
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(root), str(folder / "call.mkv")], start_new_session=True
    )
    try:
        until = time.monotonic() + 30
        while not (left := list(folder.iterdir())) or left[0].stat().st_size < 500_000:
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.1)
        assert not clear_leftovers(check_target(folder / "call.mkv", inputs=[], overwrite=False), live=True)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    (part,) = folder.iterdir()
    assert part.name.startswith(".call.") and len(decoded(part)) > 10
    target = check_target(folder / "call.mkv", inputs=[], overwrite=False)
    (line,) = clear_leftovers(target, live=True)
    assert "--start" not in line and [p.name for p in folder.iterdir()] == ["call.partial.mkv"]
