"""A whole live run at the pace of its film or frames, with the real tracker and engine."""

from __future__ import annotations

import time

import av
import numpy as np


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
