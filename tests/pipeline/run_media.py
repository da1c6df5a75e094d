"""Small films and stills for whole runs, and a known engine in place of a network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from tests.pipeline.fakes import FakeEngines, portrait


class Engines(FakeEngines):
    described = ("fake", "cpu f32")


def write_film(
    path: Path,
    pictures: Iterable[np.ndarray],
    *,
    codec: str = "ffv1",
    rate: Fraction | int = 25,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    pts: Sequence[int] | None = None,
    base: Fraction | None = None,
    sound: bool = False,
) -> Path:
    """A film of RGB or grey uint8 pictures, with a tone where `sound` is set; `pts` are in units of `base`."""
    with av.open(str(path), "w") as out:
        video, base, frames = out.add_stream(codec, rate=rate, options=options or {}), base or 1 / Fraction(rate), 0
        audio = out.add_stream("aac", rate=48000) if sound else None
        for t, picture in enumerate(pictures):
            if not t:
                video.height, video.width = picture.shape[:2]
                video.pix_fmt = pix_fmt
                video.codec_context.time_base = base
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24" if picture.ndim == 3 else "gray")
            frame.pts, frame.time_base = t if pts is None else pts[t], base
            out.mux(video.encode(frame.reformat(format=pix_fmt)))
            frames += 1
        out.mux(video.encode(None))
        first = 0 if pts is None else round(48000 * pts[0] * base)
        for k in range(frames * 1920 // 1024 if audio is not None else 0):
            wave = np.sin(np.arange(1024) / (20 + k % 7)).astype(np.float32)[None] * 0.1
            block = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
            block.sample_rate, block.pts, block.time_base = 48000, first + k * 1024, Fraction(1, 48000)
            out.mux(audio.encode(block))
        if audio is not None:
            out.mux(audio.encode(None))
    return path


def film(path: Path, *, frames: int = 20, face: bool = True, codec: str = "ffv1", sound: bool = False) -> Path:
    """320×180 with the portrait moving slowly, blurred; or a plain gradient."""
    gradient = np.tile(np.linspace(20, 230, 320)[None, :, None], (180, 1, 3)).astype(np.uint8)
    return write_film(
        path,
        (portrait(shift=(0.5 * t, 0.0))[0] if face else np.roll(gradient, 3 * t, axis=1) for t in range(frames)),
        codec=codec,
        sound=sound,
    )


def decoded(path: Path | str, fmt: str = "gray") -> list[np.ndarray]:
    """The frames of a film, integers."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format=fmt).astype(int) for frame in container.decode(video=0)]


def still(path: Path, *, blur: float = 2.0, depth: int = 8, face: bool = True) -> Path:
    picture, _ = portrait(480, 360, scale=1.3, blur=blur)
    if not face:
        picture = np.ascontiguousarray(picture[:, :100])
    if depth == 16:
        picture = picture.astype(np.uint16) * 257
    assert cv2.imwrite(str(path), picture[..., ::-1])
    return path
