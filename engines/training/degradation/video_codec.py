"""Encodes frames in memory with real video codecs, and decodes the packets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np

from rtface.concurrency.scheduling import scheduling_kept
from training.crop_space import U8

DECODERS = {"libx264": "h264", "libx265": "hevc", "libvpx": "vp8", "libvpx-vp9": "vp9", "mpeg2video": "mpeg2video",
            "mpeg4": "mpeg4", "libsvtav1": "libdav1d"}  # fmt: skip
_BT601 = 6


def to_yuv(image: U8) -> av.VideoFrame:
    """Converts uint8 H×W×3 RGB (even sides) to yuv420p, BT.601, limited range."""
    return av.VideoFrame.from_ndarray(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420), np.uint8), "yuv420p")


def packets(
    frames: Iterable[av.VideoFrame], codec: str, options: dict[str, str], fps: int, bit_rate: int = 0
) -> Iterator[Any]:
    """Encodes yuv420p frames of one size. Yields packets for a decoder, then None, which flushes the decoder."""
    encoder: Any = None
    for pts, frame in enumerate(frames):
        frame.pts, frame.time_base = pts, Fraction(1, fps)
        if encoder is None:
            encoder = av.CodecContext.create(codec, "w")
            encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuv420p"
            encoder.time_base, encoder.framerate = Fraction(1, fps), Fraction(fps, 1)
            encoder.thread_count = 1
            if bit_rate:
                encoder.bit_rate = bit_rate
            encoder.options = options
            with scheduling_kept():
                encoder.open()
        yield from encoder.encode(frame)
    if encoder is not None:
        yield from encoder.encode(None)
        yield None


def decoder_of(codec: str) -> Any:
    """Creates a single-threaded decoder for packets of the encoder ``codec``."""
    decoder: Any = av.CodecContext.create(DECODERS[codec], "r")
    decoder.thread_count = 1
    return decoder


def through(
    images: Iterable[U8], codec: str, options: dict[str, str], fps: int = 30, bit_rate: int = 0
) -> Iterator[av.VideoFrame]:
    """Encodes and decodes RGB pictures of one size. Yields frames that `ycbcr.shown` converts.

    Chroma samples are in the centre of the luma samples that share them (siting "center").
    """
    decoder = decoder_of(codec)
    for packet in packets(map(to_yuv, images), codec, options, fps, bit_rate):
        for frame in decoder.decode(packet):
            frame.colorspace = _BT601
            yield frame


def x264(crf: float, preset: str = "veryfast") -> tuple[str, dict[str, str]]:
    """Returns codec name and options of x264 for simulated video calls."""
    return "libx264", {"preset": preset, "tune": "zerolatency", "crf": f"{crf:.1f}"}


def x265(qp: int) -> tuple[str, dict[str, str]]:
    """Returns codec name and options for low-latency HEVC. The options imitate hardware encoders in calls: fixed
    quantiser, no B-frames, no look-ahead, one reference frame."""
    options = f"qp={qp}:bframes=0:rc-lookahead=0:scenecut=0:ref=1:log-level=none:pools=1:frame-threads=1"
    return "libx265", {"preset": "veryfast", "tune": "zerolatency", "x265-params": options}


def vp8(kbit: int) -> tuple[str, dict[str, str]]:
    """Returns codec name and reproducible options for VP8 as in browser calls.

    ``through`` also needs ``bit_rate`` = 1000 · ``kbit``.
    """
    return "libvpx", {"deadline": "realtime", "cpu-used": "-8", "lag-in-frames": "0", "b": f"{kbit}k"}
