"""The reading process: ages of reordered frames, and bursts of a network through the jitter buffer."""

from __future__ import annotations

import socket
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rtface.config.addresses import parse_address
from rtface.config.options import Options
from rtface.live import session
from rtface.live.endpoint_factory import make_endpoints
from rtface.stats import Stats
from tests.live.publish import read_stamp, stamped_image
from tests.live.watching import Watched

RATE = 30


def encoded(path: Path, seconds: float, kind: str, b_frames: int = 0, *, tone: bool = False) -> Path:
    """A small film of x264 with so many B-frames between two others, and a tone or none."""
    with av.open(str(path), "w", format=kind) as out:
        stream = out.add_stream(
            "libx264",
            rate=RATE,
            options={"preset": "ultrafast", "bf": str(b_frames), "b_strategy": "0", "g": str(RATE)},
        )
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        sound = out.add_stream("aac", rate=48_000, layout="mono") if tone else None
        for number in range(round(seconds * RATE)):
            image = stamped_image(320, 180, number / RATE)
            image.pts, image.time_base = number, Fraction(1, RATE)
            out.mux(stream.encode(image))
            if sound is not None:
                wave = 0.3 * np.sin(np.arange(number * 1600, (number + 1) * 1600) / 20)
                samples = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), "fltp", "mono")
                samples.rate, samples.pts = 48_000, number * 1600
                out.mux(sound.encode(samples))
        out.mux(stream.encode(None))
    return path


def test_reordered_frames_are_no_older_than_others(tmp_path: Path):
    with Watched(str(encoded(tmp_path / "film.mkv", 2, "matroska", b_frames=3))) as watched:
        watched.until(lambda: watched.source.ended, 8)
    ages = [at - (frame.captured_at or 0.0) for at, frame in watched.frames]
    assert len(ages) >= 2 * RATE - 5
    assert np.percentile(ages, 85) < 0.06, ages  # of a reordered frame's own packet it would be 100 ms and more


class Bursts:
    """Sends a stream over TCP to one receiver; every `held` seconds all that was made meanwhile."""

    def __init__(self, packets: list[tuple[float, bytes]], held: float) -> None:
        self._packets, self._held = packets, held
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._send, daemon=True).start()

    def _send(self) -> None:
        with self._server, self._server.accept()[0] as connection:
            began = time.monotonic()
            for made, data in self._packets:
                due = began + (-(-made // self._held)) * self._held
                time.sleep(max(0.0, due - time.monotonic()))
                try:
                    connection.sendall(data)
                except OSError:
                    return
            time.sleep(30)  # closing it is another matter


def chunks(path: Path) -> list[tuple[float, bytes]]:
    """A transport stream in pieces of one frame, and when each is made."""
    with av.open(str(path)) as box:
        sizes = [
            (float((packet.dts or 0) * packet.time_base), packet.pos or 0)
            for packet in box.demux(box.streams.video[0])
            if packet.size
        ]
    data, first = path.read_bytes(), sizes[0][0]
    ends = [at for _, at in sizes[1:]] + [len(data)]
    begins = [0, *ends[:-1]]
    return [(stamp - first, data[a:b]) for (stamp, _), a, b in zip(sizes, begins, ends, strict=True)]


def test_bursts_of_a_network_lose_no_frame(tmp_path: Path):
    packets = chunks(encoded(tmp_path / "film.ts", 6, "mpegts"))
    sender = Bursts(packets, 0.25)
    with Watched(sender.url, buffer=None) as watched:
        watched.until(lambda: watched.source.health.frames > 3 * RATE, 15)
        health = watched.source.health
    assert health.dropped == 0
    assert 0.15 < health.buffer < 0.5
    late = [at for at, _ in watched.frames[RATE:]]
    steps = np.diff(late)
    assert np.percentile(steps, 90) < 2.2 / RATE  # evenly, not a burst and a pause
    pts = np.diff([frame.time for _, frame in watched.frames[RATE:]])
    assert pts.max() < 1.5 / RATE  # every frame is there


def test_a_recorded_stream_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Neither what comes while the opening looks and the engine loads, nor the end; and each is at its time."""
    load = session.live_tracker_and_runtime
    monkeypatch.setattr(session, "live_tracker_and_runtime", lambda *given: (time.sleep(2.5), load(*given))[1])
    packets = chunks(encoded(tmp_path / "film.ts", 5, "mpegts", tone=True))
    sender, stop, path = Bursts(packets, 1 / RATE), threading.Event(), tmp_path / "out.mkv"
    options, stats = Options(device="cpu", tracker="none"), Stats()
    ends = make_endpoints(parse_address(sender.url), parse_address(str(path)), options, stats)
    began = time.monotonic()

    def monitor(live: session.LiveSession) -> None:
        if live.ends.source.health.frames >= 5 * RATE - 2 or time.monotonic() - began > 60:
            stop.set()

    session.run_live(ends, options, stats=stats, stop=stop, monitor=monitor)
    with av.open(str(path)) as box:
        shown = dict[int, float]()
        for image in box.decode(video=0):  # the last one may be shown again
            shown.setdefault(round(RATE * read_stamp(image)), image.time)
    assert set(range(5 * RATE - 4)) <= set(shown), sorted(set(range(5 * RATE)) - set(shown))
    moved = [time - number / RATE for number, time in sorted(shown.items())]
    assert max(moved) - min(moved) < 0.03, moved
    with av.open(str(path)) as box:
        heard = [(block.time - moved[0], np.abs(block.to_ndarray()).max()) for block in box.decode(audio=0)]
    assert all(loud > 0.1 for time, loud in heard if 0.1 < time < 4.7)
