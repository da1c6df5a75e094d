"""Frames in the memory of a GPU: where their samples lie, and how they go to the host and to an encoder.

Such a frame is an av.VideoFrame whose format is "cuda" and whose samples are nv12 or p010le. FFmpeg has copied it out
of the decoder's own surfaces, so it may be kept as long as anybody likes, and be written to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av

# Formats that frames have on a GPU, with the bits of a stored sample.
FORMATS = {"nv12": 8, "p010le": 16}
# In swscale, saying "full range" of both sides switches every range conversion off: samples move, values stay.
FULL_RANGE = 2


@dataclass(frozen=True, slots=True)
class GpuPlanes:
    """Where the samples of a frame on a GPU lie.

    Attributes:
        device: number of the CUDA device.
        luma, chroma: device addresses; chroma holds Cb and Cr in turn, half as many rows.
        luma_pitch, chroma_pitch: bytes from one row to the next.
    """

    device: int
    luma: int
    chroma: int
    luma_pitch: int
    chroma_pitch: int


def on_gpu(image: av.VideoFrame) -> bool:
    """True if the samples lie in a GPU's memory; such a frame has no planes that the host could read."""
    return image.format.name == "cuda"


def native_format(image: av.VideoFrame) -> str:
    """FFmpeg's name of the samples' format, wherever they lie."""
    held = image.sw_format if on_gpu(image) else image.format
    assert held is not None
    return held.name


def surface_of(image: av.VideoFrame) -> GpuPlanes:
    """Where a frame on a GPU lies, one of `FORMATS`; valid as long as the frame is kept. Nothing is copied and nothing
    waited for: the decoder's work has ended."""
    luma, chroma = image.planes
    return GpuPlanes(
        luma.__dlpack_device__()[1],
        luma.buffer_ptr,
        chroma.buffer_ptr,
        luma.line_size,
        chroma.line_size,
    )


def software(image: av.VideoFrame) -> av.VideoFrame:
    """The frame in memory of the host, with its times, tags and side data; the same object where it is there."""
    return image.reformat(format=native_format(image)) if on_gpu(image) else image


def repacked(image: av.VideoFrame, pix_fmt: str) -> av.VideoFrame:
    """A frame of the host in another layout of the same model; no sample changes but for a lower bit depth."""
    if image.format.name == pix_fmt:
        return image
    # One thread: with more, the SIMD code of swscale (FFmpeg 8.1) writes past the end of a slice of rows into the first
    # samples of the next, seen from p010le to yuv420p10le at widths that are no multiple of 16.
    out = image.reformat(format=pix_fmt, src_color_range=FULL_RANGE, dst_color_range=FULL_RANGE, threads=1)
    out.color_range, out.colorspace = image.color_range, image.colorspace
    return out
