"""Small films and stills for whole runs, and a known engine in place of a network."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from tests.pipeline.fakes import FakeEngines, portrait


class Engines(FakeEngines):
    described = ("fake", "cpu f32")


def film(path: Path, *, frames: int = 20, face: bool = True, codec: str = "ffv1", sound: bool = False) -> Path:
    """320×180 with the portrait moving slowly, blurred; or a plain gradient."""
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt = 320, 180, "yuv420p"
        audio = out.add_stream("aac", rate=48000) if sound else None
        for t in range(frames):
            if face:
                picture, _ = portrait(shift=(0.5 * t, 0.0))
            else:
                picture = np.tile(np.linspace(20, 230, 320)[None, :, None], (180, 1, 3)).astype(np.uint8)
                picture = np.roll(picture, 3 * t, axis=1)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = t, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio is not None:
            for k in range(frames * 1920 // 1024):
                wave = np.sin(np.arange(1024) / 20).astype(np.float32)[None] * 0.1
                block = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
                block.sample_rate, block.pts, block.time_base = 48000, k * 1024, Fraction(1, 48000)
                out.mux(audio.encode(block))
            out.mux(audio.encode(None))
    return path


def still(path: Path, *, blur: float = 2.0, depth: int = 8, face: bool = True) -> Path:
    picture, _ = portrait(480, 360, scale=1.3, blur=blur)
    if not face:
        picture = np.ascontiguousarray(picture[:, :100])
    if depth == 16:
        picture = picture.astype(np.uint16) * 257
    assert cv2.imwrite(str(path), picture[..., ::-1])
    return path
