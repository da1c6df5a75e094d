"""Frames in GPU memory: their addresses, and copies for the host and encoders.

Such a frame is an av.VideoFrame whose format is "cuda" and whose samples are nv12 or p010le. FFmpeg has copied it out
of the decoder's own surfaces, so it may be kept for any time, and be written to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av

# Formats of frames on a GPU, with the bits of a stored sample.
FORMATS = {"nv12": 8, "p010le": 16}
# In swscale, "full range" on both sides disables range conversion: samples move, values stay.
FULL_RANGE = 2


@dataclass(frozen=True, slots=True)
class GpuPlanes:
    """Addresses of the samples of a frame on a GPU.

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
    """Checks whether the samples lie in GPU memory. Such a frame has no planes that the host can read."""
    return image.format.name == "cuda"


def native_format(image: av.VideoFrame) -> str:
    """Returns FFmpeg's name of the samples' format, on host or GPU."""
    samples = image.sw_format if on_gpu(image) else image.format
    assert samples is not None
    return samples.name


def surface_of(image: av.VideoFrame) -> GpuPlanes:
    """Returns the addresses of a frame on a GPU. Its samples are one of `FORMATS`. The addresses are valid while the
    frame is kept. Nothing is copied or waited for: the decoder has finished."""
    luma, chroma = image.planes
    return GpuPlanes(
        luma.__dlpack_device__()[1],
        luma.buffer_ptr,
        chroma.buffer_ptr,
        luma.line_size,
        chroma.line_size,
    )


def software(image: av.VideoFrame) -> av.VideoFrame:
    """Returns the frame in host memory, with times, tags and side data. A host frame is returned itself."""
    return image.reformat(format=native_format(image)) if on_gpu(image) else image


def repacked(image: av.VideoFrame, pix_fmt: str) -> av.VideoFrame:
    """Converts a host frame to another layout of the same model. No sample changes except for a lower bit depth."""
    if image.format.name == pix_fmt:
        return image
    # One thread: with more, the SIMD code of swscale (FFmpeg 8.1) writes past the end of a slice of rows into the first
    # samples of the next, seen from p010le to yuv420p10le at widths that are no multiple of 16.
    out = image.reformat(format=pix_fmt, src_color_range=FULL_RANGE, dst_color_range=FULL_RANGE, threads=1)
    out.color_range, out.colorspace = image.color_range, image.colorspace
    return out
