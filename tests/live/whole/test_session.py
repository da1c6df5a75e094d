"""A whole live run between stand-ins for the ends, with the real tracker and engine."""

from __future__ import annotations

import threading
import time
from fractions import Fraction

import av
import numpy as np

from rtface.frame import Color, Display, Frame
from rtface.live.protocols import TIME_BASE, VideoFormat
from rtface.live.session import Endpoints, LiveSession, run_live
from rtface.options import Options
from rtface.stats import Stats
from tests.live.live_fakes import FakeSink, FakeSource

PASSING = Options(tracker="none", device="cpu")
PORTRAIT = VideoFormat(320, 240, "yuv420p", Fraction(2), Color("bt601"))  # time enough on any machine


def portrait(number: int) -> Frame:
    """The astronaut's face, soft, as it would come now."""
    import cv2
    from skimage import data

    rgb = cv2.GaussianBlur(cv2.resize(data.astronaut()[:240, 60:380], (320, 240)), (0, 0), 1.6)
    rgb = np.roll(rgb, number % 3, axis=1)
    image = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="yuv420p")
    now = time.monotonic()
    return Frame(image, round(1e6 * now), TIME_BASE, color=PORTRAIT.color, display=Display(), captured_at=now)


class Run:
    """`run_live` on a thread, fed by the test."""

    def __init__(self, options: Options = PASSING, source: FakeSource | None = None, sinks=None, **more) -> None:
        self.source, self.sinks, self.stop = source or FakeSource(), sinks or [FakeSink()], threading.Event()
        self.ends, self.stats = Endpoints(self.source, self.sinks, **more), Stats()
        self.begun, self.report, self.error = threading.Event(), None, None
        self.live: LiveSession | None = None
        self.options = options
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        def look(live: LiveSession) -> None:
            self.live = live
            self.begun.set()
        try:
            self.report = run_live(self.ends, self.options, stats=self.stats, stop=self.stop, look=look)
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.error = error

    def __enter__(self):
        self._thread.start()
        assert self.begun.wait(30), self.error
        return self

    def __exit__(self, *exc) -> None:
        self.end()

    def end(self) -> float:
        """Stops it; seconds that took."""
        began = time.monotonic()
        self.stop.set()
        self._thread.join(10)
        assert not self._thread.is_alive()
        return time.monotonic() - began


def test_a_face_is_enhanced_live_and_the_report_says_so(tmp_path):
    options = Options(device="cpu", latency=10_000, report=tmp_path / "report.json", light=0.0)
    with Run(options, FakeSource(PORTRAIT)) as run:
        for number in range(12):
            run.source.give(portrait(number))
            run.sinks[0].wait_for(number + 1, 10)
        line = run.live.status.line(200)
    report = run.report
    assert report.engine == "rtface-s"
    assert report.frames_out in (11, 12)  # the last is written, and counted a moment later
    assert report.frames_corrected >= 6
    assert sum(f.touched for f in run.sinks[0].frames) == report.frames_corrected
    assert run.live.governor.summary() == "1 face: full"
    assert report.latency_ms["p50"] > 0
    assert "1 face" in line
    assert (tmp_path / "report.json").exists()


def test_the_python_function_goes_live_too(tmp_path):
    import rtface

    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30, options={"g": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(30):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 8, np.uint8), "rgb24")))
        out.mux(stream.encode(None))
    began = time.monotonic()
    report = rtface.run(path, "null:", tracker="none", device="cpu")
    assert time.monotonic() - began > 0.9  # at its own pace
    assert report.frames_out >= 20
    assert [end["name"] for end in report.ends] == [str(path), "null:"]
