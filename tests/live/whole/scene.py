"""What the command is given, and what came out of it."""

from __future__ import annotations

import statistics
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from skimage import data

from tests.live.servers import Process, program

# A stop may take a second; the rest is for a busy machine.
STOP_S = 1.5
PASSING = ("--tracker", "none", "--control", "0")


def portrait(path: Path, seconds: int = 4, rate: int = 12) -> Path:
    """A soft portrait that drifts, 320×180, tagged BT.709, with a tone."""
    face = cv2.GaussianBlur(np.ascontiguousarray(data.astronaut()[:300, 60:480]), (0, 0), 2.0)
    with av.open(str(path), "w") as film:
        video = film.add_stream("libx264", rate, options={"preset": "ultrafast", "crf": "16"})
        video.width, video.height, video.pix_fmt = 320, 180, "yuv420p"
        context = video.codec_context
        context.gop_size, context.color_range, context.colorspace = rate, 1, 1
        context.color_primaries = context.color_trc = 1
        tone = film.add_stream("aac", 48_000, layout="mono")
        for i in range(seconds * rate):
            shift = np.float32([[0.72, 0, 8 + 4 * np.sin(i / 8)], [0, 0.72, -8]])
            frame = av.VideoFrame.from_ndarray(
                cv2.warpAffine(face, shift, (320, 180), borderMode=cv2.BORDER_REPLICATE), "rgb24"
            )
            frame.pts, frame.time_base = i, Fraction(1, rate)
            film.mux(video.encode(frame))
        film.mux(video.encode(None))
        samples = 0.1 * np.sin(2764 * np.arange(seconds * 48_000) / 48_000)
        wave = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], "fltp", "mono")
        wave.sample_rate, wave.pts, wave.time_base = 48_000, 0, Fraction(1, 48_000)
        film.mux(tone.encode(wave))
        film.mux(tone.encode(None))
    return path


def sent(film: Path, url: str, log: Path, *, again: bool = False) -> Process:
    """FFmpeg publishing a film, once or for ever."""
    loop = "-1" if again else "0"
    how = ["-v", "error", "-re", "-stream_loop", loop, "-i", str(film), "-c", "copy", "-max_interleave_delta", "100000"]
    return Process([program("FFMPEG"), *how, "-f", "flv", url], log)


def watched(url: str, count: int, timeout: float = 20) -> tuple[list[av.VideoFrame], set[str]]:
    """So many frames of a stream, and the codecs that came."""
    frames: list[av.VideoFrame] = []
    codecs: set[str] = set()
    until = time.monotonic() + timeout
    with av.open(url, timeout=(timeout, 10)) as box:
        for packet in box.demux():
            codecs.add(packet.stream.codec_context.name)
            if packet.stream.type == "video":
                frames += packet.decode()
            if len(frames) >= count and len(codecs) == len(box.streams):
                break
            assert time.monotonic() < until, f"only {len(frames)} frames came"
    return frames, codecs


def detail(frames: list[av.VideoFrame], box: tuple[slice, slice]) -> float:
    """How much fine detail a part of the frames has."""
    return statistics.median(float(cv2.Laplacian(f.to_ndarray()[:180, :320][box], cv2.CV_64F).std()) for f in frames)
