"""A whole live run at the pace of its film or frames, with the real tracker and engine."""

from __future__ import annotations

import time

import av
import numpy as np

from rtface.config.options import Options
from rtface.live.control.status_text import line_of
from tests.live.live_fakes import FakeSource
from tests.live.test_run import PORTRAIT, Run, portrait


def test_a_face_is_enhanced_live_and_the_report_says_so(tmp_path):
    options = Options(device="cpu", latency=10_000, report=tmp_path / "report.json", light=0.0)
    with Run(options, FakeSource(PORTRAIT)) as run:
        for number in range(12):
            run.source.give(portrait(number))
            run.sinks[0].wait_for(number + 1, 10)
        line = line_of(run.live.status, 200)
    report = run.report
    assert report.engine == "rtface-s"
    assert report.frames_out in (11, 12)  # the last is written, and counted a moment later
    assert report.frames_corrected >= 6
    assert sum(f.touched for f in run.sinks[0].frames) == report.frames_corrected
    assert run.live.governor.levels == ["full"]
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
