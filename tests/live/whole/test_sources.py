"""Live sources that need no server: films, stand-ins for devices, and what is handed over."""

from __future__ import annotations

import os
import signal
import statistics
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from rtface.live.messages import SourceRequest
from rtface.live.protocols import SoundPacket
from rtface.live.sources.open_source import open_sound_source
from rtface.live.sources.reconnecting_source import ReconnectingSource
from rtface.media.formats.adts_headers import adts_config, config_for
from rtface.stats import Stats
from tests.live.publish import film
from tests.live.watching import Watched, decoded, reader_of


def test_a_film_is_played_in_real_time_to_its_end(tmp_path: Path):
    with Watched(str(film(tmp_path / "film.mkv", 2)), stamped=True) as watched:
        assert watched.source.described.endswith("film.mkv, 640×360 h264, 20 fps, sound aac")
        watched.until(lambda: watched.source.ended, 6)
        health = watched.source.health
    assert (health.state, health.detail, health.dropped) == ("closed", "it ended", 0)
    assert len(watched.frames) in (40, 41)
    # As far apart as they were made, and no frame missed.
    apart = [at - made for (at, _), made in zip(watched.frames, watched.made, strict=True)]
    assert max(apart) - min(apart) < 0.15
    assert 85 <= len(watched.sounds) <= 98
    assert all(abs(f.time - (f.captured_at or 0)) < 0.1 for _, f in watched.frames)


def test_a_film_with_its_sound_last_plays_at_its_pace(tmp_path: Path):
    whole, path = film(tmp_path / "film.mkv", 3), tmp_path / "apart.mp4"
    with av.open(whole) as box, av.open(path, "w", container_options={"max_interleave_delta": "1"}) as out:
        streams = [out.add_stream_from_template(s) for s in (box.streams.video[0], box.streams.audio[0])]
        packets = [p for p in box.demux() if p.dts is not None]
        for kind, stream in zip(("video", "audio"), streams, strict=True):
            for packet in [p for p in packets if p.stream.type == kind]:
                packet.stream = stream
                out.mux_one(packet)
    with Watched(str(path), stamped=True) as watched:
        watched.until(lambda: watched.source.ended, 8)
    apart = [at - made for (at, _), made in zip(watched.frames, watched.made, strict=True)]
    assert len(watched.frames) >= 58 and max(apart) - min(apart) < 0.3
    late = [at - sound.time for at, sound in watched.sounds]
    assert len(late) > 130 and max(late) - min(late) < 0.3


def test_a_film_goes_on_where_its_reading_process_died(tmp_path: Path):
    with Watched(str(film(tmp_path / "film.mkv", 3)), stamped=True) as watched:
        watched.more(30, 5)
        reached = watched.made[-1]
        os.kill(reader_of(os.getpid()), signal.SIGKILL)
        watched.state("away", 2)
        watched.until(lambda: watched.source.ended, 8)
    again = [made for (at, _), made in zip(watched.frames, watched.made, strict=True)][30:]
    assert min(again) > reached - 1.3  # from the I-frame before
    assert watched.made[-1] - watched.made[0] > 2.9


def stand_in(name: str, **options: Any) -> ReconnectingSource:
    """A camera that is FFmpeg's own test frame, by the code that reads cameras."""
    return ReconnectingSource(SourceRequest("camera", name, format="lavfi", **options), "camera 0", stats=Stats())


def test_a_camera_gives_its_pictures_at_once():
    with Watched(stand_in("testsrc2=size=640x360:rate=30,realtime", fps=Fraction(60))) as watched:
        watched.more(60, 6)
        assert watched.source.notes == ["camera 0: the camera delivers 640×360 at 30 fps; 60 fps was requested"]
        assert watched.source.health.bytes is None
    late = [at - (f.captured_at or 0) for at, f in watched.frames]
    assert statistics.median(late) < 0.02
    assert watched.source.video_format.rate == 30


def test_one_that_is_faster_than_the_machine_does_not_queue_up():
    # As fast as it can be made: 1080p, far more than anybody takes.
    with Watched(stand_in("testsrc2=size=1920x1080:rate=1000")) as watched:
        watched.more(50, 10)
        time.sleep(1)
        assert max(at - (f.captured_at or 0) for at, f in watched.frames[5:]) < 1.0


def test_a_device_is_heard_in_time_and_encoded():
    # A stand-in for the platform's device: FFmpeg's own tone, by the code that reads microphones.
    source = open_sound_source("sine=frequency=1000:sample_rate=44100,arealtime", format="lavfi")
    sounds: list[tuple[float, SoundPacket]] = []
    source.start(lambda _: None, lambda sound: sounds.append((time.monotonic(), sound)))
    assert source.health.state == "live" and "sound pcm" in source.described
    time.sleep(3)
    began = time.monotonic()
    source.close()
    assert time.monotonic() - began < 1 and source.health.state == "closed"
    assert {adts_config(s.data)[0] for _, s in sounds} == {config_for(48_000, 1)}
    assert len(sounds) == pytest.approx(3 * 46.875, abs=12)
    assert all(abs(at - s.time) < 0.3 for at, s in sounds)
    assert np.abs(np.diff([s.time for _, s in sounds]) - 1024 / 48_000).max() < 0.001
    samples = decoded([s for _, s in sounds])
    assert np.abs(np.fft.rfft(samples)).argmax() * 48_000 / len(samples) == pytest.approx(1000, abs=2)
