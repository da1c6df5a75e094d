"""A read worker that rests: it gives a frame now and then, and decodes the others only where it has to."""

from __future__ import annotations

import queue
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from rtface.live.messages import SourceRequest, VideoFrameReady
from rtface.live.sources import packet_queue, read_worker
from rtface.live.sources.open_stream import open_stream
from rtface.live.sources.read_worker import ReadWorker

FRAMES = 12


class Parent:
    """Takes what the worker sends; `say` is a message of the parent."""

    gone = False

    def __init__(self) -> None:
        self.frames, self.sent, self.say = self, list[Any](), queue.SimpleQueue[Any]()

    def put(self, image: av.VideoFrame) -> int:
        return 0

    def send(self, message: object) -> None:
        self.sent.append(message)

    def receive(self, timeout: float | None = None) -> Any | None:
        message = self.say.get(timeout=5)
        self.gone = message is None
        return message

    @property
    def shown(self) -> int:
        return sum(isinstance(message, VideoFrameReady) for message in self.sent)


class Progressive:
    """Counts the frames that were decoded."""

    notes, count = (), 0

    def __call__(self, image: av.VideoFrame) -> list[av.VideoFrame]:
        self.count += 1
        return [image]


def film(path: Path, codec: str) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=Fraction(100))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(FRAMES):
            picture = np.full((48, 64, 3), 10 * number, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=stream.pix_fmt)))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("codec", "resting", "decoded", "shown"),
    [
        ("mjpeg", True, 1, 1),
        ("mjpeg", False, FRAMES, FRAMES),
        ("mpeg4", True, FRAMES, 1),
        ("mpeg4", False, FRAMES, FRAMES),
    ],
)
def test_what_is_decoded_and_shown(
    codec: str, decoded: int, shown: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, resting: bool
) -> None:
    for module in (read_worker, packet_queue):
        monkeypatch.setattr(module, "REST_S", 1e9)
    request = SourceRequest("file", str(film(tmp_path / "film.mkv", codec)), sound=False, resting=resting)
    parent, images = Parent(), Progressive()
    monkeypatch.setattr(read_worker, "DeinterlaceToneMap", lambda: images)
    ReadWorker(parent, request).run(open_stream(request))  # pyright: ignore[reportArgumentType]
    assert (images.count, parent.shown) == (decoded, shown)


def test_the_parent_ends_the_rest() -> None:
    parent = Parent()
    request = SourceRequest("file", "", resting=True)
    worker = ReadWorker(parent, request)  # pyright: ignore[reportArgumentType]
    for message in (request, replace(request, resting=False), None):
        parent.say.put(message)
    worker.follow()
    assert not worker.queue.resting
