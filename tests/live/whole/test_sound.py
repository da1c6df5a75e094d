"""Sound that comes late, changes or ends: what viewers of the published stream get, from real servers."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from tests.live.servers import Nginx, Process, program, running
from tests.live.whole.scene import PASSING, sent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
HERTZ = 1000.0


def made(
    path: Path, seconds: float, *, sound_at: float | None = 0.0, rate: int = 48_000, layout: str = "stereo"
) -> Path:
    """A film of grey frames at 15 fps, with a tone from `sound_at` on."""
    with av.open(str(path), "w") as box:
        video = box.add_stream("libx264", 15, options={"preset": "ultrafast", "g": "15", "bf": "0"})
        video.width, video.height, video.pix_fmt = 320, 180, "yuv420p"
        tone = box.add_stream("aac", rate=rate, layout=layout) if sound_at is not None else None
        for number in range(round(seconds * 15)):
            image = av.VideoFrame.from_ndarray(np.full((270, 320), 90 + number % 60, np.uint8), "yuv420p")
            image.pts, image.time_base = number, Fraction(1, 15)
            box.mux(video.encode(image))
        box.mux(video.encode(None))
        if tone is not None and sound_at is not None:
            count = round((seconds - sound_at) * rate)
            wave = (0.3 * np.sin(2 * np.pi * HERTZ * np.arange(count) / rate)).astype(np.float32)
            for at in range(0, count, 1024):
                part = np.tile(wave[None, at : at + 1024], (1 if layout == "mono" else 2, 1))
                frame = av.AudioFrame.from_ndarray(part, "fltp", layout)
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = at + round(sound_at * rate)
                box.mux(tone.encode(frame))
            box.mux(tone.encode(None))
    return path


@contextlib.contextmanager
def kept(url: str, path: Path) -> Iterator[Process]:
    """FFmpeg as a viewer that keeps what it gets."""
    with running(
        Process(
            [program("FFMPEG"), "-v", "error", "-y", "-i", url, "-c", "copy", "-flush_packets", "1", str(path)],
            path.with_suffix(".log"),
        )
    ) as viewer:
        yield viewer


def times(path: Path) -> dict[str, list[float]]:
    """Times of the packets of each kind."""
    found: dict[str, list[float]] = {"video": [], "audio": []}
    with av.open(str(path)) as box:
        for packet in box.demux():
            if packet.pts is not None:
                found[packet.stream.type].append(float(packet.pts * packet.time_base))
    return found


def steps(some: list[float]) -> float:
    return max(b - a for a, b in pairwise(sorted(some)))


def tones(path: Path, piece: float = 0.5) -> list[float]:
    """The tone's frequency in each piece, 0 where it is silent."""
    with av.open(str(path)) as box:
        rate = box.streams.audio[0].sample_rate
        wave = np.concatenate([f.to_ndarray()[0] for f in box.decode(audio=0)])
    found: list[float] = []
    size = round(piece * rate)
    for at in range(0, len(wave) - size, size):
        part = wave[at : at + size]
        spectrum = np.abs(np.fft.rfft(part * np.hanning(size)))
        found.append(float(spectrum.argmax()) * rate / size if np.abs(part).mean() > 0.02 else 0.0)
    return found


@pytest.mark.parametrize("late", [0.3, 2.0])
def test_a_film_whose_sound_begins_late_is_published_whole(late: float, nginx: Nginx, rtface, tmp_path: Path):
    film, recorded = made(tmp_path / "film.mp4", 6, sound_at=late), tmp_path / "recorded.mkv"
    with kept(nginx.url("out"), tmp_path / "seen.flv"):
        run = rtface(film, nginx.url("out"), *PASSING, "--also", recorded)
        run.process.wait(60)
        time.sleep(1)
    seen = times(tmp_path / "seen.flv")
    assert run.process.returncode == 0
    assert len(seen["video"]) > 75 and steps(seen["video"]) < 0.3 and steps(seen["audio"]) < 0.1
    for path in (tmp_path / "seen.flv", recorded):
        heard = tones(path)
        assert len(heard) >= 9 and abs(heard[-2] - HERTZ) < 5 and abs(heard[-3] - HERTZ) < 5
        assert late < 1 or heard[0] == 0.0
    whole = times(recorded)
    assert abs(whole["audio"][0] - whole["video"][0]) < 0.1 and steps(whole["audio"]) < 0.1


def test_viewers_get_every_change_of_the_sound(nginx: Nginx, rtface, tmp_path: Path):
    """48 kHz stereo; 44.1 kHz mono of another encoder, at once and after a loss; no sound; the first again."""
    one = made(tmp_path / "one.mp4", 6)
    other, mute = (
        made(tmp_path / "other.mp4", 6, rate=44_100, layout="mono"),
        made(tmp_path / "mute.mp4", 5, sound_at=None),
    )
    log, source = tmp_path / "sent.log", nginx.url("in")
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(running(sent(one, source, log, again=True)))
        run = rtface(source, nginx.url("out"), *PASSING, "--also", tmp_path / "recorded.mkv")
        run.runs(5)
        with kept(nginx.url("out"), tmp_path / "seen.flv"):
            run.gives(4 * 15)
            first.kill()
            stack.enter_context(running(sent(other, source, log))).wait(20)  # within the connection
            run.until_status(lambda s: s["source"]["state"] == "away")
            time.sleep(1)
            for film in (other, mute, one):
                stack.enter_context(running(sent(film, source, log))).wait(20)
        status = run.status()
        run.end()
    assert status["sinks"][0]["reopened"] == 0 and status["sinks"][0]["state"] == "live"
    for path in (tmp_path / "seen.flv", tmp_path / "recorded.mkv"):
        seen = times(path)
        # A busy machine leaves frames out; a hole of a lost source would last for seconds.
        assert steps(seen["video"]) < 1.0 and steps(seen["audio"]) < 0.1
        heard = tones(path)
        assert sum(abs(h - HERTZ) < 5 for h in heard) > 25
        assert not [h for h in heard if h and abs(h - HERTZ) > 20]
        assert len(heard) * 0.5 == pytest.approx(seen["video"][-1] - seen["video"][0], abs=2)
