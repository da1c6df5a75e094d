"""A cut gives the frames that decoding from the beginning gives, and releases its memory when it is closed."""

from __future__ import annotations

import gc
import hashlib
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.stream import VideoStream

from rtface.frame import Frame
from rtface.media.read.source import FileSource

RATE, FRAMES = 25, 30


def make_film(path: Path, encoder: str, options: dict[str, str]) -> None:
    """Noise that moves; one keyframe, and B-frames of which some are referred to."""
    draw = np.random.default_rng(1)
    noise = draw.integers(0, 255, (96, 256, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=RATE, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 128, 96, "yuv420p", 300
        for number in range(FRAMES):
            picture = np.ascontiguousarray(noise[:, 3 * number : 3 * number + 128])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def read(path: Path, start: float | None = None, most: int = FRAMES) -> list[tuple[float, str]]:
    source, found = FileSource(path, start=start), list[tuple[float, str]]()
    for item in source:
        if isinstance(item, Frame):
            samples = b"".join(bytes(plane) for plane in item.image.planes)
            found.append((round(item.time - float(source.info.clock_start), 3), hashlib.sha256(samples).hexdigest()))
            if len(found) == most:
                break
    source.close()
    return found


@pytest.mark.parametrize(
    ("name", "encoder", "options"),
    [
        ("film.mp4", "libx264", {"x264-params": "bframes=5:b-adapt=0:b-pyramid=normal:scenecut=0"}),
        ("film.avi", "mpeg4", {"bf": "2", "sc_threshold": "1000000000"}),
    ],
)
def test_cut_gives_the_frames_of_the_film(tmp_path: Path, name: str, encoder: str, options: dict[str, str]) -> None:
    film = tmp_path / name
    make_film(film, encoder, options)
    whole = read(film)
    assert len(whole) == FRAMES
    for first in range(1, FRAMES - 1):
        assert read(film, whole[first][0] - 0.001, most=2) == whole[first : first + 2]


def test_closed_film_leaves_no_frames_to_the_garbage_collector(tmp_path: Path) -> None:
    make_film(tmp_path / "film.mp4", "libx264", {})
    read(tmp_path / "film.mp4", 0.4)
    gc.collect()
    gc.disable()
    try:
        gc.set_debug(gc.DEBUG_SAVEALL)
        read(tmp_path / "film.mp4", 0.4)
        gc.collect()
        assert not [one for one in gc.garbage if isinstance(one, av.VideoFrame)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
