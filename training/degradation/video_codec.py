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


def to_rgb(frame: av.VideoFrame) -> U8:
    """The way back; chroma is brought up by linear interpolation."""
    h, w = frame.height, frame.width
    yuv = frame.to_ndarray().reshape(-1)
    y, u, v = np.split(yuv, [h * w, h * w + h * w // 4])
    y, u, v = y.reshape(h, w), u.reshape(h // 2, w // 2), v.reshape(h // 2, w // 2)
    u, v = (cv2.resize(p, (w, h), interpolation=cv2.INTER_LINEAR) for p in (u, v))
    f = [p.astype(np.float32) for p in (y, u, v)]
    y32, u32, v32 = (f[0] - 16) * np.float32(255 / 219), f[1] - 128, f[2] - 128
    out = np.empty((h, w, 3), np.float32)
    out[..., 0] = y32 + np.float32(1.402 * 255 / 224) * v32
    out[..., 1] = y32 - np.float32(0.344136 * 255 / 224) * u32 - np.float32(0.714136 * 255 / 224) * v32
    out[..., 2] = y32 + np.float32(1.772 * 255 / 224) * u32
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
