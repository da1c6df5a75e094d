"""Chroma location and field order of frames."""

from __future__ import annotations

import random
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.filter import Graph

from rtface.media.read.frame_details import details_of

ROOT = Path(__file__).parents[2]


def marked(place: str, order: str, format: str) -> av.VideoFrame:
    image = av.VideoFrame(64, 48, format)
    image.pts, image.time_base = 7, Fraction(1, 25)
    graph = Graph()
    graph.link_nodes(
        graph.add_buffer(width=64, height=48, format=image.format, time_base=Fraction(1, 25)),
        graph.add("setparams", f"chroma_location={place}:field_mode={order}"),
        graph.add("buffersink"),
    ).configure()
    graph.push(image)
    return graph.pull()


@pytest.mark.parametrize(
    ("place", "order", "format"),
    [
        ("left", "tff", "yuv420p"),
        ("center", "bff", "yuvj420p"),
        ("topleft", "bff", "yuv420p10le"),
        ("bottomleft", "tff", "nv12"),
        ("unspecified", "bff", "yuv422p"),
        ("unspecified", "tff", "rgb24"),
        ("top", "prog", "yuv420p"),
    ],
)
def test_what_a_frame_says(place: str, order: str, format: str) -> None:
    image = marked(place, order, format)
    assert details_of(image) == (place if place != "unspecified" else None, "bff" if order == "bff" else "tff")
    assert (image.pts, image.time_base) == (7, Fraction(1, 25))


@pytest.mark.slow
def test_closing_decoders_that_log_blocks_nothing(tmp_path: Path) -> None:
    """Threads of a decoder that log a fault must not wait for Python: whoever closes the decoder waits for them."""
    noise = random.Random(0)
    with av.open(str(tmp_path / "noise.mp4"), "w") as film:
        stream = film.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height = 256, 192
        for _ in range(24):
            image = av.VideoFrame(256, 192, "yuv420p")
            for plane in image.planes:
                plane.update(noise.randbytes(plane.buffer_size))
            film.mux(stream.encode(image))
        film.mux(stream.encode(None))
    done = subprocess.run(
        [sys.executable, "-m", "tests.media.close_decoders", str(tmp_path / "noise.mp4")],
        cwd=ROOT,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
