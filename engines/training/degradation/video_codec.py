"""Frames through real video codecs in memory: packets go from the encoder straight into the decoder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np

from training.crop_space import U8

_DECODER = {"libx264": "h264", "libvpx": "vp8", "mpeg4": "mpeg4", "mpeg2video": "mpeg2video", "libx265": "hevc"}


def to_yuv(image: U8) -> av.VideoFrame:
    """uint8 H×W×3 RGB (even sides) → yuv420p, BT.601, limited range."""
    return av.VideoFrame.from_ndarray(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420), np.uint8), "yuv420p")


LUMA_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
"""Weights of red and blue in luma, by matrix: ITU-R BT.601, BT.709, BT.2020 (non-constant luminance)."""


def to_rgb(frame: av.VideoFrame, matrix: str = "bt601", full: bool = False) -> U8:
    """A decoded yuv420p frame as uint8 H×W×3 RGB, by arithmetic in float32 that is rounded once.

    libswscale is not used: its default conversion darkens by about one code value a round trip.

    Args:
        frame: yuv420p or yuvj420p, even sides.
        matrix: one of `LUMA_WEIGHTS`; the default is what `to_yuv` writes.
        full: whether the samples use the full range 0..255 instead of 16..235 and 16..240.

    Raises:
        ValueError: another pixel format, matrix, or odd sides.
    """
    if frame.format.name not in ("yuv420p", "yuvj420p") or frame.width % 2 or frame.height % 2:
        raise ValueError(
            f"only 8-bit 4:2:0 frames with even sides are converted, not {frame.format.name} "
            f"{frame.width}×{frame.height}"
        )
    return planes_to_rgb(np.asarray(frame.to_ndarray(), np.uint8), matrix, full)


def planes_to_rgb(yuv: U8, matrix: str = "bt601", full: bool = False) -> U8:
    """As `to_rgb`, for the planes of a frame as PyAV's ``to_ndarray`` stacks them, uint8 1.5·H×W.

    Chroma is brought up by linear interpolation, as if it sat in the middle of its luma samples.
    """
    if matrix not in LUMA_WEIGHTS:
        raise ValueError(f"no conversion from the matrix {matrix}; there are: {', '.join(LUMA_WEIGHTS)}")
    h, w = yuv.shape[0] * 2 // 3, yuv.shape[1]
    y, u, v = np.split(yuv.reshape(-1), [h * w, h * w + h * w // 4])
    y, u, v = y.reshape(h, w), u.reshape(h // 2, w // 2), v.reshape(h // 2, w // 2)
    u, v = (cv2.resize(p, (w, h), interpolation=cv2.INTER_LINEAR) for p in (u, v))
    red, blue = LUMA_WEIGHTS[matrix]
    green = 1 - red - blue
    black, luma, chroma = (0, 1.0, 1.0) if full else (16, 255 / 219, 255 / 224)
    y32 = (y.astype(np.float32) - black) * np.float32(luma)
    u32, v32 = ((p.astype(np.float32) - 128) * np.float32(2 * chroma) for p in (u, v))
    out = np.empty((h, w, 3), np.float32)
    out[..., 0] = y32 + np.float32(1 - red) * v32
    out[..., 1] = y32 - np.float32(blue * (1 - blue) / green) * u32 - np.float32(red * (1 - red) / green) * v32
    out[..., 2] = y32 + np.float32(1 - blue) * u32
    return np.clip(np.rint(out, out=out), 0, 255, out=out).astype(np.uint8)


def through(
    images: Iterable[U8], codec: str, options: dict[str, str], fps: int = 30, bit_rate: int = 0
) -> Iterator[av.VideoFrame]:
    """Encode RGB pictures of one size with ``codec`` and yield the decoded frames in order."""
    encoder: Any = None
    decoder: Any = av.CodecContext.create(_DECODER[codec], "r")
    decoder.thread_count = 1
    for pts, image in enumerate(images):
        frame = to_yuv(image)
        frame.pts, frame.time_base = pts, Fraction(1, fps)
        if encoder is None:
            encoder = av.CodecContext.create(codec, "w")
            encoder.width, encoder.height, encoder.pix_fmt = image.shape[1], image.shape[0], "yuv420p"
            encoder.time_base, encoder.framerate = Fraction(1, fps), Fraction(fps, 1)
            encoder.thread_count = 1
            if bit_rate:
                encoder.bit_rate = bit_rate
            encoder.options = options
        for packet in encoder.encode(frame):
            yield from decoder.decode(packet)
    if encoder is not None:
        for packet in encoder.encode(None):
            yield from decoder.decode(packet)
        yield from decoder.decode(None)


def x264(crf: float, preset: str = "veryfast") -> tuple[str, dict[str, str]]:
    """Codec name and options as video calls use x264."""
    return "libx264", {"preset": preset, "tune": "zerolatency", "crf": f"{crf:.1f}"}


def x265(qp: int) -> tuple[str, dict[str, str]]:
    """Codec name and options of low-latency HEVC at a fixed quantiser, as a hardware encoder of a
    call works: no B-frames, no look-ahead, one reference."""
    options = f"qp={qp}:bframes=0:rc-lookahead=0:scenecut=0:ref=1:log-level=none:pools=1:frame-threads=1"
    return "libx265", {"preset": "veryfast", "tune": "zerolatency", "x265-params": options}


def vp8(kbit: int) -> tuple[str, dict[str, str]]:
    """Codec name and options as browsers' calls use VP8, at a fixed speed so that it repeats.

    Give ``bit_rate`` = 1000 · ``kbit`` to ``through`` as well.
    """
    return "libvpx", {"deadline": "realtime", "cpu-used": "-8", "lag-in-frames": "0", "b": f"{kbit}k"}
