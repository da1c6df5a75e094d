"""Encodes films and stills at their original size, by named levels.

A level is named ``CODING/QUALITY``, such as ``h264/27``, ``vp8/200k`` or ``jpeg/70``; `LEVELS` lists the codings.
Before encoding, sensor noise is added. Its σ depends on the quality (`NOISE`), unless the name contains a σ in code
values, as in ``h264/27+n0``.

    data = io.BytesIO()
    coded_film(frames, level("h264/27"), data)      # or a path
    seen = decoded(data, level("h264/27").siting)
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import cv2
import numpy as np

from training.crop_space import U8
from training.degradation import single_image
from training.degradation.ycbcr import from_rgb, shown

FPS = 25
NOISE = {18: 0, 20: 0, 22: 1, 27: 2, 31: 3, 34: 2, 36: 3, 37: 3}
"""crf of H.264 → σ of the noise in code values. For any other crf, the next lower entry is used."""
_LIMITED, _BT601 = 1, 6


@dataclass(frozen=True)
class Level:
    """How a film or still is encoded.

    Attributes:
        name: name of the level, see `level`.
        encoder: FFmpeg encoder; "jpeg" for stills.
        options: options of the encoder.
        suffix: file suffix, which selects the container.
        pixels: pixel format of the encoded frames.
        sigma: σ of the noise added before encoding, in code values.
        bit_rate: bits per second; 0: encodes with constant quality.
        quality: JPEG quality of stills.
        first: another level with which frames are encoded and decoded before; None: only this level.
        reduced: factor by which frames are reduced (by area) before `first`, and enlarged (cubic) afterwards.
    """

    name: str
    encoder: str
    options: dict[str, str] = field(default_factory=dict[str, str])
    suffix: str = ".mp4"
    pixels: str = "yuv420p"
    sigma: float = 0.0
    bit_rate: int = 0
    quality: int = 0
    first: Level | None = None
    reduced: int = 1

    @property
    def still(self) -> bool:
        """True if the level encodes single pictures."""
        return self.encoder == "jpeg"

    @property
    def siting(self) -> str:
        """Usual chroma siting of the coding: "left" or "center"."""
        return "center" if self.encoder in ("libvpx", "jpeg") else "left"


def noise_of(crf: float) -> float:
    """Returns the σ of the noise for a crf of H.264."""
    return float(NOISE[max((q for q in NOISE if q <= crf), default=18)])


# --- levels ---


_RATED: dict[str, tuple[str, dict[str, str], str]] = {
    "h264": ("libx264", {"preset": "veryfast"}, ".mp4"),
    "h264-call": ("libx264", {"preset": "veryfast", "tune": "zerolatency"}, ".mp4"),
    "hevc": ("libx265", {"preset": "veryfast", "x265-params": "log-level=none:pools=1:frame-threads=1"}, ".mp4"),
    "vp8": ("libvpx", {"deadline": "realtime", "cpu-used": "-8", "lag-in-frames": "0"}, ".webm"),
}
"""Coding → encoder, its options, and file suffix."""


def _rated_level(name: str, quality: str) -> Level:
    """Builds a level from a crf (27) or a bit rate (300k)."""
    encoder, options, suffix = _RATED[name.partition("/")[0]]
    if not quality.endswith("k"):
        sigma = noise_of(float(quality)) if encoder != "libvpx" else 3.0
        return Level(name, encoder, options | {"crf": f"{float(quality):g}"}, suffix, sigma=sigma)
    limits = {"maxrate": quality, "bufsize": quality} if encoder == "libx264" else {}
    return Level(name, encoder, options | limits, suffix, sigma=3.0, bit_rate=1000 * int(quality[:-1]))


def _mpeg2_level(name: str, quality: str) -> Level:
    options = {"qmin": f"{int(quality)}", "qmax": f"{int(quality)}"}
    return Level(name, "mpeg2video", options, ".ts", sigma=1.0 if int(quality) < 10 else 2.0)


def _twice_level(name: str, quality: str) -> Level:
    first, second = quality.split("-")
    return replace(level(f"h264/{second}+n0"), name=name, first=level(f"h264/{first}"))


def _call_builder(crf: str, sigma: float) -> Callable[[str, str], Level]:
    def make(name: str, quality: str) -> Level:
        small = replace(level(f"h264-call/{crf}"), sigma=sigma)
        return replace(_clean_level(name, "0"), pixels="yuv444p", first=small, reduced=int(quality))

    return make


def _jpeg_level(name: str, quality: str) -> Level:
    return Level(name, "jpeg", suffix=".jpg", quality=int(quality))


def _clean_level(name: str, quality: str) -> Level:
    return Level(name, "ffv1", {"level": "3", "g": "1"}, ".mkv", sigma=float(quality))


LEVELS: dict[str, tuple[Callable[[str, str], Level], str]] = {
    "h264": (_rated_level, "crf, or bit rate such as 300k: libx264 veryfast"),
    "h264-call": (_rated_level, "the same: libx264 veryfast zerolatency, as in calls"),
    "hevc": (_rated_level, "crf or bit rate: libx265 veryfast"),
    "vp8": (_rated_level, "bit rate: libvpx realtime"),
    "mpeg2": (_mpeg2_level, "quantiser scale 1 to 31"),
    "twice": (_twice_level, "two crf: 27-23 is h264/27, decoded and encoded again as h264/23"),
    "call": (_call_builder("31", 3.0), "reduction factor: call/2 is a call at half the size, enlarged"),
    "heavy": (_call_builder("33", 6.0), "reduction factor: the same with more noise and fewer bits"),
    "jpeg": (_jpeg_level, "quality 1 to 100: a still"),
    "clean": (_clean_level, "σ of noise in code values: FFV1, lossless"),
}
"""Coding → builder of the levels, and description of the quality."""


def level(name: str) -> Level:
    """Parses the name of a level.

    Raises:
        ValueError: the level does not exist. The message lists the codings.
    """
    match = re.fullmatch(r"([a-z0-9-]+)/([\w.-]+)(?:\+n(\d+(?:\.\d+)?))?", name)
    coding = match[1] if match else ""
    if not match or coding not in LEVELS:
        raise ValueError(
            f"no such level: {name}; a level is CODING/QUALITY with one of these codings: "
            + "; ".join(f"{n} ({text})" for n, (_, text) in LEVELS.items())
        )
    build, text = LEVELS[coding]
    try:
        parsed = build(name, match[2])
    except (KeyError, ValueError):
        raise ValueError(f"no such level: {name}; the quality of {coding} is: {text}") from None
    return replace(parsed, sigma=float(match[3])) if match[3] else parsed


# --- writing and reading ---


def coded_film(frames: Iterable[U8], how: Level, target: Path | IO[bytes], seed: int | Sequence[int] = 0) -> None:
    """Adds noise to frames, encodes them and writes a film or still.

    Args:
        frames: frames of one size, uint8 H×W×3 RGB. Sides must be even.
        target: path, or file object, which is rewound at the end.
        seed: seed of the noise.
    """
    rng = np.random.default_rng(seed)
    if how.first:
        frames = list(frames)
        height, width = frames[0].shape[:2]
        frames = coded_frames(_resize(frames, (width // how.reduced, height // how.reduced)), how.first, seed)
        frames = _resize(frames, (width, height))
    noisy = (single_image.noise(f, how.sigma, rng, 0, 0.3) for f in frames)
    if how.still:
        data = _encode_jpeg(next(noisy), how)
        _ = target.write_bytes(data) if isinstance(target, Path) else target.write(data)
    else:
        _write(noisy, how, target)
    if not isinstance(target, Path):
        target.seek(0)


def _resize(frames: Iterable[U8], size: tuple[int, int]) -> list[U8]:
    """Resizes frames. Reduces by area, and enlarges by cubic interpolation."""
    out: list[U8] = []
    for frame in frames:
        mode = cv2.INTER_AREA if size[0] < frame.shape[1] else cv2.INTER_CUBIC
        out.append(
            np.asarray(frame if size == frame.shape[1::-1] else cv2.resize(frame, size, interpolation=mode), np.uint8)
        )
    return out


def coded_frames(frames: Iterable[U8], how: Level, seed: int | Sequence[int] = 0) -> list[U8]:
    """Encodes and decodes frames in memory, uint8 H×W×3 RGB."""
    data = io.BytesIO()
    coded_film(frames, how, data, seed)
    return list(decoded(data, how.siting))


def _encode_jpeg(image: U8, how: Level) -> bytes:
    flags = [cv2.IMWRITE_JPEG_QUALITY, how.quality]
    return cv2.imencode(how.suffix, np.ascontiguousarray(image[:, :, ::-1]), flags)[1].tobytes()


_MUXERS = {".mp4": "mp4", ".webm": "webm", ".mkv": "matroska", ".ts": "mpegts"}


def _write(frames: Iterable[U8], how: Level, target: Path | IO[bytes]) -> None:
    with av.open(str(target) if isinstance(target, Path) else target, "w", format=_MUXERS[how.suffix]) as film:
        stream: Any = None
        for number, image in enumerate(frames):
            height, width = image.shape[:2]
            if stream is None:
                stream = film.add_stream(how.encoder, FPS, options=dict(how.options))
                stream.width, stream.height, stream.pix_fmt = width, height, how.pixels
                context = stream.codec_context
                context.thread_count, context.time_base = 1, Fraction(1, FPS)
                context.color_range, context.colorspace = _LIMITED, _BT601
                if how.bit_rate:
                    context.bit_rate = how.bit_rate
            frame = from_rgb(image, how.pixels, how.siting)
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            film.mux(stream.encode(frame))
        if stream is not None:
            film.mux(stream.encode(None))


def decoded(source: Path | IO[bytes], siting: str = "left") -> Iterator[U8]:
    """Decodes a film or still to uint8 H×W×3 RGB by colour tags. ``siting``: position of the chroma samples, see
    `Level.siting`."""
    with av.open(str(source) if isinstance(source, Path) else source) as film:
        film.streams.video[0].thread_count = 1
        for frame in film.decode(video=0):
            yield shown(frame, siting)
